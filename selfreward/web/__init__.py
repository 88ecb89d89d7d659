"""The pages: what a run holds, to be looked at in a browser. They read; only control requests are written."""
