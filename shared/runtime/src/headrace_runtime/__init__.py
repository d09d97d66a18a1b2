"""Platform mechanics shared by every Headrace service."""
