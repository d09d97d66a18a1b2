"""Checks every record against its pipeline's schema and batches it."""
