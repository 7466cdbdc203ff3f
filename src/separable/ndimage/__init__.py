"""SciPy's linear filters, with SciPy's signatures, run by this package: `import separable.ndimage as ndi`.

Every function here takes what its namesake in `scipy.ndimage` takes and returns what that returns, but
for the differences that docs/ndimage.md lists. No algorithm lives here: the functions bring SciPy's arguments
to the verbs of this package. `installed` puts them in SciPy's place in code that already exists.
"""

from __future__ import annotations

from typing import NoReturn

from ._derivatives import (
    gaussian_gradient_magnitude,
    gaussian_laplace,
    generic_gradient_magnitude,
    generic_laplace,
    laplace,
    prewitt,
    sobel,
)
from ._installed import installed
from ._kernels import convolve, convolve1d, correlate, correlate1d
from ._smoothers import gaussian_filter, gaussian_filter1d, uniform_filter, uniform_filter1d

__all__ = [
    "convolve",
    "convolve1d",
    "correlate",
    "correlate1d",
    "gaussian_filter",
    "gaussian_filter1d",
    "gaussian_gradient_magnitude",
    "gaussian_laplace",
    "generic_gradient_magnitude",
    "generic_laplace",
    "installed",
    "laplace",
    "prewitt",
    "sobel",
    "uniform_filter",
    "uniform_filter1d",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> NoReturn:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .._base.words.messages import close_to  # only an error needs it

    close = close_to(name, __all__, least=0.85)  # median_filter looks like gaussian_filter
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}: here are SciPy's linear filters alone."
        + (f" Did you mean {close!r}?" if close else "")
    )
