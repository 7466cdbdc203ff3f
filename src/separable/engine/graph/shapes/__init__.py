"""Types of outputs from types of inputs, one function an operation."""
