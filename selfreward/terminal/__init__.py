"""What people look at in a terminal: where a run stands, its runs, its rows, what is installed."""
