"""From dense weights to a sum of few outer products: the verbs."""

from __future__ import annotations

import math
import warnings
from typing import Final, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from .._base.errors import EffortWarning, NotSeparableError
from .._base.types import FloatArray
from ..kernel.value import SeparableKernel
from .arguments import checked_effort, checked_rank, checked_tol, checked_weights
from .effort import DEFAULT_EFFORT, Effort
from .noise import Noise, noise_of
from .search import search, too_large

# Relative l1 error: below the rounding of a float32 filter, above that of float32 weights.
DEFAULT_TOL: Final = 1e-6

# Factor on the estimated noise: sums that share passes may err more than all singular vectors together.
_NOISE_MARGIN: Final = 1.02


def factor(
    weights: npt.ArrayLike,
    tol: float | Literal["noise"] | None = None,
    rank: SupportsIndex | None = None,
    *,
    effort: float = DEFAULT_EFFORT,
) -> SeparableKernel:
    """Write dense weights as the sum of outer products of 1-D taps that is cheapest to run.

    Parameters
    ----------
    weights : array_like, shape ``(n0, n1, ...)``
        Real kernel of 1 to 8 axes. Its scale does not matter: 1e-300 times a kernel has the same rank.
    tol : float or "noise", optional
        Relative l1 error allowed, ``||k - k^||_1 / ||k||_1``. Alone it asks for the fewest multiplications
        within it; where rounding keeps every number of terms from it (``tol=0``, say), for the fewest
        that come as close as rounding lets them. ``"noise"``: the noise of a measured kernel, estimated from
        its own singular values (Notes). Neither `tol` nor `rank`: 1e-6.
    rank : int, optional
        The largest number of terms. Alone it asks for the best approximation with that many (fewer
        where the kernel has fewer) in the least-squares sense, whatever its error. With `tol`: the
        fewest multiplications within `tol`, and an error where `rank` terms do not reach it.
    effort : float, optional
        Multiplications that the search may take; the default of 1e10 takes 2 to 5 seconds of a core. They
        are counted, so that what is found depends neither on the machine nor on its load. The ways in the
        Notes are tried in turn, and what they have found by then is compared. Only kernels of thousands of
        terms, or of sides beyond a thousand, need more to be factored at all.

    Returns
    -------
    SeparableKernel
        With its certified `error`, and with `noise` where that was asked for. Where the weights are exactly
        symmetric or antisymmetric along an axis, so are all taps along it; sums of several terms keep the
        symmetry through the centre too. The filters run such taps in half the multiplications. Terms of three
        axes may have equal taps along the first or the last axis, to the last bit: filters run those once.

    Warns
    -----
    EffortWarning
        If `effort` ended before terms within `tol` were found: what is returned is the closest until then,
        and its `error` says how close that is.

    Raises
    ------
    NotSeparableError
        If both are given and `rank` terms do not reach `tol`. It carries the numbers.
    TypeError, ValueError
        If an argument is not as described, if the SVD would need more than 2 GiB, or if a kernel is too
        small to tell its noise (fewer than six rows or columns that symmetry does not repeat).

    Notes
    -----
    A kernel of rank one is read off its fibres through the largest element: exactly, with integer taps,
    where the weights are integers (or integers times a power of two). For other kernels these are compared,
    and the cheapest within `tol` is returned:

    - the singular value decomposition; with more axes one axis is split off after the other, in every
      order up to four axes;
    - for integers, or integers times one number such as 1/441, the exact factors in small integers [3]_;
    - three axes: lines along the first and the last axis, and taps between some pairs of them. Staged and
      Tucker decompositions are of this kind; terms are dropped one by one and the others fitted again [4]_;
    - three axes or more: sums that share nothing, by alternating least squares [2]_;
    - each of them fitted to the least absolute error, which is what `tol` limits, where that saves a term.

    Noise is taken to be independent from sample to sample and equally strong everywhere. The singular values
    it leaves follow a known law, which their median is compared with [5]_. What stands out of that law along
    each axis is taken as the kernel, and the terms reach the l1 error that this leaves (1.02 times that, and
    not less than 1e-6).

    References
    ----------
    .. [1] C. Eckart, G. Young, The approximation of one matrix by another of lower rank,
       Psychometrika 1, 1936.
    .. [2] L. De Lathauwer, B. De Moor, J. Vandewalle, On the best rank-1 and rank-(R1,...,RN)
       approximation of higher-order tensors, SIAM J. Matrix Anal. Appl. 21(4), 2000.
    .. [3] A. K. Lenstra, H. W. Lenstra, L. Lovasz, Factoring polynomials with rational coefficients,
       Mathematische Annalen 261, 1982.
    .. [4] B. Hassibi, D. G. Stork, Second order derivatives for network pruning: optimal brain surgeon,
       NIPS 5, 1992.
    .. [5] M. Gavish, D. L. Donoho, The optimal hard threshold for singular values is 4/sqrt(3),
       IEEE Trans. Information Theory 60(8), 2014.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> sp.factor([[1, 0, -1], [2, 0, -2], [1, 0, -1]]).terms[0]
    (array([1., 2., 1.]), array([ 1.,  0., -1.]))

    What does not separate is a sum of terms, of as many as the tolerance takes:

    >>> disk = sp.families.disk(12)
    >>> [sp.factor(disk, tol).rank for tol in (0.1, 0.03, 1e-6)]
    [3, 7, 9]
    >>> blur = sp.factor(disk, tol=0.03)
    >>> blur.error.relative_l1 <= 0.03, blur.macs < blur.size
    (True, True)
    """
    work = Effort(checked_effort(effort))
    kernel = factored(weights, tol, rank, work)
    if work.ended and not within(kernel, tol, rank):
        warnings.warn(
            f"the search for terms ended after effort={work.allowed:g} multiplications with a relative l1 "
            f"error of {kernel.error.relative_l1:.2g}, more than "
            f"tol={DEFAULT_TOL if tol is None else tol:g}; "
            "raise effort, or raise tol.",
            EffortWarning,
            stacklevel=2,
        )
    return kernel


