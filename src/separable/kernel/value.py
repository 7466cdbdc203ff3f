"""The kernel as a sum of outer products of taps, with a certified error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, final

import numpy as np
import numpy.typing as npt

from .._base.foreign import read
from .._base.types import FloatArray
from .._base.words import html as _html
from .._base.words.quantities import plural
from .bounds import ErrorBounds as ErrorBounds
from .bounds import after_rounding, outer, unit_scaled
from .bounds import certified_error as certified_error
from .means import as_run
from .passes import shared
from .picture import draw_kernel

if TYPE_CHECKING:
    from .picture import Figure

Term: TypeAlias = tuple[FloatArray, ...]

# Maximum axes of a kernel: no known filter has more, and hundreds of them are a typo.
MAX_NDIM: Final = 8

# Maximum size of a kernel drawn in notebooks: its dense form takes milliseconds.
_DRAWN_SIZE: Final = 1 << 20


@final
class SeparableKernel:
    """A kernel as a sum of terms; a term is an outer product of 1-D taps, one per axis.

    The kernel is meant for correlation: output sample i is ``sum_k taps[k] * x[i + k - n//2]`` along
    each axis. The value is frozen: taps are private read-only copies, equality and hash go by value.

    Parameters
    ----------
    terms : sequence of terms
        Each term a sequence of 1-D real taps, one per axis, axis 0 first. All terms have the same tap
        counts. Stored as float64.
    error : ErrorBounds, optional
        Certified distance to the kernel these terms stand for. Default: zeros (the terms are the kernel).
    noise : float, optional
        The relative l1 norm of the noise that the terms leave out, where it was estimated:
        ``separable.factor(weights, tol="noise")``.

    Attributes
    ----------
    terms : tuple of tuples of ndarray
        The taps, read-only float64.
    shape : tuple of int
        Tap counts per axis; the shape of the dense kernel.
    ndim, rank, size : int
        Number of axes, of terms, and of elements of the dense kernel.
    macs : int
        Multiply-accumulates per sample: the tap counts of all passes. Terms with equal taps along the last
        axis share that pass, and terms with equal taps along the first are added up before it
        (`separable.kernel.passes`). A 1-tap factor costs nothing, it is folded into its neighbour.
    error : ErrorBounds
    noise : float or None

    Raises
    ------
    TypeError
        If taps are not real numbers, or `error` is not a ErrorBounds.
    ValueError
        If there is no term, no axis or more than 8, if taps are empty, not 1-D, not finite or not of
        the same length in all terms, or if their product overflows float64.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> sobel = sp.SeparableKernel([[[1, 2, 1], [1, 0, -1]]])
    >>> sobel.dense()
    array([[ 1.,  0., -1.],
           [ 2.,  0., -2.],
           [ 1.,  0., -1.]])
    >>> sobel.rank, sobel.macs, sobel.size
    (1, 6, 9)
    >>> sobel == sp.factor(sobel.dense())
    True
    """

    __slots__ = ("_hash", "_macs", "_norm_l1", "error", "ndim", "noise", "rank", "shape", "size", "terms")

    terms: tuple[Term, ...]
    shape: tuple[int, ...]
    ndim: int
    rank: int
    size: int
    error: ErrorBounds
    noise: float | None
    _hash: int
    _macs: int
    _norm_l1: float

    def __init__(
        self,
        terms: Iterable[Iterable[npt.ArrayLike]],
        *,
        error: ErrorBounds | None = None,
        noise: float | None = None,
    ) -> None:
        if error is not None and not isinstance(error, ErrorBounds):
            raise TypeError(f"`error` is {type(error).__name__}; expected ErrorBounds or None.")
        checked = _checked_terms(terms)
        shape = tuple(taps.size for taps in checked[0])
        values = {
            "terms": checked,
            "shape": shape,
            "ndim": len(shape),
            "rank": len(checked),
            "size": math.prod(shape),
            "error": ErrorBounds() if error is None else error,
            "noise": noise,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def dense(self) -> FloatArray:
        """Return the dense kernel: the sum of its terms' outer products.

        Returns
        -------
        ndarray, shape ``self.shape``, float64
            Summed in long double and rounded once.
        """
        total: npt.NDArray[np.longdouble] = np.zeros(self.shape, np.longdouble)
        for term in self.terms:
            scaled, exponents = zip(*map(unit_scaled, term), strict=True)
            total += np.ldexp(outer(scaled), sum(exponents))
        return total.astype(np.float64)

    def adjoint(self) -> SeparableKernel:
        """Return the kernel with every axis flipped.

        Correlation with it is the adjoint of correlation with this kernel (odd tap counts, constant
        or periodic boundaries), and the same as convolution with this kernel.
        """
        flipped = [[taps[::-1] for taps in term] for term in self.terms]
        return SeparableKernel(flipped, error=self.error, noise=self.noise)

    def rounded(self, dtype: npt.DTypeLike) -> SeparableKernel:
        """Return the kernel with its taps rounded to a dtype, and that rounding in its error.

        Filters round taps to the dtype they compute in; this is the kernel they run.

        Parameters
        ----------
        dtype : dtype
            Real and floating point: float16, float32 or float64.

        Returns
        -------
        SeparableKernel
            Taps that were equal stay equal, but for the middle ones of a mean (taps >= 0 that sum to 1): they
            take what is left to 1, so that constants of 1 stay 1. The error is still that against the kernel
            these terms stood for.

        Raises
        ------
        TypeError
            If `dtype` is not a real floating-point one.
        ValueError
            If taps overflow in it.
        """
        target = np.dtype(dtype)
        if target.kind != "f":
            raise TypeError(f"`dtype` is {target}; expected a real floating-point dtype such as float32.")
        computes = target.name in ("float32", "float64")  # the dtypes that filters compute in
        with np.errstate(over="ignore", under="ignore"):
            running = [as_run(term, target.name) if computes else term for term in self.terms]
            terms = [tuple(taps.astype(target).astype(np.float64) for taps in term) for term in running]
        if not all(np.isfinite(taps).all() for term in terms for taps in term):
            raise ValueError(f"taps overflow in {target}; scale the kernel down, or filter in float64.")
        if _bytes(tuple(terms)) == _bytes(self.terms):
            return self
        error = after_rounding(self.error, self.dense(), self.terms, terms)
        return SeparableKernel(terms, error=error, noise=self.noise)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample; see the class."""
        if not hasattr(self, "_macs"):
            object.__setattr__(self, "_macs", max(1, shared([self.terms]).macs if self.size > 1 else 1))
        return self._macs

    @property
    def norm_l1(self) -> float:
        """The l1 norm of the dense kernel: the filter's largest gain."""
        if not hasattr(self, "_norm_l1"):
            object.__setattr__(self, "_norm_l1", self._compute_norm_l1())
        return self._norm_l1

    def _compute_norm_l1(self) -> float:
        if self.rank > 1:
            return float(np.abs(self.dense()).sum())
        scaled, exponents = zip(*map(unit_scaled, self.terms[0]), strict=True)
        total = math.prod(float(np.abs(taps).sum()) for taps in scaled)
        with np.errstate(over="ignore"):
            return float(np.ldexp(total, sum(exponents)))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"SeparableKernel is frozen: `{name}` cannot be set; build another kernel.")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"SeparableKernel is frozen: `{name}` cannot be deleted.")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SeparableKernel):
            return NotImplemented
        if self is other:
            return True
        return (
            self.shape == other.shape
            and self.rank == other.rank
            and self.error == other.error
            and self.noise == other.noise
            and _bytes(self.terms) == _bytes(other.terms)
        )

    def __hash__(self) -> int:
        # Cached: every call of a filter looks up its plan by kernel.
        if not hasattr(self, "_hash"):
            object.__setattr__(self, "_hash", hash((self.shape, self.error, _bytes(self.terms))))
        return self._hash

    def __copy__(self) -> SeparableKernel:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> SeparableKernel:
        return self

    def __dask_tokenize__(self) -> object:
        return type(self).__name__, self.shape, _bytes(self.terms), repr(self.error), self.noise

    def __reduce__(
        self,
    ) -> tuple[Callable[..., SeparableKernel], tuple[tuple[Term, ...], ErrorBounds, float | None]]:
        return _restore, (self.terms, self.error, self.noise)

    def plot(self, figure: Figure | None = None) -> Figure:
        """Draw the kernel written out, the taps of its terms along each axis, and its error.

        It needs ``pip install 'separable[plot]'``.

        Parameters
        ----------
        figure : matplotlib Figure, optional
            Drawn into; a new one of ``matplotlib.pyplot`` by default.

        Returns
        -------
        matplotlib Figure
            Its ``axes`` are the picture (of two axes or more; of more than two, the plane through the largest
            element), then one for each axis of the kernel. ``figure.savefig(path)`` writes it.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        words = f"{_html.by(self.shape)}, {plural(self.rank, 'term')}, {self.macs} MACs"
        return draw_kernel(self.dense(), self.terms, f"{words}; {self._error_text()}", figure)

    def _error_text(self) -> str:
        if self.error.l1 == 0:
            return "the terms are the kernel"
        return f"relative l1 error at most {self.error.relative_l1:.3g}"

    def _repr_html_(self) -> str:
        macs = f"{self.macs} MACs per sample, dense {self.size}{_html.ratio(self.size, self.macs)}"
        rows = [("cost", macs), ("error", self._error_text())]
        if self.noise is not None:
            rows.append(("noise", f"{self.noise:.3g} of the kernel in l1, estimated and left out"))
        pictures = []
        if self.ndim > 1 and self.size <= _DRAWN_SIZE:
            plane = _html.largest_plane(self.dense())
            caption = "written out" if self.ndim == 2 else "the plane through the largest"
            pictures.append((caption, _html.plane(plane)))
        first = "taps" if self.rank == 1 else "taps of the first term"
        for axis, taps in enumerate(self.terms[0]):
            pictures.append((f"{first}, axis {axis}", _html.stems(taps)))
        title = f"SeparableKernel {_html.by(self.shape)}, {plural(self.rank, 'term')}"
        return _html.block(title, _html.side_by_side(pictures), _html.facts(rows))

    def __repr__(self) -> str:
        noise = "" if self.noise is None else f", noise={self.noise:.3g}"
        return (
            f"SeparableKernel(shape={self.shape}, rank={self.rank}, macs={self.macs}, "
            f"relative_l1={self.error.relative_l1:.3g}{noise})"
        )


def _restore(terms: tuple[Term, ...], error: ErrorBounds, noise: float | None) -> SeparableKernel:
    return SeparableKernel(terms, error=error, noise=noise)


_restore.__module__ = "separable.kernel"  # what pickles name


def _bytes(terms: tuple[Term, ...]) -> bytes:
    return b"".join(taps.tobytes() for term in terms for taps in term)


def _checked_terms(terms: Iterable[Iterable[npt.ArrayLike]]) -> tuple[Term, ...]:
    if not isinstance(terms, Iterable):
        raise TypeError(f"`terms` is {type(terms).__name__}; expected a sequence of terms.")
    checked: list[Term] = []
    for t, term in enumerate(terms):
        if not isinstance(term, Iterable):
            raise TypeError(f"`terms[{t}]` is {term!r}; expected a term: one sequence of 1-D taps per axis.")
        checked.append(tuple(_checked_taps(f"terms[{t}][{a}]", taps) for a, taps in enumerate(term)))
    if not checked:
        raise ValueError("`terms` is empty; expected at least one term.")
    lengths = tuple(taps.size for taps in checked[0])
    if not 1 <= len(lengths) <= MAX_NDIM:
        raise ValueError(f"`terms[0]` has taps for {len(lengths)} axes; expected 1 to {MAX_NDIM}.")
    for t, checked_term in enumerate(checked):
        _check_term(t, checked_term, lengths)
    return tuple(checked)


def _checked_taps(name: str, values: npt.ArrayLike) -> FloatArray:
    array = read(name, values)
    if array.ndim != 1:
        raise ValueError(
            f"`{name}` has {array.ndim} dimensions; expected 1-D taps: a single term is written "
            "[[taps0, taps1]], and dense weights are factored by separable.factor(weights)."
        )
    if array.size == 0:
        raise ValueError(f"`{name}` is empty; expected at least one tap.")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"`{name}` has dtype {array.dtype}; expected real numbers.")
    with np.errstate(over="ignore"):  # a long double that overflows is reported as not finite
        taps = array.astype(np.float64) + 0.0  # no -0.0: equal kernels have equal bytes
    if not np.isfinite(taps).all():
        where = int(np.flatnonzero(~np.isfinite(taps))[0])
        raise ValueError(f"`{name}[{where}]` is {array[where]}; expected finite taps.")
    # Backed by bytes, not merely flagged read-only: it cannot be made writeable again.
    return np.frombuffer(taps.tobytes(), np.float64)


def _check_term(t: int, term: Term, lengths: tuple[int, ...]) -> None:
    got = tuple(taps.size for taps in term)
    if got != lengths:
        raise ValueError(
            f"`terms[{t}]` has tap counts {got}, terms[0] has {lengths}; expected the same in all terms: "
            "pad the shorter taps with zeros."
        )
    mantissas, exponents = zip(*(math.frexp(float(np.abs(taps).max())) for taps in term), strict=True)
    try:
        math.ldexp(math.prod(mantissas), sum(exponents))
    except OverflowError:
        raise ValueError(
            f"`terms[{t}]` overflows: the product of its largest taps exceeds float64; scale the taps down."
        ) from None
