"""What methods share or consist of: recursions, differences, sequences, blocks, searches."""
