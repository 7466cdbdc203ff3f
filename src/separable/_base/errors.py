"""Errors that carry numbers, and warnings. A wrong argument is a plain ValueError or TypeError."""

from __future__ import annotations

from collections.abc import Callable


class EffortWarning(UserWarning):
    """A search for terms ended with its `effort` before it came within the tolerance.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> import separable as sp
    >>> noise = np.random.default_rng(0).random((9, 9, 9))
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     kernel = sp.factor(noise, tol=1e-3, effort=1e5)
    >>> issubclass(caught[0].category, sp.EffortWarning), kernel.error.relative_l1 > 1e-3
    (True, True)
    """


class NotSeparableError(ValueError):
    """A kernel needs more terms than were allowed.

    Attributes
    ----------
    relative_l1 : float
        Certified relative l1 error of the best sum of `rank` terms that was found.
    tol : float
        The relative l1 error that was asked for.
    rank : int
        The number of terms that were allowed.

    Examples
    --------
    >>> import separable as sp
    >>> try:
    ...     sp.factor(sp.families.disk(7), rank=1, tol=0.01)
    ... except sp.NotSeparableError as error:
    ...     print(error.rank, error.tol, f"{error.relative_l1:.2f}")
    1 0.01 0.29
    """

    def __init__(self, message: str, *, relative_l1: float, tol: float, rank: int) -> None:
        super().__init__(message)
        self.relative_l1 = relative_l1
        self.tol = tol
        self.rank = rank

    def __reduce__(self) -> tuple[Callable[..., NotSeparableError], tuple[str, float, float, int]]:
        # By default, exceptions are pickled with positional arguments only.
        return _restore, (str(self), self.relative_l1, self.tol, self.rank)


# The module shown in tracebacks and named by pickles.
EffortWarning.__module__ = NotSeparableError.__module__ = "separable"


def _restore(message: str, relative_l1: float, tol: float, rank: int) -> NotSeparableError:
    return NotSeparableError(message, relative_l1=relative_l1, tol=tol, rank=rank)
