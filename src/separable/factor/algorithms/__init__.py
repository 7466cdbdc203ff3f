"""Ways to write a kernel as a sum of outer products."""
