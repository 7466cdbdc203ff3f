"""The exercises: one module each, with statement, starting code, check, hint and solution."""
