"""The ways to run a kernel, one module each, and the table of them by the names that users give them."""

from typing import Final

from .._base.words import meant, shown
from .box import Box
from .cascade import Cascades
from .cosines import Oscillators
from .direct import Direct
from .fft import Transforms
from .method import Method
from .terms import Terms

METHODS: Final[dict[str, Method]] = {
    method.name: method for method in (Terms(), Direct(), Box(), Oscillators(), Cascades(), Transforms())
}
NAMES: Final = ("auto", *METHODS)


def method_name(method: object) -> str | None:
    """Return `method` if it is one; None is the fastest whose results have the signs and zeros of sums."""
    if method is None:
        return None
    if not isinstance(method, str) or method not in NAMES:
        raise ValueError(
            f"`method={shown(method)}` is unknown; expected one of {', '.join(map(repr, NAMES))}."
            + meant(method, NAMES)
        )
    return method
