"""The cost of a record: JSON to raw batches, exactly once."""
