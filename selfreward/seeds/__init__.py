"""Seed data: the instructions that ship, and the reader for a user's own."""

from selfreward.seeds.reader import SeedReading, read_seeds

__all__ = ["SeedReading", "read_seeds"]
