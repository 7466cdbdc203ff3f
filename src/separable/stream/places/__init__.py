"""Where arrays lie that are read and written in parts: arrays of any library, flat files, zarr, HDF5."""
