"""One process of a service: how its components start and stop, its memory, and its pipes to a child."""
