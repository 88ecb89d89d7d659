"""The store: every table, every query. Frozen rows go in and out; nobody outside sees a connection."""

from selfreward.store.store import Store

__all__ = ["Store"]
