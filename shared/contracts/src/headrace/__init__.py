"""Generated protobuf and gRPC contracts of Headrace."""
