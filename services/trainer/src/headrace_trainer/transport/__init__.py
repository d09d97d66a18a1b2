"""Commands in, facts out."""
