"""Times of whole networks: taken in turn, and kept as records."""
