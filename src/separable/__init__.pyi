from . import conv as conv
from . import dask as dask
from . import engine as engine
from . import families as families
from . import ndimage as ndimage
from . import nn as nn
from . import onnx as onnx
from . import stream as stream
from ._base.caches import clear_caches as clear_caches
from ._base.errors import EffortWarning as EffortWarning
from ._base.errors import NotSeparableError as NotSeparableError
from .factor import factor as factor
from .factor import is_separable as is_separable
from .filters.bank import Bank as Bank
from .filters.plan import Plan as Plan
from .filters.plan import core_info as core_info
from .filters.plan import plan as plan
from .filters.verbs import convolve as convolve
from .filters.verbs import correlate as correlate
from .filters.verbs import gaussian as gaussian
from .filters.verbs import uniform as uniform
from .kernel import ErrorBounds as ErrorBounds
from .kernel import KernelError as KernelError
from .kernel import SeparableKernel as SeparableKernel

__version__: str
