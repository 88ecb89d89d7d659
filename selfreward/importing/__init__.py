"""Preferences of people, or of other models: files of several formats, read and stored beside a run's own."""
