"""What leaves the database for other programs: data sets, models, answers."""
