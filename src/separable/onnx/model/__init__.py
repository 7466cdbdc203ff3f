"""ONNX models: files, graphs, sizes, and running them."""
