"""Training and model preparation, each in a child process of its own: only the children load torch."""
