"""Networks as callers run them: what they are given, a plan for each shape of it, and what these cost."""
