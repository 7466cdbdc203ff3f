"""Benchmarks against SciPy, OpenCV, SimpleITK, torch, ONNX Runtime and OpenVINO: ``python -m benchmarks``.

One command measures every figure the project promises, writes it to ``results/`` and renders
``RESULTS.md`` from that file. See ``python -m benchmarks --help``.
"""
