"""Programs: how tensors lie in memory, which native steps make them, and what a caller runs."""
