"""Counting torch models."""
