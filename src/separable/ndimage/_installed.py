"""`installed`: these functions in place of SciPy's, in code that is already written."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from .._base.extras import extra
from . import _derivatives, _kernels
from . import _smoothers as _smoothing

_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    function.__name__: function
    for function in (
        _kernels.convolve,
        _kernels.convolve1d,
        _kernels.correlate,
        _kernels.correlate1d,
        _smoothing.gaussian_filter,
        _smoothing.gaussian_filter1d,
        _smoothing.uniform_filter,
        _smoothing.uniform_filter1d,
        _derivatives.gaussian_gradient_magnitude,
        _derivatives.gaussian_laplace,
        _derivatives.generic_gradient_magnitude,
        _derivatives.generic_laplace,
        _derivatives.laplace,
        _derivatives.prewitt,
        _derivatives.sobel,
    )
}
# Functions that take callables, which must not be called twice.
_CALLING_BACK: Final = {"generic_gradient_magnitude", "generic_laplace"}

_PLAIN: Final = (np.ndarray, np.generic, type)  # a scalar type has `__array__` too, but is an `output`


class _Installation:
    """The present replacements; one per process, as modules are."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.users = 0
        self.pairs: list[tuple[Any, Any]] = []  # SciPy's function and its replacement
        self.changed: list[dict[str, Any]] = []  # namespaces, including those of modules unloaded since

    def enter(self) -> None:
        with self.lock:
            if self.users == 0:
                with extra("ndimage"):
                    import scipy.ndimage
                for name, function in _FUNCTIONS.items():
                    original = getattr(scipy.ndimage, name)
                    self.pairs.append((original, _in_place_of(original, function)))
                self.changed = _exchange(_namespaces(), self.pairs)
            self.users += 1

    def leave(self) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0:
                # Modules imported since then hold the replacements.
                back = [(stand_in, original) for original, stand_in in self.pairs]
                _exchange([*self.changed, *_namespaces()], back)
                self.pairs, self.changed = [], []


def _namespaces() -> list[dict[str, Any]]:
    """Return the globals of all loaded modules, but for those in which SciPy's functions call each other."""
    namespaces = [getattr(module, "__dict__", None) for module in list(sys.modules.values())]
    return [
        names
        for names in namespaces
        if isinstance(names, dict) and not str(names.get("__name__")).startswith("scipy.ndimage.")
    ]


def _exchange(namespaces: list[dict[str, Any]], pairs: list[tuple[Any, Any]]) -> list[dict[str, Any]]:
    """Put the second of each pair wherever the first is; return the namespaces that changed."""
    # By identity: not everything that a module holds can be hashed or compared.
    second = {id(old): (old, new) for old, new in pairs}
    changed = []
    for names in namespaces:
        for name, value in list(names.items()):
            old, new = second.get(id(value), (None, None))
            if old is not None and value is old:
                names[name] = new
                changed.append(names)
    return changed


_INSTALLATION: Final = _Installation()


@contextmanager
def installed() -> Iterator[None]:
    """Make code that calls `scipy.ndimage` call the functions of this module instead.

    Inside the block the linear filters of `scipy.ndimage` are replaced, in `scipy.ndimage` itself and in
    every loaded module that holds one of them as a global (after ``from scipy.ndimage import sobel``). On
    exit everything is as it was. Also a decorator: ``@installed()``.

    The replacement holds for the whole process, all threads included, from the first block that is
    entered to the last that is left; blocks nest, and may overlap in several threads. A call with
    arguments that are not taken here (arrays of other libraries, masked arrays, keywords unknown here,
    wrong ones) goes to SciPy's function, which runs as before.

    Yields
    ------
    None

    Raises
    ------
    MissingExtraError
        SciPy is not installed.

    Notes
    -----
    Reached are module globals. A function that was stored elsewhere before the block (a default argument,
    `functools.partial`, an attribute of an object) stays SciPy's; one stored there inside the block stays
    this module's.

    Examples
    --------
    >>> import numpy as np, scipy.ndimage, separable.ndimage
    >>> original = scipy.ndimage.sobel
    >>> with separable.ndimage.installed():
    ...     scipy.ndimage.sobel(np.array([[0.0, 1.0, 4.0], [0.0, 1.0, 4.0]]))
    array([[ 4., 16., 12.],
           [ 4., 16., 12.]])
    >>> scipy.ndimage.sobel is original
    True
    """
    _INSTALLATION.enter()
    try:
        yield
    finally:
        _INSTALLATION.leave()


def _in_place_of(original: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a replacement of SciPy's function: ours where it takes the arguments."""
    signature = inspect.signature(function)

    @functools.wraps(original)
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        if not all(map(_is_plain, (*args, *kwargs.values()))):
            return original(*args, **kwargs)
        if function.__name__ in _CALLING_BACK:
            try:
                signature.bind(*args, **kwargs)
            except TypeError:
                return original(*args, **kwargs)
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except (TypeError, ValueError, RuntimeError):
            return original(
                *args, **kwargs
            )  # SciPy may accept the arguments, or raises what its callers expect

    return stand_in


def _is_plain(value: object) -> bool:
    """Tell whether an argument is no array of another library (which SciPy may hand on to that library)."""
    if isinstance(value, np.ma.MaskedArray):
        return False
    return isinstance(value, _PLAIN) or not hasattr(value, "__array__")
