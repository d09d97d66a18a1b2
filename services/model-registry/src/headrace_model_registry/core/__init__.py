"""The catalogue and its policy, free of any transport."""
