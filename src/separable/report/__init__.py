"""What is shown to people: terminal tables and pictures."""
