"""Seed data: what ships, and the reader for a user's own."""

from selfreward.seeds.canaries import shipped_canaries, with_canaries
from selfreward.seeds.reader import SeedReading, read_seeds
from selfreward.seeds.verdicts import with_verdicts

__all__ = ["SeedReading", "read_seeds", "shipped_canaries", "with_canaries", "with_verdicts"]
