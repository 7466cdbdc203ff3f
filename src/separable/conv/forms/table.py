"""The one table of the forms that a layer can have, by name."""

from __future__ import annotations

from typing import Final

from .dense import DENSE
from .depthwise import DEPTHWISE_FIRST, POINTWISE_FIRST
from .form import LayerForm
from .low_rank import LOW_RANK
from .spatial import SPATIAL

__all__ = ["BASELINE", "CHEAPER", "FORMS", "MULTIPLIED", "UNCHANGED", "form_of", "is_dense"]

# In the order in which they are tried, listed and drawn.
FORMS: Final[dict[str, LayerForm]] = {
    form.name: form for form in (DENSE, DEPTHWISE_FIRST, POINTWISE_FIRST, SPATIAL, LOW_RANK)
}

# The form of a layer that stays as it is; and those it may have instead, sequences of cheaper convolutions.
UNCHANGED: Final = DENSE.name
CHEAPER: Final = tuple(name for name in FORMS if name != UNCHANGED)

# Those whose rank is a depth multiplier.
MULTIPLIED: Final = tuple(name for name, form in FORMS.items() if form.multiplies)

# One rank of this form for all layers is what a conversion must not be worse than.
BASELINE: Final = DEPTHWISE_FIRST.name


def form_of(name: str) -> LayerForm:
    """Return the form of a name.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name not in FORMS:
        raise ValueError(f"`form={name!r}` is unknown; expected one of {', '.join(map(repr, FORMS))}.")
    return FORMS[name]


def is_dense(name: str) -> bool:
    """Return whether the form of a name is that of a layer as it is."""
    return name == UNCHANGED
