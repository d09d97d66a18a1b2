"""What Headrace adds to an engine for models of language: time, memory, and who waits for whom."""
