"""Kernels that are known by name: exact terms where there are such, dense weights where there are none.

All are weights for correlation (``separable.correlate``), laid out as `scipy.ndimage` lays out its own:
filtering with `gaussian` or `sobel` gives what ``scipy.ndimage.gaussian_filter`` and
``scipy.ndimage.sobel`` give. Smoothing kernels sum to 1. Lengths are in pixels (samples), axis 0 first;
where a parameter may differ per axis it is one number for all axes or a sequence with one per axis.
Angles are in radians, from the columns' axis (axis 1) towards the rows' (axis 0).
"""

from .._base.lazy import attach


def _hint(name: str, names: list[str]) -> str:
    from .._base.words.messages import close_to  # only an error needs it

    close = None if name.startswith("_") else close_to(name, names)
    return f". Did you mean {close!r}?" if close else ""


__getattr__, __dir__, __all__ = attach(__name__, __file__, hint=_hint)
