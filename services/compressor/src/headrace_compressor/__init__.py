"""Turns one model version into a measured set of variants."""
