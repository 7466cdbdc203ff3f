"""Chunks of arrays of zarr in a folder: decoded and encoded one by one, by threads of ours."""
