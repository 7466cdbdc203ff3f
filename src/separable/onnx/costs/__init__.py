"""What a model costs: its operations counted by ONNX's definitions of them."""
