"""One layer in one form: the nearest by its weights alone, or the nearest on the data that it sees."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final

import numpy as np

from ..._base.types import FloatArray, RealArray
from ..._base.workers import Workers
from ..algebra.descent import TAPS_AT_ONCE, Quadratic
from ..algebra.geometry import whole
from ..algebra.terms import Rank, rank_per_channel
from ..forms.form import LayerForm, Solution
from ..forms.layer import ConvLayer, Replacement
from ..forms.outputs import of_inputs, of_outputs
from ..forms.table import FORMS, form_of
from .moments import Excerpt, Moments
from .rectified import WantedOutputs
from .regularise import problems_of, regularised, shrinkage

__all__ = ["Fitter", "fit"]

# Fraction of the mean variance added to every variance, with weights that want no change: what the data leave
# open is settled by the original weights.
_RIDGE: Final = 1e-5

# Maximum number of descent sweeps.
_SWEEPS: Final = 40

# Sweeps before the rounds behind an activation, each of which has one more.
_SWEEPS_FIRST: Final = 8
_SWEEPS_FIRST_LARGE: Final = 4

# Systems solved in a sweep from which on it is a long one; sweeps then, unless asked otherwise, and before
# the rounds, which have none: the filters stay and what mixes them is fitted. Of 512 channels in four terms
# each a quarter of the time, for a tenth of the error behind the activation.
_MANY_SYSTEMS: Final = 8
_SWEEPS_LONG: Final = 8
_SWEEPS_FIRST_LONG: Final = 2

# Multiply-accumulates of factoring all these systems, at most: of 512 channels in four terms each it is nine
# sweeps, in eight terms none. One of those took minutes, for what nine terms have without any error.
_SWEEPS_WORK: Final = 5e11

# Sweeps that tell how much descent gains on a closed form.
_SWEEPS_SEEN: Final = 3

# Unknowns from which on a sweep takes long: descent is told at the first rank alone.
_LARGE: Final = 1500

# Outputs of a group that tell as much for a form that fits them apart.
_OUTPUTS: Final = 32

# Groups that tell as much, spread over all.
_GROUPS: Final = 32

# Rounds of fitting to what passes the rectifier, fewer where each takes long, and the gain of one below which
# they end.
_ROUNDS: Final = 12
_ROUNDS_LARGE: Final = 6
_ROUND_GAIN: Final = 2e-3


def fit(
    layer: ConvLayer,
    moments: Moments | None = None,
    form: str = "dw-pw",
    rank: Rank = 1,
    *,
    ridge: float = _RIDGE,
    sweeps: int = _SWEEPS,
    rounds: int = _ROUNDS,
) -> Replacement:
    """Return a layer in another form, as near to what it gave as descent finds.

    Parameters
    ----------
    layer : ConvLayer
    moments : Moments, optional
        Of what the layer reads and what it should give. Without them the weights are approximated in the
        Frobenius norm.
    form : {"dw-pw", "pw-dw", "spatial", "low-rank", "dense"}, optional
        "dense" keeps the form and, with data, fits its weights anew.
    rank : int or sequence of int, optional
        Terms T of "dw-pw" (a sequence: of each input channel, 0 allowed, for one group) and "pw-dw";
        channels in each group between the convolutions of "spatial" and "low-rank". No "dense" has one.
        More than the form's full rank counts as that, and is exact.
    ridge : float, optional
        This fraction of the mean variance is added to every variance, pulling towards the original weights.
    sweeps : int, optional
        Sweeps of descent, at most.
    rounds : int, optional
        Rounds of fitting to what the activation lets pass, where the moments kept an excerpt; 0: none.

    Returns
    -------
    Replacement

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, the layer does not have the form, or the moments are those of
        another layer.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> rng = np.random.default_rng(0)
    >>> weights = rng.standard_normal((8, 4, 3, 3))
    >>> layer = sp.conv.ConvLayer("conv", weights, padding=((1, 1), (1, 1)), sizes=(10, 10))
    >>> smooth = rng.standard_normal((64, 4, 10, 10)).cumsum(axis=2).cumsum(axis=3)
    >>> moments = sp.conv.Moments(layer)
    >>> moments.add(smooth, layer(smooth))
    >>> blind, seeing = sp.conv.fit(layer), sp.conv.fit(layer, moments)
    >>> results = [new.convs[1](new.convs[0](smooth)) for new in (blind, seeing)]
    >>> errors = [np.mean((y - layer(smooth)) ** 2) for y in results]
    >>> bool(errors[1] < 0.5 * errors[0])  # data are kinder than the weights alone
    True
    """
    return Fitter(layer, moments, ridge=ridge).replacement(form, rank, sweeps=sweeps, rounds=rounds)


class Fitter:
    """Everything about one layer and its data that several forms and ranks share.

    Parameters
    ----------
    layer : ConvLayer
    moments : Moments, optional
    ridge : float, optional
        As for :func:`fit`.
    workers : Workers, optional
        Threads for what is independent.
    last : bool, optional
        Whether nobody needs the moments afterwards: their memory is free as soon as they are read.

    Raises
    ------
    ValueError
        If the moments are those of a layer of other shapes, or `ridge` is not positive.
    """

    def __init__(
        self,
        layer: ConvLayer,
        moments: Moments | None = None,
        *,
        ridge: float = _RIDGE,
        workers: Workers | None = None,
        last: bool = False,
    ) -> None:
        if not 0.0 < ridge < math.inf:
            raise ValueError(
                f"`ridge={ridge!r}` is not a fraction of the variance; expected > 0, such as 1e-5."
            )
        self._whole = layer
        self.layer = layer = layer if moments is None else of_outputs(layer) or layer
        self._flat = _matrices(layer, layer.weights)
        # The error on the data, and that which is fitted to: shrunk by a fraction, and with a ridge.
        self._problems: list[Quadratic] = []
        self._trusted: list[Quadratic] = []
        self._fraction = 0.0
        self._excerpt: Excerpt | None = None
        self._workers = workers or Workers()
        if moments is not None:
            wanted = self._whole.weights.shape
            if moments.layer.weights.shape != wanted or moments.layer.groups != layer.groups:
                raise ValueError(
                    f"`moments` are those of layer {moments.layer.name!r} with weights "
                    f"{moments.layer.weights.shape}; expected {wanted}, as {layer.name!r} has."
                )
            self._excerpt = moments.take_excerpt() if last else moments.excerpt
            taps = layer.taps
            self._fraction = shrinkage(moments.halves, taps, self._flat, ridge, self._workers)
            total = moments.take_total() if last else moments.total
            self._seen = total.means
            self._variance = float(self._seen.variance_y.sum())
            self._problems = problems_of(total, taps)
            del total
            self._trusted = [
                regularised(problem, flat, self._fraction, ridge)
                for problem, flat in zip(self._problems, self._flat, strict=True)
            ]

    @cached_property
    def _wanted(self) -> WantedOutputs:
        """What is wanted behind the activation, of a layer with an excerpt."""
        assert self._excerpt is not None
        return WantedOutputs(
            self._seen, self._excerpt, self.layer.groups, self.layer.activation, self._workers
        )

    @property
    def is_large(self) -> bool:
        """Whether a sweep of descent takes long."""
        return bool(self._problems) and len(self._problems[0].gram) > _LARGE

    def replacement(
        self, form: str, rank: Rank = 1, *, sweeps: int = _SWEEPS, rounds: int = _ROUNDS
    ) -> Replacement:
        """Return the layer in a form, fitted.

        Parameters
        ----------
        form, rank, sweeps, rounds
            As for :func:`fit`.

        Returns
        -------
        Replacement
        """
        new = self._replacement(form_of(form), rank, sweeps, rounds)
        return new if self.layer is self._whole else of_inputs(new, self._whole)

    def _replacement(self, form: LayerForm, rank: Rank, sweeps: int, rounds: int) -> Replacement:
        rank = self._checked_rank(form, rank)
        layer = self.layer
        if not self._problems:
            return self._finished(form, rank, layer.weights, layer.bias)
        problems = self._trusted
        rectified = bool(rounds) and self._excerpt is not None
        first = self._first_sweeps(form, rank, sweeps, rectified)
        fits = [self._solved(problem, form, rank, None, first) for problem in problems]
        fits = self._no_worse_than_blind(form, rank, fits)
        mean_y = self._seen.y
        if rectified:
            fits, mean_y = self._rectified(form, rank, problems, fits, rounds)
        return self._of_matrices(form, rank, [flat for flat, _ in fits], mean_y)

    def closed(self, form: str, rank: int) -> Replacement:
        """Return the layer in the closed form that :meth:`closed_errors` is of: without any descent.

        What an error of a layer does to a network shows on it, long before a fit ends.
        """
        asked = form_of(form)
        if not self._problems:
            return self.replacement(form, rank)
        full = rank == asked.full_rank(self.layer)
        flats = [
            problem.optimum if full else asked.closed(self.layer, problem, rank) for problem in self._trusted
        ]
        new = self._of_matrices(asked, rank, flats, self._seen.y)
        return new if self.layer is self._whole else of_inputs(new, self._whole)

    def _of_matrices(
        self, form: LayerForm, rank: Rank, flats: Sequence[RealArray], mean_y: FloatArray
    ) -> Replacement:
        """Return the layer of weights (I*K, O) of each group, its outputs' mean as wanted."""
        layer = self.layer
        weights = self._dense(flats)
        carried = weights.reshape(layer.groups, layer.c_out // layer.groups, -1)
        means = self._seen.x.reshape(layer.groups, -1)
        bias = mean_y - (carried @ means[:, :, np.newaxis]).reshape(-1)
        return self._finished(form, rank, weights, bias)

    def _first_sweeps(self, form: LayerForm, rank: Rank, sweeps: int, rectified: bool) -> int:
        """Return how many sweeps are done before the rounds; all of them, if there are no rounds."""
        long = self._is_long(form, rank)
        if not rectified:
            return _SWEEPS_LONG if long and sweeps == _SWEEPS else sweeps
        large = _SWEEPS_FIRST_LARGE if self.is_large else _SWEEPS_FIRST
        return min(sweeps, _SWEEPS_FIRST_LONG if long else large)

    def _is_long(self, form: LayerForm, rank: Rank) -> bool:
        """Whether a sweep solves many systems as large as all terms."""
        return form.systems(self.layer, rank) > _MANY_SYSTEMS

    def closed_errors(self, form: str, ranks: Sequence[int]) -> list[float]:
        """Return the error of the closed form of each of some ranks of a form.

        It is best for a covariance without correlations between channels, or between channels and taps; its
        error is that for the true one.

        Parameters
        ----------
        form : str
        ranks : sequence of int
            Ascending.

        Returns
        -------
        list of float
            As :attr:`Replacement.error`; never rising.
        """
        asked = form_of(form)
        if not self._problems:
            errors = [self.replacement(form, rank).error for rank in ranks]
        elif not self._variance:
            errors = [0.0] * len(ranks)
        else:
            losses = sum(asked.losses(self.layer, problem, ranks) for problem in self._trusted)
            errors = (np.maximum(losses, 0.0) / self._variance).tolist()
        return list(itertools.accumulate(errors, min))

    def errors(self, form: str, ranks: Sequence[int], closed: Sequence[float] | None = None) -> list[float]:
        """Return about the error of each of some ranks of a form, without the rounds behind the activation.

        Parameters
        ----------
        form : str
        ranks : sequence of int
            Ascending.
        closed : sequence of float, optional
            What :meth:`closed_errors` returned: what descent gains on them is measured at two ranks.

        Returns
        -------
        list of float
            As :attr:`Replacement.error`; never rising.
        """
        asked = form_of(form)
        known = self.closed_errors(form, ranks) if closed is None else list(closed)
        if not self._problems or not self._variance or asked.settles(self.layer):
            return known
        gains = self._gains(asked, self._trusted, ranks, np.array(known))
        return list(itertools.accumulate((gains * known).tolist(), min))

    def _gains(
        self, form: LayerForm, problems: Sequence[Quadratic], ranks: Sequence[int], closed: FloatArray
    ) -> FloatArray:
        """Return what descent leaves of the errors of closed forms, measured at two ranks."""
        places = [0] if self.is_large else sorted({0, len(ranks) // 4})
        if form.apart:  # some outputs stand for all
            step = -(-self.layer.c_out // self.layer.groups // _OUTPUTS)
            problems = [problem.of_outputs(slice(None, None, step)) for problem in problems]
        fewer = form.apart or len(problems) > _GROUPS
        problems = problems[:: -(-len(problems) // _GROUPS)]
        energy = sum(problem.energy for problem in problems)
        left = []
        for place in places:
            rank = ranks[place]
            fitted = [self._solved(problem, form, rank, None, _SWEEPS_SEEN)[0] for problem in problems]
            after = sum(problem.loss(flat) for problem, flat in zip(problems, fitted, strict=True))
            before = float(closed[place]) * self._variance
            if fewer:
                before = sum(float(form.losses(self.layer, problem, [rank])[0]) for problem in problems)
            left.append(min(max(after, 0.0) / before, 1.0) if before > 1e-12 * energy else 1.0)
        gains: FloatArray = np.interp(np.arange(len(ranks)), places, left)
        return gains

    def _checked_rank(self, form: LayerForm, rank: Rank) -> Rank:
        most = form.full_rank(self.layer)
        if not most:
            raise ValueError(
                f"layer {self.layer.name!r} with {self.layer.kernel} taps has no form {form.name!r}; "
                "leave it out."
            )
        if not form.ranked:
            return most
        if not isinstance(rank, Iterable):
            return form.limited(self.layer, rank)
        if not form.uneven or self.layer.groups > 1:
            names = " or ".join(repr(name) for name, other in FORMS.items() if other.uneven)
            raise ValueError(f"`rank` for each channel needs form {names} and one group; pass one int.")
        return tuple(min(r, most) for r in rank_per_channel(rank, self.layer.c_in))

    def _solved(
        self, problem: Quadratic, form: LayerForm, rank: Rank, start: RealArray | None, sweeps: int
    ) -> Solution:
        """Return the weights (I*K, O) that fit a group best in a form, and what to start from next time."""
        if rank == form.full_rank(self.layer):
            return problem.optimum, None
        return form.solve(self.layer, problem, rank, start, min(sweeps, self._affordable(form, rank)))

    def _affordable(self, form: LayerForm, rank: Rank) -> int:
        """Return how many sweeps are not too much work."""
        systems = form.systems(self.layer, rank)
        terms = systems * TAPS_AT_ONCE / self.layer.taps
        return int(_SWEEPS_WORK / (systems * terms**3 / 3))

    def _no_worse_than_blind(self, form: LayerForm, rank: Rank, fits: Sequence[Solution]) -> list[Solution]:
        """Return the fits, exchanged in each group for the best of the weights alone where that errs less.

        Descent ends at a local minimum, a form may be fitted one convolution after the other, and few data
        are trusted in part only: none of these promises as little error on the data as to ignore them.
        """
        if rank == form.full_rank(self.layer) or self.layer is not self._whole:
            return list(fits)  # the optimum; of a layer of outputs the weights alone say nothing
        convs = form.convs(self.layer, rank, self.layer.weights, None)
        blind = _matrices(self.layer, form.composed(self.layer, rank, convs))
        return [
            (alone, start) if self._loss(group, alone) < self._loss(group, flat) else (flat, start)
            for group, (alone, (flat, start)) in enumerate(zip(blind, fits, strict=True))
        ]

    def _dense(self, flats: Sequence[RealArray]) -> FloatArray:
        """Return weights (I*K, O) of each group as dense ones."""
        dense = np.concatenate([flat.T for flat in flats]).astype(np.float64, copy=False)
        return dense.reshape(self.layer.weights.shape)

    def _error_of(self, flats: Sequence[RealArray]) -> float:
        """Return the error of weights (I*K, O) of each group on the data."""
        left = sum(self._loss(group, flat) for group, flat in enumerate(flats))
        return max(left, 0.0) / self._variance if self._variance > 0 else 0.0

    def _loss(self, group: int, flat: RealArray) -> float:
        """Return the squared error of weights (I*K, O) of one group on the data."""
        return self._problems[group].loss(flat)

    def _error(self, weights: FloatArray) -> float:
        if self._problems:
            return self._error_of(_matrices(self.layer, weights))
        whole_l2 = float(np.square(self.layer.weights).sum())
        return float(np.square(weights - self.layer.weights).sum()) / whole_l2 if whole_l2 > 0 else 0.0

    def _finished(
        self, form: LayerForm, rank: Rank, weights: FloatArray, bias: FloatArray | None
    ) -> Replacement:
        layer = self.layer
        convs = form.convs(layer, rank, weights, bias)
        error = self._error(weights if self._problems else form.composed(layer, rank, convs))
        if not isinstance(rank, Iterable):
            return Replacement(form.name, whole(rank, "rank") if form.ranked else 0, convs, error)
        ranks = tuple(int(r) for r in rank)
        owners = tuple(np.repeat(np.arange(len(ranks)), ranks).tolist())
        return Replacement(form.name, ranks, convs, error, channels=owners)

    # -- behind the activation ---------------------------------------------------------------------------

    def _rectified(
        self,
        form: LayerForm,
        rank: Rank,
        problems: Sequence[Quadratic],
        fits: list[Solution],
        rounds: int,
    ) -> tuple[list[Solution], FloatArray]:
        """Fit again to outputs of which only what passes the rectifier matters.

        Where an output is to be cut off, whatever lies below the floor is right. So the wanted output is
        exchanged for the nearest right one to what the layer gives, and the layer fitted to that, in
        turn: both steps lower the distance between them, which bounds the error behind the rectifier.
        """
        trust = 1 - self._fraction
        mean_y = self._seen.y
        best, least = (fits, mean_y), math.inf
        most = min(rounds, _ROUNDS_LARGE) if self.is_large else rounds
        sweeps = 0 if self._is_long(form, rank) else 1
        for number in range(most + 1):
            flats = [flat for flat, _ in fits]
            aim = self._wanted.aim(flats, mean_y)
            if aim.error < least:
                best = fits, mean_y
            if number == most or aim.error > (1 - _ROUND_GAIN) * least:
                break
            least = aim.error
            mean_y = self._seen.y + aim.shift
            fits = [
                self._solved(
                    problem.aimed(problem.pull + trust * pull, problem.energies + trust * energies),
                    form,
                    rank,
                    start,
                    sweeps,
                )
                for problem, pull, energies, (_, start) in zip(
                    problems, aim.pulls, aim.energies, fits, strict=True
                )
            ]
        return best


def _matrices(layer: ConvLayer, weights: FloatArray) -> list[FloatArray]:
    """Return dense weights as a matrix ``(I*K, O)`` for each group."""
    return [rows.reshape(len(rows), -1).T for rows in np.split(weights, layer.groups)]
