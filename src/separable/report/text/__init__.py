"""Plain text and tables for the terminal."""
