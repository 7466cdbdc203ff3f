"""Algorithms that factor a kernel into a sum of outer products."""
