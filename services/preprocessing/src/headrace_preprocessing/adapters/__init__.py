"""The outside things that preprocessing uses."""
