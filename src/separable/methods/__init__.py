"""The methods of running a kernel, one module each, and the table of them by their public names."""

from typing import Final

from .._base.words.messages import meant, shown
from .box import BoxMethod
from .cascade import CascadeMethod
from .cosines import CosinesMethod
from .direct import DirectMethod
from .fft import FourierMethod
from .method import Method
from .terms import TermsMethod

METHODS: Final[dict[str, Method]] = {
    method.name: method
    for method in (
        TermsMethod(),
        DirectMethod(),
        BoxMethod(),
        CosinesMethod(),
        CascadeMethod(),
        FourierMethod(),
    )
}
NAMES: Final = ("auto", *METHODS)


def method_name(method: object) -> str | None:
    """Return `method` if it is a name, or None: the fastest with the signs and zeros of direct sums."""
    if method is None:
        return None
    if not isinstance(method, str) or method not in NAMES:
        raise ValueError(
            f"`method={shown(method)}` is unknown; expected one of {', '.join(map(repr, NAMES))}."
            + meant(method, NAMES)
        )
    return method
