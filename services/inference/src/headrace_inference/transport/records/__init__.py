"""Records as producers send them: read as ingestion reads them, and answered as calls are."""
