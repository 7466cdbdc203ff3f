"""The graph of a network: what it is, how it is read, and what it means."""
