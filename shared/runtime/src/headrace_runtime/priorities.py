"""Priorities of calls that wait, as Triton counts them."""

FIRST, NORMAL, LAST = 1, 3, 5
"""The most urgent one, that of calls that say nothing, and the least urgent one."""
