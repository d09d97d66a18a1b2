"""Poison messages, on which processes die: finding them, trying them apart, setting them aside."""
