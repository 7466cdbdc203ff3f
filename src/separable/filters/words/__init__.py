"""Plans in words: as they print, and why they run as they do."""
