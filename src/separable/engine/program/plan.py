"""One network for inputs of one shape: its steps, its arena, and the native program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..._base.types import Array
from ...onnx.model.names import ModelError
from ..graph.ir import Graph, Node, TensorType
from ..graph.static import static
from ..passes import simplified
from ..recorded.tape import Tape
from .images import apart
from .lower import lowered
from .memory import assign
from .native_forms import in_native_form
from .operations import Operation
from .steps.recorded import new_program
from .weights import WeightStore

__all__ = ["StaticPlan", "UnsupportedOperationsError"]


class UnsupportedOperationsError(ModelError):
    """A network holds operations that the engine does not run.

    Attributes
    ----------
    operations : tuple of str
        What is not supported, each once, with the node that it was met at first.
    missing : tuple of (Node, str)
        All nodes, with what is not supported of each.

    Examples
    --------
    >>> import numpy as np
    >>> from onnx import parser
    >>> import separable as sp
    >>> model = parser.parse_model(
    ...     '''<ir_version: 10, opset_import: ["": 21]>
    ...     net (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) { y = Hardmax(x) }'''
    ... )
    >>> try:
    ...     sp.engine.load(model)
    ... except sp.engine.UnsupportedOperationsError as error:
    ...     print(error.operations)
    ('Hardmax (`y`)',)
    """

    def __init__(self, missing: Sequence[tuple[Node, str]], model: str = "") -> None:
        self.missing = tuple(missing)
        first: dict[str, list[str]] = {}
        for node, what in missing:
            first.setdefault(what, []).append(node.outputs[0])
        self.operations = tuple(
            f"{what} (`{names[0]}`{f' and {len(names) - 1} more' if len(names) > 1 else ''})"
            for what, names in first.items()
        )
        super().__init__(
            f"{model or 'it'} holds operations that the engine does not run: {'; '.join(self.operations)}. "
            "Run these parts in ONNX Runtime with fallback='onnxruntime'."
        )

    def of(self, model: str) -> UnsupportedOperationsError:
        """Return the same error of a model that has a name."""
        return type(self)(self.missing, model)


def _static(graph: Graph, shapes: Mapping[str, tuple[int, ...]] | None) -> Graph:
    return graph if shapes is None else in_native_form(simplified(static(graph, shapes)))


class StaticPlan:
    """The steps of a network for inputs of one shape.

    Parameters
    ----------
    graph : Graph
        As simplified as it could be without its lengths.
    shapes : mapping of str to tuple of int, or None
        Of the inputs; None for a graph that is static and simplified already.
    store : WeightStore
    images : int, optional
        Of a batch, which are run one by one; a static graph is that of one image then.
    tape : Tape, optional
        Of the lengths, where it is noted how the program is made.

    Attributes
    ----------
    graph : Graph
        Static and simplified.
    operations : list of Operation
        Of one image, if images are run one by one.
    images : int
        That are run one by one.
    inputs, outputs : mapping of str to TensorType
    native : Program
        As the core has it.
    """

    def __init__(
        self,
        graph: Graph,
        shapes: Mapping[str, tuple[int, ...]] | None,
        store: WeightStore,
        images: int = 1,
        tape: Tape | None = None,
    ) -> None:
        self.graph = _static(graph, shapes)
        self.inputs = dict(self.graph.inputs)
        self.outputs: dict[str, TensorType] = {name: self._type(name) for name in self.graph.outputs}
        one = self.graph
        if shapes is not None:
            images, one = apart(self.graph, lambda lengths: _static(graph, lengths))
        self.images = images
        lower, missing = lowered(one, store)
        if missing:
            raise UnsupportedOperationsError(missing)
        self.operations: list[Operation] = lower.operations
        self._constants = [array for _, array in lower.constants]
        buffers = [
            buffer for operation in lower.operations for buffer in (*operation.reads, *operation.writes)
        ]
        sizes = [[buffer.size for buffer in side] for side in (lower.inputs, lower.outputs)]
        self.native = new_program(tape, assign(buffers), sizes, self.images)
        for buffer, array in lower.constants:
            buffer.base = self.native.constant(array)
        self.ends: list[int] = []  # of each operation: the native steps up to there
        for operation in lower.operations:
            try:
                operation.add(self.native)
            except (TypeError, ValueError) as error:  # lengths that no step takes
                node = next(node for node in self.graph.nodes if operation.label in node.outputs)
                raise UnsupportedOperationsError([(node, f"{node.op}: {error}")]) from error
            self.ends.append(len(self.native))

    def _type(self, name: str) -> TensorType:
        if name in self.graph.constants:
            array = self.graph.constants[name]
            return TensorType(array.dtype, array.shape)
        return self.graph.types[name]

    def memory_bytes(self, threads: int) -> int:
        """Return the bytes of one call: the arena, and the scratch memory of every thread."""
        return int(self.native.memory_bytes(threads))

    def run(
        self, inputs: Sequence[Array], outputs: Sequence[Array], threads: int, nanoseconds: Any = None
    ) -> None:
        """Run all steps: arrays are float32, C-contiguous and of the plan's shapes."""
        self.native.run(list(inputs), list(outputs), threads, nanoseconds)

    def empty(self) -> list[Array]:
        """Return new arrays for the outputs."""
        return [
            np.empty(tuple(int(length) for length in kind.shape), kind.dtype)
            for kind in self.outputs.values()
        ]
