"""The value this package is about: a kernel as a sum of outer products, its error, its passes."""

from .bounds import ErrorBounds as ErrorBounds
from .bounds import KernelError as KernelError
from .value import SeparableKernel as SeparableKernel
from .value import Term as Term
from .value import _restore as _restore  # pickles name it
