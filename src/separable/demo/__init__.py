"""``separable demo``: pictures and volumes filtered, and a network converted, beside what people use today.

The data come with scikit-image and nibabel, and the network with this package; nothing is downloaded.
"""
