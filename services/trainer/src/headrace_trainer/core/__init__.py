"""How a version is trained: no transport here."""
