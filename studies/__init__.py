"""What is claimed of separable convolution, measured: ``python -m studies``, or ``make studies``."""
