"""How ``separable separate`` scores results: a metric by name or from a file, and labels."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import files
from ..._base.extras import extra
from ...conv.scores.metrics import METRICS, Metric, MetricLike, character_error_rate, metric_of
from ...files.formats import npy
from ...files.guard import check_readable

__all__ = ["Scoring"]

# Of a model's metadata, what holds the characters of its classes, a line each; Paddle's models have it.
_CHARACTERS = "character"


@dataclass(frozen=True)
class Scoring:
    """What was typed: --metric, --labels."""

    metric: str | None = None
    labels: Path | None = None

    def options(self, model: Path, validation: bool = False) -> dict[str, Any]:
        """Return the keyword arguments of `separable.onnx.separate`.

        Parameters
        ----------
        model : Path
        validation : bool, optional
            Whether there are inputs that serve for scores alone.

        Raises
        ------
        FileError
            If a file cannot be read.
        ValueError
            If there is no such metric, or labels without one.
        """
        if self.metric is None:
            if validation or self.labels is not None:
                option = "validation" if validation else "labels"
                raise ValueError(f"`--{option}` goes with --metric, such as --metric accuracy.")
            return {}
        labels = None if self.labels is None else _labels(self.labels)
        metric: MetricLike = self.metric if self.metric in METRICS else _function(self.metric)
        if self.metric == "cer" and labels is not None and isinstance(labels[0], str):
            metric = _of_characters(model)
        return {"metric": metric_of(metric), **({} if labels is None else {"labels": labels})}


def _labels(path: Path) -> Any:
    """Return labels from a file: an array, or a line for each input, numbers or text."""
    check_readable(path)
    if path.suffix == ".npy":
        return np.asarray(npy.read(path).data)
    if path.suffix not in (".txt", ".csv"):
        raise files.FileError(f"`--labels {path}`: expected .npy, or .txt with a line for each input.")
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines:
        raise files.FileError(f"`--labels {path}` holds no line.")
    if all(line.strip().lstrip("-").isdecimal() for line in lines):
        return np.array([int(line) for line in lines])
    return lines


def _function(text: str) -> Any:
    """Return a function by MODULE:NAME or FILE.py:NAME; the module runs as any that is imported."""
    place, colon, name = text.rpartition(":")
    if not (place and colon and name):
        raise ValueError(
            f"`--metric {text}` is no metric; expected {', '.join(METRICS)}, or MODULE:FUNCTION, such as "
            "scores.py:words."
        )
    path = Path(place)
    if path.suffix == ".py":
        check_readable(path)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise files.FileError(f"`--metric {text}`: `{path}` cannot be imported.")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        sys.path.insert(0, "")
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise ValueError(f"`--metric {text}`: there is no module `{error.name}` here.") from error
        finally:
            sys.path.remove("")
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"`--metric {text}`: `{place}` has no function `{name}`.")
    return function


def _of_characters(model: Path) -> Metric:
    """Return the character error rate of a model that says which characters its classes are."""
    with extra("onnx"):
        from ...onnx.model.files import read_model
    proto = read_model(model).proto
    held = {entry.key: entry.value for entry in proto.metadata_props}
    if _CHARACTERS not in held:
        raise ValueError(
            f"`--metric cer`: `{model}` does not say which characters its classes are (metadata "
            f"`{_CHARACTERS}`); pass labels as class numbers in a .npy file, or MODULE:FUNCTION."
        )
    characters = held[_CHARACTERS].splitlines()
    shape = proto.graph.output[0].type.tensor_type.shape.dim
    classes = shape[-1].dim_value if shape else 0
    if classes == len(characters) + 2:  # the blank before them, a space behind
        characters.append(" ")
    return character_error_rate(characters)
