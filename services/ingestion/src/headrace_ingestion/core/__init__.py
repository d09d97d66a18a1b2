"""What ingestion decides: pure functions of records."""
