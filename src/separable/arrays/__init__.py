"""What comes in and goes out: arguments, boundaries, masks, how results are stored, whole numbers."""
