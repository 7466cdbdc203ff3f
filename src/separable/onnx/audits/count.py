"""What an ONNX model costs, node by node, and how separable its convolutions are."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx.onnx_ml_pb2 import ModelProto, ValueInfoProto

from ..._base.types import Array
from ...arrays import arguments
from ...conv.algebra.geometry import whole
from ...conv.audits.machine import Machine, this_machine
from ...conv.audits.records import Layer
from ...conv.audits.separability import Separability, separability
from ...report.audits import Audit
from ..conversion.trace import find_convolutions
from ..model.files import Stored, read_model
from ..model.graph import GraphIndex
from ..model.names import ModelError, naming
from ..model.rules import check_memory, count
from ..model.runtime import Session, alone, layer_ms, median_ms
from ..model.sizes import check_fits

__all__ = ["Audit", "Separability", "audit"]

Shapes: TypeAlias = Mapping[str, Sequence[int]] | Sequence[int]


def audit(
    path_or_model: str | os.PathLike[str] | ModelProto,
    shapes: Shapes | None = None,
    *,
    measure: bool = False,
    threads: int | None = None,
) -> Audit:
    """Count what an ONNX model costs, and say how separable its convolutions are.

    Parameters
    ----------
    path_or_model : path-like or ModelProto
        Operator set 13 or newer.
    shapes : sequence of int, or mapping of str to sequence of int, optional
        The shapes of the inputs; one shape if there is one input. Needed where the model leaves lengths open:
        of an open first axis, the batch, one is taken.
    measure : bool, optional
        Run the model in ONNX Runtime and time it: as a whole, and each node alone.
    threads : int, optional
        Of ONNX Runtime. Default: its own choice.

    Returns
    -------
    Audit
        With ``.macs``, ``.flops``, ``.params``, ``.bytes``, ``.layers`` and ``.separability``.

    Raises
    ------
    FileError
        If the file cannot be read, is damaged, or points to data outside of its folder.
    TypeError, ValueError
        If `path_or_model` is no model in order, or `shapes` are missing or do not fit.

    Notes
    -----
    Conv, ConvTranspose, Gemm and MatMul are counted, with the integers that `separable.nn.audit` has of the
    same layers. Other operators that multiply, and those in subgraphs, are in ``.uncounted``.

    ``.params`` are the floating constants that nodes read, except scalars and the running statistics of batch
    norms; exporters often fold batch norms into convolutions, which lessens it.
    """
    machine = this_machine(arguments.thread_count(threads))
    stored = read_model(path_or_model)
    graph = GraphIndex(stored)
    with naming(path_or_model):
        feeds = _zeros(graph, shapes)
    whole_ms = None
    with naming(path_or_model, "counted"):
        counted = count(stored, feeds, threads)
        convolutions, refused = find_convolutions(stored)
        layers = [replace(layer, roofline_ms=_roofline(machine, layer)) for layer in counted.layers]
        if measure:
            check_memory(stored, feeds)
            whole_ms = median_ms(Session(stored, threads), feeds)
            layers = _measured(stored, graph, layers, counted.nodes, threads)
        inputs = {place: layer.inputs[0] for place, layer in zip(counted.nodes, layers, strict=True)}
        judged = [
            separability(convolution.layer(inputs[convolution.node][2:], max(inputs[convolution.node][0], 1)))
            for convolution in convolutions
        ]
    remark = (
        "counted on shapes alone, nothing was computed"
        if counted.inferred
        else "run on zeros, for the shapes"
    )
    return Audit(
        model=stored.proto.graph.name or "ONNX model",
        example=", ".join(f"{name} {array.shape} {array.dtype}" for name, array in feeds.items()),
        layers=tuple(layers),
        params=counted.params,
        measured_ms=whole_ms,
        machine=machine,
        uncounted=counted.uncounted,
        remark=remark,
        separability=tuple(judgement for judgement in judged if judgement is not None),
        refused=tuple(refused),
    )


# -- inputs ------------------------------------------------------------------------------------------


def _zeros(graph: GraphIndex, shapes: Shapes | None) -> dict[str, Array]:
    inputs = {
        given_input.name: given_input for given_input in graph.inputs if given_input.name in graph.feeds()
    }
    if shapes is None:
        given: dict[str, Sequence[int]] = {}
    elif isinstance(shapes, Mapping):
        given = dict(shapes)
    elif isinstance(shapes, (str, bytes)) or not isinstance(shapes, Iterable):
        raise TypeError(f"`shapes={shapes!r}` is no shape; expected one such as (1, 3, 224, 224).")
    elif len(inputs) == 1:
        given = dict.fromkeys(inputs, tuple(shapes))
    else:
        raise ValueError(f"`shapes` is one shape, but the model has inputs {', '.join(map(repr, inputs))}.")
    unknown = [name for name in given if name not in inputs]
    if unknown:
        raise ValueError(
            f"`shapes` names {unknown[0]!r}; the model has inputs {', '.join(map(repr, inputs))}."
        )
    return {name: _zero(given_input, given.get(name)) for name, given_input in inputs.items()}


def _zero(given: ValueInfoProto, shape: Sequence[int] | None) -> Array:
    kind = given.type.tensor_type
    known = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    lengths = [1 if length is None and axis == 0 else length for axis, length in enumerate(known)]
    if shape is not None:
        lengths = [whole(length, f"shapes[{given.name!r}][{axis}]", 0) for axis, length in enumerate(shape)]
        fits = len(known) == len(lengths) and all(map(_agree, known, lengths))
        if kind.HasField("shape") and not fits:
            raise ValueError(
                f"`shapes` gives input `{given.name}` {tuple(lengths)}; the model takes {_shown(given)}."
            )
    sizes = tuple(length for length in lengths if length is not None)
    if len(sizes) < len(lengths) or (shape is None and not kind.HasField("shape")):
        raise ValueError(
            f"input `{given.name}` has open lengths, {_shown(given)}; say which to count: "
            f"shapes={{{given.name!r}: (1, 3, 224, 224)}}."
        )
    dtype = np.dtype(_np_dtype(kind.elem_type, given.name))
    check_fits(f"input `{given.name}`", sizes, math.prod(sizes) * dtype.itemsize)
    return np.zeros(sizes, dtype)


def _np_dtype(element: int, name: str) -> npt.DTypeLike:
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(element)
    except KeyError:
        raise ModelError(f"input `{name}` is no tensor of numbers; only such models are counted.") from None


def _agree(known: int | None, length: int | None) -> bool:
    return known is None or known == length


def _shown(given: ValueInfoProto) -> str:
    dims = given.type.tensor_type.shape.dim
    lengths = [str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims]
    return f"({', '.join(lengths)})"


# -- times -------------------------------------------------------------------------------------------


def _roofline(machine: Machine, layer: Layer) -> float | None:
    return machine.roofline_ms(layer.macs, layer.bytes, layer.dtype)


def _measured(
    stored: Stored, graph: GraphIndex, layers: Sequence[Layer], places: Sequence[int], threads: int | None
) -> list[Layer]:
    measured = []
    for layer, place in zip(layers, places, strict=True):
        part, names = alone(stored, graph, graph.nodes[place], layer.dtype)
        numbers = np.random.default_rng(0)
        feeds = {
            name: numbers.standard_normal(shape).astype(layer.dtype)
            for name, shape in zip(names, layer.inputs, strict=False)
        }
        measured.append(replace(layer, measured_ms=layer_ms(part, feeds, threads)))
    return measured
