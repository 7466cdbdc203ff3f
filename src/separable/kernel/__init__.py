"""Separable kernels: a sum of outer products of taps, its error bounds, its passes."""

from .bounds import ErrorBounds as ErrorBounds
from .bounds import KernelError as KernelError
from .value import SeparableKernel as SeparableKernel
from .value import Term as Term
from .value import _restore as _restore  # pickles name it
