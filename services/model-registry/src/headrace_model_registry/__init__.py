"""Catalogue, lineage, gates, policy and aliases over one append-only log."""
