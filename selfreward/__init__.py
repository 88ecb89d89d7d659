"""selfreward: Self-Rewarding Language Models (arXiv 2401.10020) as a long-running daemon."""

__version__ = "0.1.0"
