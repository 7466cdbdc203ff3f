"""The fused layer, which the compiled core runs."""
