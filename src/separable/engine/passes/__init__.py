"""Passes: each a function from graph to graph that does not change what the network means."""
