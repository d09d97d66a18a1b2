"""What inference uses of the outside: ONNX Runtime, graphs on the local disk, metrics."""
