"""Serving gRPC: calls, health, reflection, errors, telemetry and TLS of every service."""
