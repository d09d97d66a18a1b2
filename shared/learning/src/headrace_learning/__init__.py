"""Model builders, ONNX export and evaluation."""
