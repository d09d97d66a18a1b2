"""What preprocessing decides: pure functions of rows and counts."""
