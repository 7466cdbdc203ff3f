"""What is computed of lengths, noted as it is computed, so that it can be done again for others."""
