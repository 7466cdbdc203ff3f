"""OME-Zarr pictures: their axes, their levels, and how these are made while slabs are in memory."""
