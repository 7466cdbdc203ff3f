"""What filters cost on this machine: counts times rates."""
