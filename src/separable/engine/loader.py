"""From a file to a program."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, Literal

from onnx.onnx_ml_pb2 import ModelProto

from ..arrays import arguments
from ..conv.algebra.geometry import whole
from ..onnx.model.files import Stored, read_model
from ..onnx.model.graph import GraphIndex
from ..onnx.model.lengths import Hints, input_shapes
from ..onnx.model.names import naming
from ..report.programs import Profile, Program, Stream
from .graph.reader import graph_of
from .network.plan_cache import MOST_PLANS
from .passes import simplified
from .precision.conversion import calls_of, converted
from .program.plan import UnsupportedOperationsError

__all__ = ["Profile", "Program", "Stream", "UnsupportedOperationsError", "load"]

Fallback = Literal["onnxruntime"]

Precision = Literal["float32", "int8", "bf16"]

_FALLBACKS: Final = ("onnxruntime",)
_PRECISIONS: Final = ("float32", "int8", "bf16")


def load(
    path_or_model: str | os.PathLike[str] | ModelProto,
    shapes: Hints | None = None,
    *,
    threads: int | None = None,
    fallback: Fallback | None = None,
    plans: int = MOST_PLANS,
    precision: Precision = "float32",
    calibration: Any = None,
) -> Program:
    """Read a network and return it as a native program, which runs on the CPU in float32, or in fewer bits.

    Parameters
    ----------
    path_or_model : path-like or ModelProto
        Operator set 7 or newer.
    shapes : str, sequence, or mapping, optional
        What the model leaves open, for what is planned and packed at once: lengths by the names that it has
        for them, "height=224,width=224" or ``{"height": 224}``; shapes of inputs, "x:1,3,224,224" or
        ``{"x": (1, 3, 224, 224)}``; one shape if there is one input. Of an open first axis, the batch, one is
        taken. A program takes inputs of other lengths all the same, and makes a plan at the first call of
        each.
    threads : int, optional
        Default: SEPARABLE_NUM_THREADS if set, else all cores that the process may use.
    fallback : {"onnxruntime"}, optional
        What runs the operations that the engine does not; `print` says which these are. By default they are
        an error that lists all of them.
    plans : int, optional
        How many plans are kept, each of a shape of the inputs (and of the values that shapes or an `If`
        follow from): those used last, and no more than 1 GiB of them.
    precision : {"float32", "int8", "bf16"}, optional
        "int8": convolutions and products with constant weights are those of 8-bit numbers, weights with a
        scale for each channel, samples with one for each tensor, sums exact in 32 bits. "bf16": they multiply
        numbers rounded to bfloat16, and add up in float32; depthwise convolutions stay float32. Neither is
        chosen by itself, and `print` states its error. A model that is quantised already runs as it is,
        whatever this says: levels are levels.
    calibration : array_like, mapping, or list of these, optional
        For "int8" and "bf16": inputs of some calls, on which the error against float32 is measured, and from
        which ranges of "int8" are taken: one call, or a list of calls. A few dozen that are like those to
        come will do.

    Returns
    -------
    Program
        Call it with an array, or a dict of arrays by the names of the inputs.

    Raises
    ------
    FileError
        If the file cannot be read, is damaged, or points to data outside of its folder.
    UnsupportedOperationsError
        If it holds operations that the engine does not run. Where lengths are open that may show at the first
        call.
    TypeError, ValueError
        If `path_or_model` is no model in order, `shapes` do not fit, or "int8" or "bf16" come without
        `calibration`.

    Examples
    --------
    >>> from importlib.resources import files
    >>> import numpy as np
    >>> import separable as sp
    >>> path = files("separable") / "demo" / "textures.onnx"  # a small network that comes with the package
    >>> program = sp.engine.load(str(path))
    >>> scores = program(np.zeros((2, 1, 20, 20), np.float32))
    >>> scores.shape, scores.dtype
    ((2, 3), dtype('float32'))
    """
    if fallback is not None and fallback not in _FALLBACKS:
        raise ValueError(f"`fallback={fallback!r}`; expected one of {', '.join(map(repr, _FALLBACKS))}.")
    _check_precision(precision, calibration)
    count = arguments.thread_count(threads)
    plans = whole(plans, "plans")
    stored = read_model(path_or_model, as_it_is=False)
    with naming(path_or_model):
        lengths = _lengths(stored, shapes)
        read = graph_of(stored)
        graph = simplified(read)
        record = None
        if precision != "float32":
            graph, record = converted(graph, calls_of(calibration), count, precision, fallback is not None)
        program = Program(
            read,
            graph,
            source=None if isinstance(path_or_model, ModelProto) else path_or_model,
            threads=count,
            fallback=fallback is not None,
            shapes=lengths,
            plans=plans,
            precision=record,
        )
    if lengths is not None and not program.depends_on_values:
        try:
            program.plan()
        except UnsupportedOperationsError:
            raise
        except ValueError:
            if shapes is not None or not any(kind.is_open for kind in program.inputs.values()):
                raise
            program.forget_shapes()  # another batch may do
    return program


def _check_precision(precision: str, calibration: Any) -> None:
    if precision not in _PRECISIONS:
        raise ValueError(f"`precision={precision!r}`; expected one of {', '.join(map(repr, _PRECISIONS))}.")
    if precision == "float32" and calibration is not None:
        raise ValueError("`calibration` belongs to precision='int8' and 'bf16'; float32 takes none.")
    if precision != "float32" and calibration is None:
        ranges = "from which the ranges of its levels are taken, and " if precision == "int8" else ""
        raise ValueError(
            f"`precision={precision!r}` needs `calibration`: inputs of some calls, {ranges}on which its "
            "error is measured."
        )


def _lengths(stored: Stored, shapes: Hints | None) -> Mapping[str, tuple[int, ...]] | None:
    """Return the shapes of the inputs; None where they are open, and nobody says them."""
    given = GraphIndex(stored).given()
    try:
        return input_shapes(given, shapes)
    except ValueError:
        if shapes is not None:
            raise
        return None
