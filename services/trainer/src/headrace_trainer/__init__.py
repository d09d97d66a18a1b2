"""Trains a model from a frozen dataset."""
