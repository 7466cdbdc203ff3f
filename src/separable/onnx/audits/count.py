"""What an ONNX model costs, node by node, and how separable its convolutions are."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
from onnx.onnx_ml_pb2 import ModelProto, ValueInfoProto

from ..._base.types import Array
from ...arrays import arguments
from ...conv.audits.machine import this_machine
from ...conv.audits.records import Layer, with_rooflines
from ...conv.audits.separability import Separability, separability
from ...report.audits import Audit
from ..conversion.trace import find_layers
from ..costs.bodies import count_whole
from ..costs.rules import check_memory
from ..model.files import Stored, read_model
from ..model.graph import GraphIndex
from ..model.lengths import Hints, input_shapes
from ..model.names import ModelError, name_of, naming
from ..model.opsets import rewritten
from ..model.runtime import Session, alone, layer_ms, median_ms
from ..model.sizes import check_fits

__all__ = ["Audit", "Separability", "audit"]


def audit(
    path_or_model: str | os.PathLike[str] | ModelProto,
    shapes: Hints | None = None,
    *,
    measure: bool = False,
    threads: int | None = None,
    inputs: Mapping[str, npt.ArrayLike] | None = None,
) -> Audit:
    """Count what an ONNX model costs, and say how separable its convolutions are.

    Parameters
    ----------
    path_or_model : path-like or ModelProto
        Operator set 7 or newer; sets before 13 are rewritten as 13 in memory.
    shapes : str, sequence, or mapping, optional
        What the model leaves open: lengths by the names that it has for them, "height=224,width=224" or
        ``{"height": 224}``; shapes of inputs, "x:1,3,224,224" or ``{"x": (1, 3, 224, 224)}``; one shape if
        there is one input. Axis 2 of input `x` is called "x.2" if it has no name. Of an open first axis, the
        batch, one is taken.
    measure : bool, optional
        Run the model in ONNX Runtime and time it: as a whole, and each node alone.
    threads : int, optional
        Of ONNX Runtime. Default: its own choice.
    inputs : mapping of str to array_like, optional
        What inputs hold where the model has to run, such as a sampling rate that it branches on; a number
        fills an input. Others are zeros.

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
    Conv, ConvTranspose, Gemm, MatMul, Einsum, LSTM, GRU, RNN and their forms in eight bits are counted, with
    the integers that `separable.nn.audit` has of the same layers; so is what stands in the bodies of If (the
    larger branch), Loop (as often as it says that it runs at most) and Scan; ``.remark`` says which. Other
    operators that may multiply are in ``.uncounted``.

    ``.params`` are the floating constants that nodes read, except scalars and the running statistics of batch
    norms; exporters often fold batch norms into convolutions, which lessens it.

    Examples
    --------
    >>> import numpy as np
    >>> from onnx import TensorProto, helper, numpy_helper
    >>> import separable as sp
    >>> values = np.random.default_rng(0).standard_normal((32, 16, 3, 3)).astype(np.float32)
    >>> weights = numpy_helper.from_array(values, "w")
    >>> x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16, 12, 12])
    >>> y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 32, 12, 12])
    >>> node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])
    >>> graph = helper.make_graph([node], "net", [x], [y], [weights])
    >>> model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    >>> a = sp.onnx.audit(model)  # or a path
    >>> a.macs, a.params
    (663552, 4608)
    >>> a.layers[0].name, a.layers[0].kind
    ('conv', 'conv')
    """
    machine = this_machine(arguments.thread_count(threads))
    stored = read_model(path_or_model)
    graph = GraphIndex(stored)
    with naming(path_or_model):
        feeds = _zeros(graph, shapes, inputs or {})
    whole_ms = None
    with naming(path_or_model, "counted"):
        counted = count_whole(stored, feeds, threads)
        convertible, refused = find_layers(stored)
        convolutions = [node for node in convertible if node.factor is None]
        layers = list(counted.layers)
        if measure:
            check_memory(stored, feeds)
            whole_ms = median_ms(Session(stored, threads), feeds)
            layers = _measured(stored, graph, layers, counted.nodes, threads)
        reads = {n: layer.inputs[0] for n, layer in zip(counted.nodes, layers, strict=True) if n >= 0}
        judged = [
            separability(convolution.layer(reads[convolution.node][2:], max(reads[convolution.node][0], 1)))
            for convolution in convolutions
        ]
    layers_known, reached = with_rooflines(layers, machine, whole_ms)
    remark = (
        "counted on shapes alone, nothing was computed"
        if counted.inferred
        else "run on zeros, for the shapes"
    )
    remark += "".join(f"; {note}" for note in counted.notes)
    if stored.older_opset is not None:
        remark += f"; {rewritten(stored.older_opset)}"
    return Audit(
        model=name_of(path_or_model, stored.proto.graph.name),
        example=", ".join(
            f"{name} {array.shape} {array.dtype}{' as given' if name in (inputs or {}) else ''}"
            for name, array in feeds.items()
        ),
        layers=layers_known,
        params=counted.params,
        measured_ms=whole_ms,
        machine=reached,
        uncounted=counted.uncounted,
        remark=remark,
        separability=tuple(judgement for judgement in judged if judgement is not None),
        refused=tuple(refused),
    )


# -- inputs ------------------------------------------------------------------------------------------


def _zeros(graph: GraphIndex, shapes: Hints | None, given: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
    """Return an input of zeros, but for what is given."""
    lengths = input_shapes(graph.given(), shapes)
    unknown = [name for name in given if name not in lengths]
    if unknown:
        raise ValueError(
            f"`inputs` names {unknown[0]!r}; the model has inputs {', '.join(map(repr, lengths))}."
        )
    feeds = {info.name: _zero(info, lengths[info.name]) for info in graph.given()}
    return {
        name: _filled(name, zeros, given[name]) if name in given else zeros for name, zeros in feeds.items()
    }


def _filled(name: str, zeros: Array, given: npt.ArrayLike) -> Array:
    """Return what is given for an input, in its shape and type."""
    values = np.asarray(given)
    try:
        return np.broadcast_to(values, zeros.shape).astype(zeros.dtype, order="C", casting="same_kind")
    except (ValueError, TypeError):
        raise ValueError(
            f"`inputs[{name!r}]` holds {values.dtype} {values.shape}; the model takes {zeros.dtype} "
            f"{zeros.shape}."
        ) from None


def _zero(info: ValueInfoProto, shape: tuple[int, ...]) -> Array:
    dtype = np.dtype(_np_dtype(info.type.tensor_type.elem_type, info.name))
    check_fits(f"input `{info.name}`", shape, math.prod(shape) * dtype.itemsize)
    return np.zeros(shape, dtype)


def _np_dtype(element: int, name: str) -> npt.DTypeLike:
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(element)
    except KeyError:
        raise ModelError(f"input `{name}` is no tensor of numbers; only such models are counted.") from None


# -- times -------------------------------------------------------------------------------------------


def _measured(
    stored: Stored, graph: GraphIndex, layers: Sequence[Layer], places: Sequence[int], threads: int | None
) -> list[Layer]:
    measured = []
    for layer, place in zip(layers, places, strict=True):
        if place < 0:  # what stands within a body is not timed by itself
            measured.append(layer)
            continue
        part, names = alone(stored, graph, graph.nodes[place], layer.dtype)
        numbers = np.random.default_rng(0)
        feeds = {
            name: numbers.standard_normal(shape).astype(layer.dtype)
            for name, shape in zip(names, layer.inputs, strict=False)
        }
        measured.append(replace(layer, measured_ms=layer_ms(part, feeds, threads)))
    return measured
