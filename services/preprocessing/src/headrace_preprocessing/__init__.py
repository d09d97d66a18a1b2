"""Cleans record batches, splits them and freezes datasets."""
