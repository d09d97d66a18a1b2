"""The cost of a training run: Headrace's beside a plain PyTorch loop on the same rows."""
