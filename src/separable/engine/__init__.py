"""Whole networks: read, rewritten by passes, and run as one native program."""
