"""The pickled form of plans: plain tuples with names of types, which do not depend on module paths."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

import numpy as np

from ..cost.model import MachineRates, PredictedCost, Rates, completed
from ..kernel.value import ErrorBounds, SeparableKernel
from ..methods.algorithms.cascade_search import Cascade
from ..methods.algorithms.overlap_save import Geometry
from ..methods.algorithms.piecewise import PiecewiseForm
from ..methods.algorithms.recursions import Cosines, Recursions
from ..methods.cascade import CascadeForm
from ..methods.direct import DirectForm
from ..methods.fft import FourierForm
from ..methods.method import Setting, Way
from ..methods.terms import TermsForm

_TYPES: Final = (
    *(Way, Setting, PredictedCost, Rates, MachineRates, ErrorBounds),
    *(TermsForm, DirectForm, Recursions, Cosines, PiecewiseForm, CascadeForm, Cascade, FourierForm, Geometry),
)
_BY_NAME: Final[dict[str, Any]] = {kind.__name__: kind for kind in _TYPES} | {
    # Names in earlier versions.
    "Choice": Way,
    "Cost": PredictedCost,
    "KernelError": ErrorBounds,
    "Machine": MachineRates,
    "RunningForm": Recursions,
    "ShapeForm": PiecewiseForm,
    "Waves": Cosines,
}


def packed(value: Any) -> Any:
    """Return a way, a setting or rates as plain tuples: the name of each type, then its fields."""
    name = type(value).__name__
    if type(value) not in _TYPES:
        return ("", *map(packed, value)) if isinstance(value, tuple) else value
    if isinstance(value, tuple):
        return (name, *map(packed, value))
    return (name, *(packed(getattr(value, field.name)) for field in fields(value)))


def unpacked(value: Any) -> Any:
    """Return the value that `packed`, of this or an earlier version, was given."""
    if not isinstance(value, tuple):
        return value
    name, *fields_of_type = value
    parts = tuple(map(unpacked, fields_of_type))
    if not name:
        return parts
    made = _BY_NAME[name](*parts)
    if isinstance(made, Way):
        return made._replace(kernel=_as_form(made))
    if isinstance(made, Rates):
        return made._replace(values=completed(made.values))
    return made


def _as_form(choice: Way) -> Any:
    """Return the form of a way; earlier versions pickled bare kernels, weights and cascades."""
    kernel: Any = choice.kernel
    if isinstance(kernel, Cascade):
        return CascadeForm(kernel)
    if isinstance(kernel, SeparableKernel) and choice.method == "separable":
        return TermsForm(kernel)
    return DirectForm(kernel) if isinstance(kernel, (SeparableKernel, np.ndarray)) else kernel
