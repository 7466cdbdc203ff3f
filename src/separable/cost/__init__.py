"""Predicted times of filters on this machine: counts times rates."""
