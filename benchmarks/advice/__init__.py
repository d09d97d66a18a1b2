"""How near advice comes to a search."""
