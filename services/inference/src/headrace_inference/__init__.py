"""Serves released models over the Open Inference Protocol."""
