"""The stages of an iteration, one file each. `pump.py` is the mechanism that three of them share."""
