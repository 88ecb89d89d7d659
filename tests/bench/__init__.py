"""Benchmarks: figures measured on this machine, against the ones that are wanted. `python -m tests.bench`."""
