"""Watch a model run: which operators multiplied, whose module called them, with which weights, how long.

Operators are seen where torch dispatches them, so it does not matter who calls: a module, a function,
a custom autograd function, compiled or scripted code. Modules are told apart by hooks that they carry
while the model runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..layers.pair import ConvPair
from .interception import Interception
from .rules import RULES, Product, Shape, distinct, is_unknown, name_of, product

_COMPILED = "_orig_mod"  # what torch.compile puts between a module and its own name


class Weight(NamedTuple):
    """A part of one of the model's tensors, as an operator reads it."""

    name: str  # qualified, such as "features.0.weight"
    parameter: bool  # not a buffer
    start: int  # first element, counted from the beginning of the tensor
    elements: int


@dataclass(frozen=True)
class Signature:
    """What makes two calls the same layer: who called what with which weights on which shapes."""

    name: str
    kind: str
    operator: str
    weights: tuple[Weight, ...]
    computed: bool  # multiplied by a weight that is no tensor of the model, but made of them
    kernel: Shape
    stride: Shape
    dilation: Shape
    groups: int
    dtype: str
    inputs: tuple[Shape, ...]
    output: Shape
    macs: int
    adds: int
    bytes: int


@dataclass(frozen=True)
class CountedRun:
    """One run of the model: how often each layer was called, the seconds it took, what was not counted."""

    calls: Mapping[Signature, int]
    seconds: Mapping[Signature, float]
    unknown: tuple[str, ...]


class Inventory:
    """The model's tensors, found again from any view of them.

    Parameters
    ----------
    model : Module
        With the tensors that it runs with.
    """

    def __init__(self, model: nn.Module) -> None:
        self._places: dict[int, list[tuple[int, int, str, bool]]] = {}
        for parameter, tensors in (
            (True, model.named_parameters(remove_duplicate=False)),
            (False, model.named_buffers(remove_duplicate=False)),
        ):
            for name, tensor in tensors:
                storage = _storage(tensor)
                if storage is not None and tensor.numel():
                    start = int(tensor.storage_offset())
                    place = (start, start + _extent(tensor), own_name(name), parameter)
                    self._places.setdefault(storage, []).append(place)

    def find(self, tensor: Tensor) -> Weight | None:
        """Return which of the model's tensors `tensor` is, or is a part of; None if it is none of them."""
        storage = _storage(tensor)
        first = int(tensor.storage_offset()) if storage is not None else 0
        for start, stop, name, parameter in self._places.get(storage or 0, ()):
            if start <= first < stop:
                return Weight(name, parameter, first - start, distinct(tensor))
        return None


def own_name(name: str) -> str:
    """Return a module's or parameter's qualified name without what ``torch.compile`` put in."""
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def _storage(tensor: Tensor) -> int | None:
    """Return what all views of a tensor share; None for layouts that have no storage."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return None


def _extent(tensor: Tensor) -> int:
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * step for size, step in steps)


def _hookable(model: nn.Module, parts: bool) -> Iterator[nn.Module]:
    """Return the modules that can be hooked without changing how they run.

    Script modules take no hooks. A depthwise separable layer runs fused on real tensors, unless its
    convolutions have hooks that want to see them called.
    """
    within: set[nn.Module] = set()
    for module in model.modules():
        if isinstance(module, ConvPair) and not parts:
            within.update(list(module.modules())[1:])
        if module not in within and not isinstance(module, torch.jit.ScriptModule):
            yield module


class Watcher(Interception):
    """Records what multiplies while it is active.

    Parameters
    ----------
    model : Module
        Whose modules are named; with the tensors that it runs with.
    parts : bool, optional
        Whether the convolutions of a depthwise separable layer are told apart, and not run fused.
    synchronize : callable, optional
        Waits for the device; calls are timed if it is given.
    """

    def __init__(
        self, model: nn.Module, *, parts: bool = False, synchronize: Callable[[], None] | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._synchronize = synchronize
        self._inventory = Inventory(model)
        self._names: dict[int, str] = {}
        for name, module in model.named_modules():
            self._names[id(module)] = own_name(name)
        self._hooked = list(_hookable(model, parts))
        self._stack: list[str] = []
        self._calls: dict[Signature, int] = {}
        self._seconds: dict[Signature, float] = {}
        self._unknown: dict[str, None] = {}  # in the order they were met

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Follow which module runs, in this thread, by hooks that are removed again."""
        thread = threading.get_ident()

        def enter(module: nn.Module, _: Any) -> None:
            if threading.get_ident() == thread:
                self._stack.append(self._names[id(module)])

        def leave(module: nn.Module, *_: Any) -> None:
            if threading.get_ident() == thread:
                self._stack.pop()

        handles = []
        try:
            for module in self._hooked:
                handles.append(module.register_forward_pre_hook(enter, prepend=True))
                handles.append(module.register_forward_hook(leave, always_call=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def run(self) -> CountedRun:
        """Return what was recorded."""
        return CountedRun(dict(self._calls), dict(self._seconds), tuple(self._unknown))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator, and record it if it multiplies."""
        options = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):
            self._unknown[str(func)] = None
            return func(*args, **options)
        name = name_of(func)
        if name not in RULES:
            # `prim` are questions to a tensor, such as which device it is on; they have no parts.
            if func.namespace != "prim":
                with self:
                    result = func.decompose(*args, **options)
                if result is not NotImplemented:
                    return result
            if is_unknown(name):
                self._unknown[name] = None
            return func(*args, **options)
        result, seconds = self._timed(lambda: func(*args, **options))
        signature = self._signature(name, product(func, args, options, result))
        self._calls[signature] = self._calls.get(signature, 0) + 1
        self._seconds[signature] = self._seconds.get(signature, 0.0) + seconds
        return result

    def _timed(self, call: Callable[[], Any]) -> tuple[Any, float]:
        if self._synchronize is None:
            return call(), 0.0
        self._synchronize()
        start = time.perf_counter()
        result = call()
        self._synchronize()
        return result, time.perf_counter() - start

    def _signature(self, operator: str, counted: Product) -> Signature:
        # Either factor of a matrix product may be a layer's weights; where one is, it is a linear layer.
        candidates = (*counted.weights, *(counted.inputs if counted.kind == "matmul" else ()))
        weights = tuple(filter(None, map(self._inventory.find, candidates)))
        inputs = [tensor for tensor in counted.inputs if self._inventory.find(tensor) is None] or list(
            counted.inputs
        )
        return Signature(
            name=self._stack[-1] if self._stack else "",
            kind="linear" if counted.kind == "matmul" and weights else counted.kind,
            operator=operator.partition(".")[2],
            weights=weights,
            computed=any(self._inventory.find(tensor) is None for tensor in counted.weights),
            kernel=counted.kernel,
            stride=counted.stride,
            dilation=counted.dilation,
            groups=counted.groups,
            dtype=str(counted.output.dtype).removeprefix("torch."),
            inputs=tuple(tuple(map(int, tensor.shape)) for tensor in inputs),
            output=tuple(map(int, counted.output.shape)),
            macs=int(counted.macs),
            adds=int(counted.adds),
            bytes=sum(_bytes(tensor) for tensor in (*counted.inputs, *counted.weights, counted.output)),
        )


def _bytes(tensor: Tensor) -> int:
    return distinct(tensor) * tensor.element_size()
