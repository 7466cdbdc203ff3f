"""What an ONNX model loses over milliseconds."""
