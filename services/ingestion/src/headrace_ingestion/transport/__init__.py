"""Kafka and gRPC on one side, the core on the other."""
