"""What runs ask of the system: reading and writing at a byte, and how much memory a process has."""
