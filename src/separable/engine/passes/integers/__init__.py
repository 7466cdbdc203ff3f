"""Passes of networks in 8 bits."""
