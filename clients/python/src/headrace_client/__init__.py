"""A light Headrace client and the headrace command."""
