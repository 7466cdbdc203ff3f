"""Words of error messages: shortened values, and suggestions for unknown names."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

# Boundary modes of NumPy, scikit-image, PyTorch, OpenCV, scipy.signal, MATLAB, TensorFlow -> ours. The
# "reflect" of NumPy and PyTorch, which does not repeat the last sample, is "mirror" here: a name cannot tell.
_MODES: Final = {
    "symmetric": "reflect",
    "symm": "reflect",
    "border_reflect": "reflect",
    "half-sample": "reflect",
    "edge": "nearest",
    "replicate": "nearest",
    "border": "nearest",
    "border_replicate": "nearest",
    "clamp": "nearest",
    "extend": "nearest",
    "reflect101": "mirror",
    "reflect_101": "mirror",
    "reflect-101": "mirror",
    "border_reflect101": "mirror",
    "border_reflect_101": "mirror",
    "border_default": "mirror",
    "reflection": "mirror",
    "whole-sample": "mirror",
    "zero": "constant",
    "zeros": "constant",
    "zero_padding": "constant",
    "same": "constant",
    "fill": "constant",
    "pad": "constant",
    "border_constant": "constant",
    "circular": "wrap",
    "circ": "wrap",
    "periodic": "wrap",
    "border_wrap": "wrap",
}

# Keywords of other libraries -> those of the filters, the first that a function has.
_KEYWORDS: Final = {
    "out": ("output",),
    "dst": ("output",),
    "dtype": ("output",),
    "boundary": ("mode",),
    "border": ("mode",),
    "borderType": ("mode",),
    "border_mode": ("mode",),
    "padding": ("mode",),
    "padding_mode": ("mode",),
    "pad_mode": ("mode",),
    "fillvalue": ("cval",),
    "fill_value": ("cval",),
    "constant_values": ("cval",),
    "value": ("cval",),
    "axis": ("axes",),
    "dim": ("axes", "axis"),
    "kernel": ("kernel_or_weights", "weights"),
    "weights": ("kernel_or_weights",),
    "filter": ("kernel_or_weights", "weights"),
    "kernel_or_weights": ("weights",),
    "kernel_size": ("size", "radius"),
    "ksize": ("size", "radius"),
    "std": ("sigma",),
    "sigmas": ("sigma",),
    "sampling": ("spacing",),
    "voxel_size": ("spacing",),
    "pixel_size": ("spacing",),
    "zooms": ("spacing",),
    "anchor": ("origin",),
    "rtol": ("tol",),
    "tolerance": ("tol",),
    "workers": ("threads",),
    "n_jobs": ("threads",),
    "num_threads": ("threads",),
    "where": ("mask",),
    "input": ("x",),
    "image": ("x", "input"),
    "x": ("input",),
}

# Functions of other libraries -> what does that here.
_FUNCTIONS: Final = {
    "gaussian_filter": "separable.gaussian, or separable.ndimage.gaussian_filter with SciPy's arguments",
    "gaussian_blur": "separable.gaussian",
    "GaussianBlur": "separable.gaussian",
    "uniform_filter": "separable.uniform, or separable.ndimage.uniform_filter with SciPy's arguments",
    "box_filter": "separable.uniform",
    "boxFilter": "separable.uniform",
    "blur": "separable.uniform",
    "mean_filter": "separable.uniform",
    "filter2D": "separable.correlate",
    "sepFilter2D": "separable.correlate, with a separable.SeparableKernel([[taps0, taps1]])",
    "sepfir2d": "separable.correlate, with a separable.SeparableKernel([[taps0, taps1]])",
    "conv2d": "separable.correlate, or separable.nn for layers",
    "conv3d": "separable.correlate, or separable.nn for layers",
    "convolve2d": "separable.convolve (SciPy's boundary='fill' is mode='constant' here)",
    "correlate2d": "separable.correlate (SciPy's boundary='fill' is mode='constant' here)",
    "fftconvolve": "separable.convolve, which takes transforms where they are faster",
    "oaconvolve": "separable.convolve, which takes transforms where they are faster",
    "separate": "separable.nn.separate or separable.onnx.separate for networks, separable.factor for kernels",
    "audit": "separable.nn.audit or separable.onnx.audit",
    "decompose": "separable.factor, or separable.conv.decompose for layers",
}


class _Short(reprlib.Repr):
    """Values as they were typed, but for what is longer than a line."""

    def __init__(self) -> None:
        super().__init__()
        self.maxtuple = self.maxlist = self.maxset = self.maxfrozenset = self.maxdict = 8
        self.maxstring = self.maxother = 80
        self.maxlong = 40
        self.maxlevel = 3

    def repr_ndarray(self, array: Any, level: int) -> str:
        """Show a few numbers as they are; of more, how many and of what."""
        if array.size <= self.maxlist:
            return repr(array)
        return f"<array of shape {array.shape}, {array.dtype}>"

    def repr_instance(self, value: Any, level: int) -> str:
        """Show a few words; of arrays of other libraries their kind and shape, without reading them."""
        shape = getattr(value, "shape", ())
        if shape and not isinstance(value, type):
            return f"<{kind(value)} of shape {tuple(shape)}>"
        return super().repr_instance(value, level)


_SHORT: Final = _Short()
_LONGEST: Final = 160  # characters


def shown(value: object) -> str:
    """Return how `value` is written in a message: as typed where that is short, never an array in full."""
    text = _SHORT.repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 40]}...{text[-40:]}"


def kind(value: object) -> str:
    """Return the name of a value's type with its library's: ``h5py.Dataset``."""
    value_type = type(value)
    library = value_type.__module__.partition(".")[0]
    return value_type.__qualname__ if library == "builtins" else f"{library}.{value_type.__qualname__}"


def close_to(name: str, names: Iterable[str], least: float = 0.6) -> str | None:
    """Return the one of `names` that `name` looks like, if any does by `least` of its letters."""
    by_case = {candidate.lower(): candidate for candidate in names}
    matches = difflib.get_close_matches(name.lower(), by_case, 1, least)
    return by_case[matches[0]] if matches else None


def meant(name: object, names: Iterable[str], others: Mapping[str, str] | None = None) -> str:
    """Return ``" Did you mean ...?"``, or nothing: `others` are names of other libraries for ours."""
    suggestion = (others or {}).get(str(name).lower()) or close_to(str(name), names)
    return f" Did you mean {suggestion!r}?" if suggestion else ""


def meant_mode(name: object, names: Iterable[str]) -> str:
    """Return what may be meant by a boundary mode that is none, as `meant` does."""
    return meant(name, names, _MODES)


def meant_keyword(name: str, names: Iterable[str]) -> str:
    """Return what may be meant by a keyword that a function with the parameters `names` does not have."""
    known = list(names)
    synonym = next((candidate for candidate in _KEYWORDS.get(name, ()) if candidate in known), None)
    suggestion = synonym or close_to(name, known)
    return f" Did you mean `{suggestion}`?" if suggestion else ""


def meant_function(name: str, names: Iterable[str]) -> str:
    """Return what may be meant by a function that the package does not have."""
    if name in _FUNCTIONS:
        return f". Did you mean {_FUNCTIONS[name]}?"
    suggestion = close_to(name, names)
    return f". Did you mean {suggestion!r}?" if suggestion else ""
