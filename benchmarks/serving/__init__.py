"""The cost of a prediction: inference beside the least that a Python gRPC server with ONNX Runtime can do."""
