"""Converting torch models."""
