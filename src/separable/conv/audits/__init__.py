"""What a model costs, layer by layer: the records of a count, and how separable its layers are."""
