"""Runs the package's verbs on checked arguments, and stores their results in the caller's output."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from .._base.types import Array
from ..arrays.arguments import Method, promoted_dtype, working_dtype
from ..arrays.boundaries import is_padded
from ..arrays.masks import MaskedSums, Nan, check_weights, known_of
from ..arrays.output import OVERFLOWS, ROUNDINGS, Bounds, Overflow, Rounding, check_names, store, storing
from ..filters import verbs as filters
from ..filters.levels import sums_of
from ..kernel.value import SeparableKernel
from ..methods import method_name
from . import _wide
from ._arguments import Target, is_wide

Verb: TypeAlias = Literal["correlate", "convolve", "uniform"]


# Bound of the relative rounding error of long doubles that are stored in integers.
_WIDE_ERROR: Final = 2.0**-53


class How(TypedDict):
    """The keywords of every verb that SciPy does not have."""

    rounding: Rounding
    overflow: Overflow
    threads: int | None
    mask: npt.ArrayLike | None
    nan: Nan
    method: Method


def how_to(
    rounding: Rounding,
    overflow: Overflow,
    threads: int | None = None,
    mask: npt.ArrayLike | None = None,
    nan: Nan = "propagate",
    method: Method = None,
) -> How:
    """Return those keywords; checks `rounding` and `overflow`, which sums of floats do not pass to a verb.

    Without a method, results have the signs and zeros that SciPy's can have.
    """
    if (rounding, overflow) not in _NAMES:
        check_names(rounding, overflow)
    if method is not None:
        method_name(method)
    return {
        "rounding": rounding,
        "overflow": overflow,
        "threads": threads,
        "mask": mask,
        "nan": nan,
        "method": method,
    }


# The most usual first: checking both names one by one takes longer than this one search.
_NAMES: Final = tuple(itertools.product(ROUNDINGS[::-1], OVERFLOWS[::-1]))


class Step(NamedTuple):
    """One call of a verb: its name, its kernel (weights, or the size of a box) and its keywords."""

    verb: Verb
    kernel: Any
    given: dict[str, Any]


def run(step: Step, x: Array, target: Target, how: How) -> Array:
    """Filter `x` and store the result in `target`, whose array may overlap `x`."""
    if is_wide(x.dtype) or is_wide(target.dtype):
        return finish(values(step, x, target, how), target, how, _wide_extent(step, x, target, how))
    verb = getattr(filters, step.verb)
    if target.array is None:
        # By default the verb returns an array aligned for the core; another dtype must be requested.
        output = None if working_dtype(x.dtype) == target.dtype else target.dtype
        filtered: Array = verb(x, step.kernel, output=output, **{**how, **step.given})
        return filtered
    if np.may_share_memory(x, target.array):
        target.array[...] = verb(x, step.kernel, output=target.dtype, **{**how, **step.given})
    else:
        verb(x, step.kernel, output=target.array, **{**how, **step.given})
    return target.array


def values(step: Step, x: Array, target: Target, how: How, into: Array | None = None) -> Array:
    """Return the filtered values as unrounded floats, in `into` if given."""
    if is_wide(x.dtype) or is_wide(target.dtype):
        return _wide_values(step, x, how)
    verb = getattr(filters, step.verb)
    output = computed_dtype(x, target) if into is None else into
    computed: Array = verb(x, step.kernel, output=output, **{**how, **step.given})
    return computed


def computed_dtype(x: Array, target: Target) -> np.dtype[Any]:
    """Return the dtype in which values are computed before rounding to the output."""
    if is_wide(x.dtype) or is_wide(target.dtype):
        return np.promote_types(x.dtype, np.longdouble)
    dtype = promoted_dtype(working_dtype(x.dtype), target.dtype)
    # Sums of float32 results, truncated to integers of more than 8 bits, would often be off by one.
    wide_integers = target.dtype.kind in "biu" and max(x.dtype.itemsize, target.dtype.itemsize) > 1
    return np.dtype(np.float64) if wide_integers else dtype


def finish(computed: Array, target: Target, how: How, within: tuple[Any, Any] | None = None) -> Array:
    """Store computed values in `target`, rounded once; long doubles clipped to the bounds given."""
    if computed is target.array or (target.array is None and computed.dtype == target.dtype):
        return computed
    result = target.allocated(computed.shape)
    if target.dtype.kind not in "biu":
        with np.errstate(over="ignore"):  # float16 ends at 65504
            np.copyto(result, computed, casting="unsafe")
        return result
    if is_wide(computed.dtype):
        # What is whole up to float64's rounding counts as whole; 64-bit integers are held in long doubles.
        bounds = None if within is None else Bounds(1.0, 0.0)
        rule = storing(how["rounding"], how["overflow"], exact=False, error=_WIDE_ERROR, bounds=bounds)
        store(computed.copy(), result, rule.within(within or (0, 0), computed.dtype, target.dtype))
        return result
    # A filter that changes nothing stores integers as every filter does.
    stored = how_to(how["rounding"], how["overflow"], how["threads"])
    if computed.ndim:
        filters.uniform(computed, 1, output=result, **stored)
    else:
        result[...] = filters.uniform(computed[np.newaxis], 1, output=target.dtype, **stored)[0]
    return result


def copied(x: Array, target: Target, how: How) -> Array:
    """Return `x` itself as the result of a filter along no axis."""
    if x.ndim and (how["mask"] is not None or how["nan"] != "propagate"):
        return run(Step("uniform", (1,), {"axes": (0,)}), x, target, how)  # unknown samples become NaN
    if x.dtype.kind in "biu" or target.dtype.kind not in "biu":
        result = target.allocated(x.shape)
        np.copyto(result, x, casting="unsafe")
        return result
    return finish(x.astype(computed_dtype(x, target)), target, how)


def chain(steps: Sequence[Step], x: Array, target: Target, how: How) -> Array:
    """Return the result of a chain of steps, in floats, stored after the last; without steps, `x`."""
    if not steps:
        return copied(x, target, how)
    for step in steps[:-1]:
        x = values(step, x, target, how)
    return run(steps[-1], x, target, how)


def chain_values(
    steps: Sequence[Step], x: Array, target: Target, how: How, into: Array | None = None
) -> Array:
    """Return the floats of a chain of steps, in `into` if given."""
    if not steps:
        same = np.empty(x.shape, computed_dtype(x, target)) if into is None else into
        np.copyto(same, x)
        return same
    for step in steps[:-1]:
        x = values(step, x, target, how)
    return values(steps[-1], x, target, how, into)


def complex_weights(step: Step, x: Array, target: Target, how: How) -> Array:
    """Run a step whose weights are complex: one filter for each part of the weights."""
    if how["mask"] is not None or how["nan"] != "propagate":
        raise ValueError("complex weights cannot be normalised; leave out `mask` and `nan`.")
    weights = step.kernel
    real, imag = (values(step._replace(kernel=part), x, target, how) for part in (weights.real, weights.imag))
    total = np.empty(x.shape, np.promote_types(real.dtype, np.complex64))
    if x.dtype.kind == "c":
        np.subtract(real.real, imag.imag, out=total.real)
        np.add(real.imag, imag.real, out=total.imag)
    else:
        total.real, total.imag = real, imag
    return finish(total, target, how)


def _wide_values(step: Step, x: Array, how: How) -> Array:
    known = known_of(x, how["mask"], how["nan"], step.given.get("cval", 0.0) if _is_padded(step) else None)
    if known is None:
        return _wide_sums(step, x)
    kernel = _wide_kernel(step)
    check_weights(kernel)
    mask = known.of(x)
    sums = step if known.outside else step._replace(given={**step.given, "cval": 0.0})
    values = _wide_sums(sums, np.where(mask, x, 0))
    weights = [
        _wide_sums(step._replace(given={**step.given, "cval": float(outside)}), which.astype(np.longdouble))
        for which, outside in ((mask, known.outside), (~mask, not known.outside))
    ]
    terms = kernel.terms if isinstance(kernel, SeparableKernel) else [[kernel]]
    total = sum(math.prod(taps.sum(dtype=np.longdouble) for taps in term) for term in terms)
    return MaskedSums(values, *weights).normalised(total)


def _wide_extent(step: Step, x: Array, target: Target, how: How) -> tuple[Any, Any] | None:
    """Return the bounds of a step's results that are stored as integers, in long double."""
    if target.dtype.kind not in "biu":
        return None
    known = known_of(x, how["mask"], how["nan"])
    mask = ~np.isnan(x) if known is None else known.of(x) & ~np.isnan(x)
    if not mask.any():
        return None
    total, _, negative, _ = sums_of(_wide_kernel(step))
    bounds = Bounds(
        total, negative if known is None else 0.0, step.given.get("cval") if _is_padded(step) else None
    )
    return bounds.of(x[mask].min(), x[mask].max())


def _wide_kernel(step: Step) -> SeparableKernel | Array:
    """Return the weights of a step, or others of the same sums and signs."""
    return np.ones(1) if step.verb == "uniform" else step.kernel


def _is_padded(step: Step) -> bool:
    return is_padded(step.given.get("mode", "reflect"))


def _wide_sums(step: Step, x: Array) -> Array:
    known = {key: step.given[key] for key in ("mode", "cval", "axes", "origin") if key in step.given}
    if step.verb == "uniform":
        ones = SeparableKernel([[np.ones(size) for size in step.kernel]])
        return _wide.correlate(x, ones, **known) / ones.size
    if step.verb == "convolve":
        # The correlation with the flipped kernel, its centre mirrored.
        lengths, origins = step.kernel.shape, known["origin"]
        known["origin"] = tuple((n - 1) // 2 - n // 2 - at for n, at in zip(lengths, origins, strict=True))
        return _wide.correlate(x, np.flip(step.kernel), **known)
    return _wide.correlate(x, step.kernel, **known)