def factored(
    weights: npt.ArrayLike,
    tol: float | Literal["noise"] | None,
    rank: SupportsIndex | None,
    work: Effort,
) -> SeparableKernel:
    """Return the kernel of `factor`; `work` counts the multiplications and says whether it ended."""
    dense = checked_weights(weights)
    squeezed = dense.squeeze()
    noise = _noise(squeezed) if isinstance(tol, str) and tol == "noise" else None
    allowed = checked_tol(tol) if noise is None else max(_NOISE_MARGIN * noise.floor, DEFAULT_TOL)
    limit = checked_rank(rank)
    if allowed is None and limit is None:
        allowed = DEFAULT_TOL
    kernel = search(squeezed, allowed, limit, work)
    if allowed is not None and limit is not None and kernel.error.relative_l1 > allowed:
        raise _not_separable(squeezed, dense.shape, kernel, allowed, limit)
    return _with_single_taps(kernel, dense.shape, None if noise is None else noise.level)


def within(kernel: SeparableKernel, tol: float | str | None, rank: SupportsIndex | None = None) -> bool:
    """Return whether a kernel is within `tol`; True for "noise", and for a rank without tolerance."""
    if isinstance(tol, str) or (tol is None and rank is not None):
        return True
    return kernel.error.relative_l1 <= (DEFAULT_TOL if tol is None else float(tol))


def is_separable(weights: npt.ArrayLike, tol: float | None = None) -> bool:
    """Tell whether dense weights are one outer product of 1-D taps, within a relative l1 error.

    Parameters
    ----------
    weights : array_like, shape ``(n0, n1, ...)``
        As for :func:`factor`.
    tol : float, optional
        Relative l1 error allowed. Default: 1e-6.

    Returns
    -------
    bool
        The same for the weights times any non-zero number.

    Raises
    ------
    TypeError, ValueError
        As for :func:`factor`.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> sp.is_separable(np.outer([1, 2, 1], [1, 0, -1]))
    True
    >>> sp.is_separable([[0, 1, 0], [1, -4, 1], [0, 1, 0]])  # the Laplacian: a sum of two terms
    False
    """
    dense = checked_weights(weights)
    allowed = checked_tol(tol)
    limit = DEFAULT_TOL if allowed is None else allowed
    return search(dense.squeeze(), limit, 1).error.relative_l1 <= limit


def _noise(squeezed: FloatArray) -> Noise:
    """Return the estimated noise, at a scale where squares neither over- nor underflow."""
    if squeezed.ndim > 1 and too_large(squeezed.shape):
        raise ValueError(
            f"`tol='noise'` needs the SVD of the weights, too large for shape {squeezed.shape}; "
            "crop the kernel, or give `tol` as a number."
        )
    largest = float(np.abs(squeezed).max())
    return noise_of(np.ldexp(squeezed, -math.frexp(largest)[1]))


def _with_single_taps(
    kernel: SeparableKernel, shape: tuple[int, ...], noise: float | None
) -> SeparableKernel:
    """Return the kernel with the squeezed axes of length 1 restored, with taps of 1."""
    long_axes = [axis for axis, n in enumerate(shape) if n > 1] or [0]
    terms: list[list[npt.ArrayLike]] = []
    for term in kernel.terms:
        full: list[npt.ArrayLike] = [[1.0] for _ in shape]
        for axis, taps in zip(long_axes, term, strict=True):
            full[axis] = taps
        terms.append(full)
    return SeparableKernel(terms, error=kernel.error, noise=noise)


def _not_separable(
    squeezed: FloatArray, shape: tuple[int, ...], best: SeparableKernel, tol: float, rank: int
) -> NotSeparableError:
    relative = best.error.relative_l1
    if too_large(squeezed.shape):
        fix = "It is too large to say which rank is; crop it or raise tol."
    elif (enough := search(squeezed, tol, None, Effort(DEFAULT_EFFORT))).error.relative_l1 <= tol:
        fix = f"Pass rank={enough.rank} or raise tol."
    else:
        fix = f"No rank reaches it in float64; raise tol to {2 * enough.error.relative_l1:.1e}."
    return NotSeparableError(
        f"kernel {shape} is not rank {rank}: relative l1 error {relative:.3g} > tol {tol:g}. {fix}",
        relative_l1=relative,
        tol=tol,
        rank=rank,
    )
