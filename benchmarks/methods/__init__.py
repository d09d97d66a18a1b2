"""What each method of compression makes of some versions: how near its answers are, how large and how fast it is."""
