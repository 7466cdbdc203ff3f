"""Converting ONNX models."""
