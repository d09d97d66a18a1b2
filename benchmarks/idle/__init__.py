"""What a platform costs while nothing happens, and how fast it is when something does."""
