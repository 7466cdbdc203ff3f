"""Filters: asked for, checked, chosen, run."""
