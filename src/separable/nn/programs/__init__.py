"""Torch models as programs of the engine."""
