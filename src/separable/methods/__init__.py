"""The ways to run a kernel, one module each."""
