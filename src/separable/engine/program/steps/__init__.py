"""Native steps of each kind of operation."""
