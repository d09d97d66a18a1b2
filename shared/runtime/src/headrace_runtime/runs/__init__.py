"""Runs of hours: a worker takes a command, a child process carries it out, and one fact reports it."""
