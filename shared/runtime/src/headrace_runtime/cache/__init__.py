"""The cache in Redis or Valkey, which may be lost at any moment."""
