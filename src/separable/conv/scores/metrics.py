"""Metrics of the user's own: accuracy, character error rate, or any function of outputs and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from ..._base.types import Array

__all__ = ["METRICS", "Metric", "MetricLike", "accuracy", "character_error_rate", "metric_of"]


@dataclass(frozen=True)
class Metric:
    """A function of a network's outputs and of labels, and which direction is better.

    Parameters
    ----------
    function : callable
        Of outputs and labels; returns a number. A network's only output is an array of all inputs along its
        first axis, or a list of one array for each input where their shapes differ; several outputs are a
        mapping of those by name.
    name : str
    larger_is_better : bool, optional

    Examples
    --------
    >>> import numpy as np
    >>> from separable.conv import Metric
    >>> def largest_miss(outputs, labels):
    ...     return np.abs(outputs - labels).max()
    >>> metric = Metric(largest_miss, "largest miss", larger_is_better=False)  # separate(..., metric=metric)
    >>> metric(np.array([1.0, 2.0]), np.array([1.0, 2.5]))
    0.5
    """

    function: Callable[[Any, Any], float]
    name: str
    larger_is_better: bool = True

    def __call__(self, outputs: Any, labels: Any) -> float:
        """Return the metric.

        Raises
        ------
        TypeError
            If the function returns no number.
        """
        value = self.function(outputs, labels)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"`metric` {self.name} returned {value!r}, a {type(value).__name__}; expected a number, "
                "such as float((outputs.argmax(1) == labels).mean())."
            ) from None


MetricLike: TypeAlias = Metric | Callable[[Any, Any], float] | str


def metric_of(given: MetricLike) -> Metric:
    """Return a metric by its name, or of a function: larger is better there.

    Parameters
    ----------
    given : Metric, callable or str

    Returns
    -------
    Metric

    Raises
    ------
    TypeError, ValueError
        If it is none, or the name of none.
    """
    if isinstance(given, Metric):
        return given
    if isinstance(given, str):
        if given not in METRICS:
            raise ValueError(
                f"`metric={given!r}` is no metric; expected {', '.join(map(repr, METRICS))}, or a function "
                "of outputs and labels."
            )
        return METRICS[given]
    if not callable(given):
        raise TypeError(
            f"`metric` is a {type(given).__name__}; expected {', '.join(map(repr, METRICS))}, a function of "
            "outputs and labels, or separable.conv.Metric(function, name, larger_is_better=False)."
        )
    return Metric(given, getattr(given, "__name__", type(given).__name__))


def accuracy(outputs: Any, labels: Any) -> float:
    """Return the fraction of labels that a network gives.

    Parameters
    ----------
    outputs : array_like, or list of these
        Scores of classes, which lie along the axis that `labels` lack, such as ``(N, classes)`` or
        ``(N, classes, height, width)``; or labels.
    labels : array_like, or list of these
        Whole numbers; or scores, as another network gives them: the class of the largest counts.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the shapes do not go together.

    Examples
    --------
    >>> from separable.conv import accuracy
    >>> accuracy([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4]], [1, 0, 1])
    0.6666666666666666
    """
    if isinstance(outputs, dict):
        raise TypeError(f"accuracy is of one output, and the network has {', '.join(outputs)}.")
    pairs = [(outputs, labels)]
    if isinstance(outputs, list):  # of one input each
        if len(outputs) != len(labels):
            raise ValueError(f"accuracy: {len(outputs)} outputs and {len(labels)} labels; expected as many.")
        pairs = list(zip(outputs, labels, strict=True))
    right = [_right(np.asarray(given), np.asarray(label)) for given, label in pairs]
    count = sum(part.size for part in right)
    return float(sum(part.sum() for part in right) / count) if count else float("nan")


def _right(outputs: Array, labels: Array) -> Array:
    """Return which labels are given."""
    if outputs.shape == labels.shape and outputs.dtype.kind == labels.dtype.kind == "f":
        outputs, labels = (array.argmax(_class_axis(array)) for array in (outputs, labels))
    for axis in (1, outputs.ndim - 1, 0):
        if axis < outputs.ndim and outputs.shape[:axis] + outputs.shape[axis + 1 :] == labels.shape:
            if outputs.shape[axis] < 2:
                raise ValueError(
                    f"accuracy: outputs {outputs.shape} hold one number for each label, not a score for each "
                    "class; pass a function, such as lambda y, t: ((y[:, 0] > 0.5) == t).mean()."
                )
            outputs = outputs.argmax(axis)
            break
    if outputs.shape != labels.shape:
        raise ValueError(
            f"accuracy: outputs {outputs.shape} do not go with labels {labels.shape}; expected scores of "
            "classes along one axis that the labels lack, such as (N, classes) and (N,)."
        )
    return np.asarray(outputs == labels)


def _class_axis(array: Array) -> int:
    return 1 if array.ndim > 1 else 0


def character_error_rate(characters: Sequence[str] | None = None, blank: int = 0) -> Metric:
    """Return the metric of text recognition: edits from the text that is read to the label, over its length.

    Outputs are scores ``(N, steps, classes)`` of connectionist temporal classification, decoded greedily: the
    best class of each step, repeats once, blanks left out.

    Parameters
    ----------
    characters : sequence of str, optional
        Of the classes in their order, the blank left out. Without it labels are sequences of class numbers,
        in which negative ones are padding.
    blank : int, optional
        The class that stands for none.

    Returns
    -------
    Metric
        Smaller is better.

    References
    ----------
    Graves et al., "Connectionist temporal classification", ICML 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from separable.conv import character_error_rate
    >>> rate = character_error_rate("abc")
    >>> scores = np.eye(4)[[[1, 1, 0, 2, 3]]]  # a, a, blank, b, c: read as "abc"
    >>> rate(scores, ["abc"]), round(rate(scores, ["aba"]), 3)
    (0.0, 0.333)
    """
    classes = None
    if characters is not None:
        numbers = [number for number in range(len(characters) + 1) if number != blank]
        classes = dict(zip(characters, numbers, strict=True))

    def rate(outputs: Any, labels: Any) -> float:
        read = [_decoded(np.asarray(one), blank) for one in outputs]
        wanted = [_classes_of(label, classes, blank) for label in labels]
        if len(read) != len(wanted):
            raise ValueError(
                f"character error rate: {len(read)} outputs and {len(wanted)} labels; expected as many."
            )
        edits = sum(_edits(one, other) for one, other in zip(read, wanted, strict=True))
        length = sum(map(len, wanted))
        return edits / length if length else float("nan")

    return Metric(rate, "character error rate", larger_is_better=False)


def _decoded(output: Array, blank: int) -> list[int]:
    """Return the classes that a network reads: given scores ``(steps, classes)``, or the classes."""
    best = output.argmax(-1) if output.ndim == 2 else output
    if best.ndim != 1:
        raise ValueError(
            f"character error rate: an output has shape {output.shape}; expected (steps, classes) for each "
            "input."
        )
    changes = np.flatnonzero(np.diff(best, prepend=-1))
    return [int(number) for number in best[changes] if number != blank]


def _classes_of(label: Any, classes: dict[str, int] | None, blank: int) -> list[int]:
    if isinstance(label, str):
        if classes is None:
            raise ValueError(
                "character error rate: labels are text, and the classes of its characters are not known; "
                "pass metric=character_error_rate(characters)."
            )
        return [classes.get(character, -1) for character in label]
    numbers = np.asarray(label)
    if numbers.ndim == 2 and numbers.dtype.kind == "f":  # what another network gives
        return _decoded(numbers, blank)
    return [int(number) for number in numbers.ravel() if number >= 0]


def _edits(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the least insertions, deletions and substitutions between two sequences."""
    row = list(range(len(other) + 1))
    for number, symbol in enumerate(one, 1):
        diagonal, row[0] = row[0], number
        for place, wanted in enumerate(other, 1):
            kept = diagonal + (symbol != wanted)
            diagonal, row[place] = row[place], min(kept, row[place] + 1, row[place - 1] + 1)
    return row[-1]


METRICS: Final[dict[str, Metric]] = {
    "accuracy": Metric(accuracy, "accuracy"),
    "cer": character_error_rate(),
}
