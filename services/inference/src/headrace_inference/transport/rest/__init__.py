"""The Open Inference Protocol's REST, on a port of its own, over the same plane as gRPC."""
