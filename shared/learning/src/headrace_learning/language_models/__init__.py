"""Models of language that write: read from files of others, learned on, and written as GGUF."""
