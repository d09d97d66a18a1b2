"""The pipeline spec, record checks, cleaning, splitting and frozen datasets."""
