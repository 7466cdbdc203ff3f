"""Counting ONNX models."""
