"""The outside things that ingestion uses."""
