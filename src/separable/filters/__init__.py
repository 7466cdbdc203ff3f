"""Filters: requests checked, methods chosen, plans run and cached."""
