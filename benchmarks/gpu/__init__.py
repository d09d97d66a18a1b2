"""Training on a GPU beside the CPU, and serving what came of it."""
