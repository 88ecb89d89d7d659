"""What was measured of every checkpoint: gathered, shown, and written as Markdown and plots."""
