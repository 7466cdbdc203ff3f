"""What verbs give to networks: arrays, pictures, what nobody gave, and how results are scored."""
