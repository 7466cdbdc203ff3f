"""The plan cache: plans by kernel and request."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .._base.caches import kept
from ..factor import complex_parts
from ..kernel.value import SeparableKernel
from .bank import Bank
from .plan import CACHED_WEIGHTS, Plan, build, build_bank
from .request import Request


class DenseKey(NamedTuple):
    """Small dense weights as a hashable key."""

    data: bytes
    shape: tuple[int, ...]
    dtype: str


def cached_plan(kernel_or_weights: SeparableKernel | npt.ArrayLike, request: Request) -> Plan:
    """Return the plan for `request`, from the cache of a few hundred if it is there."""
    kernel: SeparableKernel | DenseKey
    if isinstance(kernel_or_weights, SeparableKernel):
        kernel = kernel_or_weights
    else:
        weights = np.asarray(kernel_or_weights)
        if weights.size > CACHED_WEIGHTS or weights.dtype.hasobject:
            return _suited(build(weights, request), request)
        kernel = DenseKey(weights.tobytes(), weights.shape, weights.dtype.str)
    try:
        return _remembered(kernel, request)
    except TypeError:
        pass  # a list among the arguments does not hash; a wrong argument fails again below
    return _remembered(kernel, request.hashable())


@kept
def parts_plan(weights: DenseKey, request: Request) -> Bank | None:
    """Return the bank of real and imaginary parts of complex weights; None unless they share a sweep."""
    pair = complex_parts(np.frombuffer(weights.data, weights.dtype).reshape(weights.shape))
    if pair is None or request.method not in ("auto", "separable"):
        return None
    bank = build_bank(pair, request.hashable())
    return bank if len(bank.together) == 1 else None


@kept
def _remembered(kernel: SeparableKernel | DenseKey, request: Request) -> Plan:
    if request.integers is not None:
        return _suited(_remembered(kernel, request._replace(integers=None)), request)
    if isinstance(kernel, DenseKey):
        return build(np.frombuffer(kernel.data, kernel.dtype).reshape(kernel.shape), request)
    return build(kernel, request)


def _suited(made: Plan, request: Request) -> Plan:
    """Return the plan for the integers of `request`, if it has any: `made`, or the kernel's in float64."""
    integers = request.integers
    return made if integers is None else made.suited(integers[0], request.masked, integers)
