"""Where converted models go: nowhere where something lies that is read."""

from __future__ import annotations

from pathlib import Path

from ... import files
from ..._base.extras import extra
from ...files.guard import reading
from ...files.target import check_target
from ..terminal import same_file
from .calibration_inputs import Data
from .metric_option import Scoring

__all__ = ["check_model_target", "check_tensors_target"]


def check_model_target(
    out: Path, said: str, model: Path, data: Data, validation: Data | None, scoring: Scoring
) -> None:
    """Refuse a target that cannot be written, or that would take the place of what is read.

    Parameters
    ----------
    out : Path
    said : str
        The option, as typed.
    model : Path
    data, validation : Data
    scoring : Scoring

    Raises
    ------
    FileError
    """
    taken = [(model, "the input"), (data.path, "the calibration data")]
    taken += [(path, "an input") for path in data.others.paths]
    taken += [] if validation is None else [(validation.path, "the validation data")]
    taken += [] if scoring.labels is None else [(scoring.labels, "the labels")]
    for path, what in taken:
        if same_file(out, path):
            raise files.FileError(f"`{said}` is {what}; give the result another name.")
    check_target(out)


def check_tensors_target(out: Path, said: str, model: Path) -> None:
    """Refuse to write the result's data in the place of those of the input.

    Parameters
    ----------
    out : Path
    said : str
        The option, as typed.
    model : Path

    Raises
    ------
    FileError
    """
    if not model.is_file():
        return
    with extra("onnx"):
        from onnx import load

        from ...onnx.model.files import data_beside
    places = data_beside(out)
    if not places:
        return
    with reading(model, "ONNX"):
        tensors = load(model, load_external_data=False).graph.initializer
    taken = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    for place in places:
        if any(same_file(place, model.parent / location) for location in taken):
            raise files.FileError(
                f"`{said}`: `{place}` holds data of the input; give the result another name."
            )
