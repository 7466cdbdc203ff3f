"""Shared foundations: errors, words and numbers in messages, caches, atomic writes, foreign arrays."""
