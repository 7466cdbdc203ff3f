"""The accessor ``.separable`` of xarray's arrays: the verbs, with dimensions by name."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy.typing as npt

from .. import dask as lazily
from .._base.extras import extra
from ..arrays import arguments
from ..arrays import masks as masking
from ..arrays import output as storing
from ..filters import verbs
from ..filters.verbs import box_kernel, gaussian_of
from ..kernel.value import SeparableKernel
from .coordinates import filtered_dims, for_each, in_units, step_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["SeparableAccessor", "register"]

Dims: TypeAlias = Hashable | Sequence[Hashable] | None
Widths: TypeAlias = Any  # a number, or a duration along times; or a sequence or a mapping of these


class SeparableAccessor:
    """The filters of an `xarray.DataArray`: ``array.separable``, after ``import separable.xarray``.

    Dimensions go by name, widths are in the units of the coordinates. Results keep dimensions, coordinates,
    name and attributes; arrays of Dask stay lazy, with one task a chunk (`separable.dask`).

    Parameters
    ----------
    array : xarray.DataArray

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import separable as sp
    >>> import separable.xarray
    >>> scan = xr.DataArray(
    ...     np.random.default_rng(0).random((12, 40, 40), np.float32),
    ...     dims=("z", "y", "x"),
    ...     coords={"z": 2.0 * np.arange(12), "y": 0.5 * np.arange(40), "x": 0.5 * np.arange(40)},
    ... )
    >>> smooth = scan.separable.gaussian(1.5)  # in the units of the coordinates: 0.75, 3 and 3 samples
    >>> smooth.dims, bool((smooth == sp.gaussian(scan.values, (0.75, 3, 3))).all())
    (('z', 'y', 'x'), True)
    >>> scan.chunk(x=16).separable.gaussian({"x": 1.0}).chunks
    ((12,), (40,), (16, 16, 8))
    """

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    def gaussian(
        self,
        sigma: Widths = None,
        *,
        dims: Dims = None,
        order: int | Sequence[int] | Mapping[Any, int] = 0,
        mode: Any = "reflect",
        cval: complex = 0.0,
        truncate: float = 4.0,
        radius: int | Sequence[int] | Mapping[Any, int] | None = None,
        output: npt.DTypeLike | None = None,
        tol: float | None = None,
        method: arguments.Method = "auto",
        threads: int | None = None,
        rounding: storing.Rounding = "nearest",
        overflow: storing.Overflow = "saturate",
        mask: Any = None,
        nan: masking.Nan = "propagate",
        fwhm: Widths = None,
    ) -> xr.DataArray:
        """Filter by a sampled Gaussian or one of its derivatives.

        Parameters
        ----------
        sigma : float, sequence of float or mapping from dimension to float
            Standard deviation in the units of the coordinates, or in samples along a dimension without one.
            Along a coordinate of times a duration: ``"3h"``, ``numpy.timedelta64(3, "h")``.
        dims : name or sequence of names, optional
            The dimensions to filter; by default the keys of `sigma`, if it is a mapping, or all.
        order, mode, radius : optional
            As in `separable.gaussian`; also a mapping from dimension to value. Derivatives are by the
            coordinate, also where it descends; along times by seconds.
        cval, truncate, tol, method, threads, rounding, overflow, nan : optional
            As in `separable.gaussian`.
        output : dtype, optional
            The dtype of the result.
        mask : xarray.DataArray or array_like of bool, optional
            True where the array is known. A `DataArray` may lack dimensions, and have them in another order.
        fwhm : optional
            Full width at half maximum, instead of `sigma`.

        Returns
        -------
        xarray.DataArray

        Raises
        ------
        ValueError
            A coordinate is not even; as `separable.gaussian`.
        TypeError
            As `separable.gaussian`.
        """
        named = filtered_dims(self._array, dims, sigma, fwhm)
        steps = [step_of(self._array, dim) for dim in named]
        sigma, fwhm = (
            in_units(name, for_each(name, value, named), named, steps)
            for name, value in (("sigma", sigma), ("fwhm", fwhm))
        )
        orders = arguments.wholes("order", for_each("order", order, named), len(named))
        spacing = tuple(step.length for step in steps)
        radii = None if radius is None else for_each("radius", radius, named)
        kernel = gaussian_of(len(named), sigma, fwhm, orders, truncate, radii, spacing)
        if math.prod(-1 if step.descends and n % 2 else 1 for step, n in zip(steps, orders, strict=True)) < 0:
            (taps,) = kernel.terms
            kernel = SeparableKernel([[-taps[0], *taps[1:]]])
        how: dict[str, Any] = {"cval": cval, "output": output, "tol": tol, "method": method, "nan": nan}
        how |= {"threads": threads, "rounding": rounding, "overflow": overflow}
        return self._filtered("correlate", kernel, named, mask, how | {"mode": for_each("mode", mode, named)})

    def uniform(
        self,
        size: int | Sequence[int] | Mapping[Any, int],
        *,
        dims: Dims = None,
        mode: Any = "reflect",
        mask: Any = None,
        **how: Any,
    ) -> xr.DataArray:
        """Replace each sample by the mean of the box around it.

        Parameters
        ----------
        size : int, sequence of int or mapping from dimension to int
            Length of the box in samples.
        dims, mode, mask : optional
            As in `gaussian`.
        **how
            ``cval``, ``origin``, ``output``, ``method``, ``threads``, ``rounding``, ``overflow`` and ``nan``,
            as in `separable.uniform`.

        Returns
        -------
        xarray.DataArray

        Raises
        ------
        ValueError, TypeError
            As `separable.uniform`; the array has no such dimension, or it is named twice.
        """
        named = filtered_dims(self._array, dims, size)
        kernel = box_kernel(arguments.wholes("size", for_each("size", size, named), len(named)))
        return self._filtered("correlate", kernel, named, mask, how | {"mode": for_each("mode", mode, named)})

    def correlate(
        self,
        kernel: SeparableKernel | npt.ArrayLike,
        *,
        dims: Dims = None,
        mode: Any = "reflect",
        mask: Any = None,
        **how: Any,
    ) -> xr.DataArray:
        """Correlate with a kernel, in samples.

        Parameters
        ----------
        kernel : SeparableKernel or array_like
            With one axis for each of `dims`.
        dims : name or sequence of names, optional
            The dimensions to filter, in the order of the kernel's axes; all by default.
        mode, mask : optional
            As in `gaussian`.
        **how
            ``cval``, ``origin``, ``output``, ``tol``, ``method``, ``threads``, ``rounding``, ``overflow`` and
            ``nan``, as in `separable.correlate`.

        Returns
        -------
        xarray.DataArray

        Raises
        ------
        ValueError, TypeError
            As `separable.correlate`; the array has no such dimension, or it is named twice.
        """
        named = filtered_dims(self._array, dims)
        return self._filtered("correlate", kernel, named, mask, how | {"mode": for_each("mode", mode, named)})

    def convolve(
        self,
        kernel: SeparableKernel | npt.ArrayLike,
        *,
        dims: Dims = None,
        mode: Any = "reflect",
        mask: Any = None,
        **how: Any,
    ) -> xr.DataArray:
        """Convolve with a kernel, in samples.

        Parameters
        ----------
        kernel, dims, mode, mask, **how
            As in `correlate`.

        Returns
        -------
        xarray.DataArray

        Raises
        ------
        ValueError, TypeError
            As `separable.convolve`; the array has no such dimension, or it is named twice.
        """
        named = filtered_dims(self._array, dims)
        return self._filtered("convolve", kernel, named, mask, how | {"mode": for_each("mode", mode, named)})

    def _filtered(
        self,
        verb: str,
        kernel: SeparableKernel | npt.ArrayLike,
        dims: tuple[Hashable, ...],
        mask: Any,
        how: dict[str, Any],
    ) -> xr.DataArray:
        """Return the result of a verb along these dimensions."""
        array = self._array
        axes = tuple(array.dims.index(dim) for dim in dims)
        how = how | {"axes": axes, "mask": None if mask is None else self._mask(mask)}
        if "origin" in how:
            how["origin"] = for_each("origin", how["origin"], dims)
        if array.chunks is None:
            result: xr.DataArray = getattr(verbs, verb)(array, kernel, **how)
            return result
        return array.copy(deep=False, data=getattr(lazily, verb)(array.data, kernel, **how))

    def _mask(self, mask: Any) -> Any:
        """Return a mask with the dimensions of the array, of which some may have length 1."""
        import xarray as xr

        if not isinstance(mask, xr.DataArray):
            return mask
        array = self._array
        extra_dims = [dim for dim in mask.dims if dim not in array.dims]
        if extra_dims:
            raise ValueError(f"`mask` has the dimension {extra_dims[0]!r}; the array has {array.dims}.")
        xr.align(array, mask, join="exact", copy=False)
        mask = mask.expand_dims([dim for dim in array.dims if dim not in mask.dims]).transpose(*array.dims)
        return mask.data if array.chunks is not None else mask.values


def register() -> None:
    """Give every `xarray.DataArray` the accessor.

    Raises
    ------
    MissingExtraError
        xarray is not installed.
    """
    with extra("xarray"):
        import xarray as xr
    if not hasattr(xr.DataArray, "separable"):
        xr.register_dataarray_accessor("separable")(SeparableAccessor)
