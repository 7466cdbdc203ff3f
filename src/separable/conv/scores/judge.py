"""Outputs of two networks, input by input, and what a metric says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from ..._base.types import Array
from .interval import jackknife
from .metrics import Metric, MetricLike, metric_of
from .records import Score

__all__ = ["Answers", "Judge", "judge_of"]

# Of a batch: how many inputs it holds, which of them are scored, and the outputs of the original and of what
# it has become, by name.
Answers: TypeAlias = tuple[int, Sequence[int], Mapping[str, Array], Mapping[str, Array]]

# Groups of inputs that are left out in turn to see how sure a score is.
_GROUPS: Final = 20


class Judge:
    """A metric, and what outputs are compared with.

    Parameters
    ----------
    metric : Metric
    labels : sequence or ndarray, optional
        One for each input of the data that are scored. Without them the outputs are compared with those of
        the original network.
    """

    def __init__(self, metric: Metric, labels: Any = None) -> None:
        self.metric = metric
        self._labels = labels if labels is None or hasattr(labels, "__getitem__") else list(labels)

    def score(self, answers: Iterable[Answers], held_out: bool) -> Score:
        """Return what the metric says of two networks.

        Parameters
        ----------
        answers : iterable of (int, sequence of int, mapping, mapping)
            Of all batches in order, those too of which nothing is scored.
        held_out : bool
            Whether none of the inputs that are scored was fitted to.

        Returns
        -------
        Score

        Raises
        ------
        ValueError
            If there are not as many labels as inputs, or outputs cannot be told apart by input.
        """
        before, after, places, seen, widest = _Outputs(), _Outputs(), [], 0, 1
        for inputs, rows, old, new in answers:
            before.add(inputs, rows, old)
            after.add(inputs, rows, new)
            places += [seen + int(row) for row in rows]
            seen, widest = seen + inputs, max(widest, inputs)
        self._check_labels(seen, widest)

        def both(chosen: Sequence[int]) -> tuple[float, float]:
            old, new = before.of(chosen), after.of(chosen)
            labels = old if self._labels is None else _entries(self._labels, [places[n] for n in chosen])
            return self.metric(old, labels), self.metric(new, labels)

        everything = range(len(places))
        whole = self._score(*both(everything), len(places), held_out)
        groups = np.array_split(np.arange(len(places)), max(1, min(len(places), _GROUPS)))
        if len(groups) < 2 or not np.isfinite(whole.drop):
            return whole
        drops = [
            self._score(*both([n for n in everything if n not in left]), 0, held_out).drop
            for left in (set(group.tolist()) for group in groups)
        ]
        half = jackknife(np.array(drops))
        if not 0 < half < np.inf:  # inputs that all score alike do not tell how others would
            return whole
        interval = (whole.drop - half, whole.drop + half)
        return Score(**{**vars(whole), "drop_interval": interval})

    def _score(self, before: float, after: float, inputs: int, held_out: bool) -> Score:
        return Score(
            metric=self.metric.name,
            before=before,
            after=after,
            larger_is_better=self.metric.larger_is_better,
            targets="outputs" if self._labels is None else "labels",
            inputs=inputs,
            held_out=held_out,
        )

    def _check_labels(self, inputs: int, widest: int) -> None:
        """Refuse labels that are not one for each input; of a last batch that is too small some are left."""
        if self._labels is not None and not 0 <= len(self._labels) - inputs < widest:
            raise ValueError(
                f"`labels` holds {len(self._labels)} entries, and the data {inputs} inputs; expected one "
                "label for each input, in their order."
            )


def judge_of(metric: MetricLike | None, labels: Any = None, validation: Any = None) -> Judge | None:
    """Return who scores, as callers ask for it; None where nobody is to.

    Parameters
    ----------
    metric : Metric, callable or str, optional
    labels : sequence or ndarray, optional
    validation : optional
        Data that are to be scored.

    Returns
    -------
    Judge or None

    Raises
    ------
    TypeError, ValueError
        If `metric` is none, or missing where the others are given.
    """
    if metric is not None:
        return Judge(metric_of(metric), labels)
    for name, value in (("labels", labels), ("validation", validation)):
        if value is not None:
            raise ValueError(
                f"`{name}` is given and `metric` is not, so that nothing would be scored; pass "
                'metric="accuracy", or a function of outputs and labels.'
            )
    return None


class _Outputs:
    """Outputs of a network, input by input."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Array]] = {}
        self._by_row = True  # whether each input is one row of every output

    def add(self, inputs: int, rows: Sequence[int], outputs: Mapping[str, Array]) -> None:
        """Add those of a batch."""
        for name, array in outputs.items():
            parts = self._parts.setdefault(name, [])
            if array.ndim and inputs and len(array) % inputs == 0:
                wide = len(array) // inputs
                self._by_row &= wide == 1
                parts += [array[wide * row : wide * (row + 1)] for row in rows]
            elif inputs == 1:
                self._by_row = False
                parts += [array for _ in rows]
            elif rows:
                raise ValueError(
                    f"output `{name}` has shape {array.shape} for a batch of {inputs} inputs: a metric "
                    "cannot tell whose its rows are; pass inputs one by one (batch_size=1)."
                )

    def of(self, places: Sequence[int]) -> Any:
        """Return the outputs of some inputs as a metric takes them."""
        chosen = {name: self._joined([parts[n] for n in places]) for name, parts in self._parts.items()}
        return next(iter(chosen.values())) if len(chosen) == 1 else chosen

    def _joined(self, parts: list[Array]) -> Any:
        if self._by_row and len({part.shape for part in parts}) == 1:
            return np.concatenate(parts)
        return [part[0] for part in parts] if self._by_row else parts


def _entries(labels: Any, places: Sequence[int]) -> Any:
    if isinstance(labels, np.ndarray):
        return labels[list(places)]
    chosen = [labels[place] for place in places]
    numbers = all(isinstance(label, (bool, int, float, np.generic)) for label in chosen)
    return np.array(chosen) if numbers and chosen else chosen
