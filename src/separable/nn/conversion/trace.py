"""What a model does with its layers: which run, how often, what reads their outputs and weights."""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ...conv.forms.activation import Activation
from ..layers.between import is_watched
from ..layers.pair import ConvPair
from ..layers.spatial import SpatialConv
from ..model.activations import PreluSlopes, SeenActivation, activation_in
from ..model.interception import Interception
from ..model.run import Call, tensors_of
from ..model.untouched import map_tensors, untouched
from ..model.watch import _storage, own_name
from .kinds import geometry_of, is_linear, is_transposed, kind_of

_SUMS: Final = {"aten::add", "aten::add_"}
Shape: TypeAlias = tuple[int, ...]


@dataclass
class Traced:
    """How a convolution or a linear layer took part in one run.

    Attributes
    ----------
    name : str
        Qualified; the first one of a module that has several.
    module : Module
    inputs : list of tuple of int
        Shape of the input of each call, ``(N, C_in, *sizes)``, of a linear layer ``(N, ..., C_in)``.
    readers : set of str
        Modules that read its output; "" is the model itself, which also stands for the model's own output.
    operators : set of str
        With what they read it. Additions are in it only if they add another tensor of the same shape.
    after : set of str
        What reads those sums.
    activations, activations_after : set
        The activations that read it, and those sums: all of `operators` or of `after` where they are as many.
    """

    name: str
    module: Any
    inputs: list[Shape] = field(default_factory=list)
    readers: set[str] = field(default_factory=set)
    operators: set[str] = field(default_factory=set)
    after: set[str] = field(default_factory=set)
    activations: dict[str, SeenActivation] = field(default_factory=dict)
    activations_after: dict[str, SeenActivation] = field(default_factory=dict)

    @property
    def is_summed(self) -> bool:
        """Whether all that is done with the output is to add it to another branch."""
        return bool(self.operators) and self.operators <= _SUMS

    @property
    def activation(self) -> Activation | None:
        """The activation that alone reads the output, or the sum with another branch, if there is one."""
        readers, known = self.operators, self.activations
        if self.is_summed:
            readers, known = self.after, self.activations_after
        alone = set(known.values()) if readers and readers <= known.keys() else set()
        (only,) = alone if len(alone) == 1 else (None,)
        return only if isinstance(only, Activation) else None

    @property
    def read_by(self) -> str:
        """What reads the output, or that sum, where it is no activation that is known."""
        readers = self.after if self.is_summed else self.operators
        known = self.activation is not None or readers == {"output"}
        return (
            "" if known else ", ".join(sorted(name.removeprefix("aten::").rstrip("_?") for name in readers))
        )


@dataclass(frozen=True)
class Trace:
    """One run of a model.

    Attributes
    ----------
    convs : tuple of Traced
        Those that can be converted, in the order of their first call.
    order : tuple of int
        Which of `convs` was called, one call after the other.
    calls : dict
        How often each module ran, by its qualified name.
    refused : dict
        Why each other convolution is left as it is, by its qualified name.
    samples : int
        How many inputs the model ran on.
    """

    convs: tuple[Traced, ...]
    order: tuple[int, ...]
    calls: dict[str, int]
    refused: dict[str, str]
    samples: int

    def without(self, skip: Sequence[str]) -> Trace:
        """Return the trace without the convolutions whose names match a pattern.

        Raises
        ------
        ValueError
            If a pattern matches none.
        """
        names = [conv.name for conv in self.convs]
        for pattern in skip:
            if not fnmatch.filter(names, pattern):
                close = difflib.get_close_matches(pattern, names, 1)
                raise ValueError(
                    f"`skip` holds {pattern!r}, which is the name of no layer that can be converted."
                    + (f" Did you mean {close[0]!r}?" if close else "")
                )
        left_out = {n for n in names if any(fnmatch.fnmatchcase(n, pattern) for pattern in skip)}
        return self._without(left_out, "left out by `skip`")

    def without_linear(self, reason: str) -> Trace:
        """Return the trace without the linear layers, which stay as they are for a reason."""
        return self._without({conv.name for conv in self.convs if is_linear(conv.module)}, reason)

    def _without(self, left_out: set[str], reason: str) -> Trace:
        kept = [place for place, conv in enumerate(self.convs) if conv.name not in left_out]
        return replace(
            self,
            convs=tuple(self.convs[place] for place in kept),
            order=tuple(kept.index(place) for place in self.order if place in kept),
            refused={**self.refused, **dict.fromkeys(sorted(left_out), reason)},
        )


def _own(tensor: Tensor) -> Tensor:
    return tensor if isinstance(tensor, nn.Parameter) else tensor.detach().clone()


def trace(model: nn.Module, call: Call) -> Trace:
    """Run a model once on `call` and watch its convolutions and linear layers.

    Parameters
    ----------
    model : Module
        As :func:`prepared` returns it.
    call : tuple
        Arguments of the model.

    Returns
    -------
    Trace
    """
    candidates, refused = _candidates(model)
    # Real numbers: one input is computed sooner than what fake tensors need is imported (two seconds).
    with untouched(model, _own):
        arguments, options = map_tensors(call, _own)
        watcher = _ConvWatcher(model, candidates)
        with torch.no_grad(), watcher.following(), watcher:
            output = model(*arguments, **options)
        watcher.read("", "output", output)
    for name, (tensor, reader) in watcher.asked.items():
        refused[name] = (
            "it is given more than its input"
            if tensor == "arguments"
            else f"its {tensor} is read by {reader or 'the model itself'}, too"
        )
    for name in candidates:
        if name not in watcher.convs:
            refused.setdefault(name, "it did not run on the calibration data")
    for name, seen in watcher.convs.items():
        if not all(_has_batch(seen.module, shape) for shape in seen.inputs):
            refused.setdefault(name, "its input has no batch axis")
        for known in (seen.activations, seen.activations_after):
            known.update({operator: _settled(model, seen_one) for operator, seen_one in known.items()})
    kept = [seen for name, seen in watcher.convs.items() if name not in refused]
    places = {seen.name: place for place, seen in enumerate(kept)}
    order = tuple(places[name] for name in watcher.order if name in places)
    samples = max((len(x) for x in tensors_of(call)[:1] if x.dim()), default=1)
    return Trace(tuple(kept), order, watcher.calls, refused, samples)


def _has_batch(module: Any, shape: Shape) -> bool:
    return len(shape) >= 2 if is_linear(module) else len(shape) == len(module.kernel_size) + 2


def _settled(model: nn.Module, seen: SeenActivation) -> SeenActivation:
    """Return an activation whose parameters are the model's own, with their values."""
    if not isinstance(seen, PreluSlopes):
        return seen
    tensors = {own_name(name): tensor for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    return Activation("leaky_relu", tuple(tensors[seen.tensor].detach().double().flatten().tolist()))


class _ConvWatcher(Interception):
    """Follows the outputs and weights of layers to the modules that read them."""

    def __init__(self, model: nn.Module, candidates: dict[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._model = model
        self._names = {id(module): own_name(name) for name, module in reversed([*model.named_modules()])}
        self._candidates = candidates
        self._stack: list[str] = [""]
        self._alive: list[Tensor] = []  # so that no storage is used twice
        self._made: dict[int, str] = {}
        self._sums: dict[int, list[str]] = {}
        self._gates: dict[int, int] = {}  # what came out of a sigmoid, and what went in
        self._slopes = {
            storage: own_name(name)
            for name, tensor in (*model.named_parameters(), *model.named_buffers())
            if (storage := _storage(tensor)) is not None
        }
        self._weights = {
            storage: name
            for name, module in candidates.items()
            if (storage := _storage(module.weight)) is not None
        }
        self.convs: dict[str, Traced] = {}
        self.order: list[str] = []
        self.calls: dict[str, int] = {}
        self.asked: dict[str, tuple[str, str]] = {}  # which tensor of a convolution is read by which other

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow which module runs, by hooks that are removed again."""

        def enter(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
            name = self._names[id(module)]
            self._stack.append(name)
            self.calls[name] = self.calls.get(name, 0) + 1
            if name in self._candidates:
                x, *others = tensors_of((inputs, options))
                if others or len(inputs) != 1 or options:
                    self.asked[name] = ("arguments", "")
                self.convs.setdefault(name, Traced(name, module)).inputs.append(tuple(map(int, x.shape)))
                self.order.append(name)

        def leave(module: nn.Module, _: Any, output: Any) -> None:
            name = self._stack.pop()
            if name in self._candidates:
                for tensor in tensors_of(output):
                    self._alive.append(tensor)
                    self._made[_storage(tensor) or 0] = name

        handles = []
        kinds = {name: type(module) for name, module in self._candidates.items()}
        try:
            for name, kind in kinds.items():
                self._candidates[name].__class__ = self._listening(name, kind)
            for module in self._model.modules():
                if not isinstance(module, torch.jit.ScriptModule):
                    handles.append(module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True))
                    handles.append(module.register_forward_hook(leave))
            yield
        finally:
            for handle in handles:
                handle.remove()
            for name, kind in kinds.items():
                self._candidates[name].__class__ = kind

    def _listening(self, name: str, kind: type[nn.Module]) -> type[nn.Module]:
        """Return a class that notes who asks for its tensors, be it for their dtype alone."""

        def asked(module: nn.Module, attribute: str) -> Any:
            if attribute in ("weight", "bias") and self._stack[-1] != name:
                self.asked.setdefault(name, (attribute, self._stack[-1]))
            return kind.__getattr__(module, attribute)

        return type(kind.__name__, (kind,), {"__getattr__": asked})

    def read(self, reader: str, operator: str, values: Any, activation: SeenActivation | None = None) -> None:
        """Note that `reader` reads tensors, by an operator that may be an activation."""
        for tensor in tensors_of(values):
            storage = _storage(tensor)
            if storage in self._made:
                conv = self.convs[self._made[storage]]
                conv.readers.add(reader)
                _note(operator, activation, conv.operators, conv.activations)
            for name in self._sums.get(storage or 0, ()):
                conv = self.convs[name]
                _note(operator, activation, conv.after, conv.activations_after)
            if storage in self._weights and self._weights[storage] != reader:
                self.asked[self._weights[storage]] = ("weight", reader)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator."""
        schema: Any = getattr(func, "_schema", None)
        operator = getattr(schema, "name", str(func))
        addends = [self._made[key] for arg in args if (key := _key(arg)) in self._made]
        added = operator in _SUMS and is_plain_sum(args, kwargs)
        self.read(
            self._stack[-1],
            operator if added or operator not in _SUMS else f"{operator}?",
            (args, kwargs or {}),
            self._activation(func, operator, args, kwargs or {}),
        )
        for place, value in enumerate(args if schema is not None and schema.is_mutable else ()):
            written = schema.arguments[place].alias_info
            if written is not None and written.is_write:  # from here on it is no convolution's output
                for tensor in tensors_of((value,)):
                    self._made.pop(_key(tensor), None)
                    self._sums.pop(_key(tensor), None)
        before = _key(args[0]) if operator == "aten::sigmoid" else 0
        result = func(*args, **(kwargs or {}))
        if before:
            self._alive.append(result)
            self._gates[_key(result)] = before
        if added and addends:
            self._alive.append(result)
            self._sums[_key(result)] = addends
        return result

    def _activation(
        self, func: Any, operator: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> SeenActivation | None:
        """Return which activation an operator is; one that is made of several where it ends them."""
        if operator in ("aten::mul", "aten::mul_") and len(args) == 2:
            keys = tuple(map(_key, args))
            gated = any(gate and self._gates.get(gate) == x for gate, x in (keys, keys[::-1]))
            return Activation("silu") if gated else None
        if getattr(func, "_schema", None) is None:
            return None
        return activation_in(func, args, options, lambda tensor: self._slopes.get(_key(tensor)))


def _note(
    operator: str,
    activation: SeenActivation | None,
    readers: set[str],
    known: dict[str, SeenActivation],
) -> None:
    """Note a reader, and what is known of it."""
    if activation == Activation("silu") and "mul" in operator:
        # Of a product with its own sigmoid the sigmoid was seen first: both together are one activation.
        readers.discard("aten::sigmoid")
        known.pop("aten::sigmoid", None)
    if activation is not None and operator in (readers - known.keys()):
        return  # read by such an operator before that is none
    readers.add(operator)
    if activation is None:
        known.pop(operator, None)
    elif known.setdefault(operator, activation) != activation:  # two different ones of one operator
        known.pop(operator)


def is_plain_sum(args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> bool:
    """Return whether an addition is that of two different tensors of one shape, and nothing else."""
    if len(args) != 2 or kwargs or not all(isinstance(arg, Tensor) for arg in args):
        return False
    return bool(args[0].shape == args[1].shape) and _key(args[0]) != _key(args[1])


def is_same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors share their memory."""
    return _key(one) == _key(other) != 0


def _key(value: Any) -> int:
    return (_storage(value) or 0) if isinstance(value, Tensor) else 0


def _candidates(model: nn.Module) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the layers that can be converted, and why each other one cannot."""
    candidates: dict[str, Any] = {}
    refused: dict[str, str] = {}
    inside: set[int] = set()
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, (ConvPair, SpatialConv)):
            inside.update(id(part) for part in module.modules())
        reason = _reason(module, separable=id(module) in inside)
        own = own_name(name)
        if reason is None:
            owner = owners.setdefault(id(getattr(module, "weight", None)), own)
            if owner == own:
                candidates[own] = module
                continue
            candidates.pop(owner, None)
            reason = f"it shares its weight with {owner}"
            refused[owner] = f"it shares its weight with {own}"
        if reason:
            refused[own] = reason
    return candidates, refused


def _reason(module: nn.Module, separable: bool) -> str | None:
    """Return why a module is no layer that can be converted; "" for what is no such layer at all."""
    kind = type(module).__name__
    if isinstance(module, (ConvPair, SpatialConv)):
        return "it is separable already"
    if not isinstance(module, (_ConvNd, nn.Linear)):
        foreign = "quantized" in type(module).__module__ and ("Conv" in kind or "Linear" in kind)
        what = "convolutions" if "Conv" in kind else "linear layers"
        return f"{kind}: quantized {what} are not converted" if foreign else ""
    if separable:
        return ""
    if kind_of(module) is None:
        own = "linear layer" if isinstance(module, nn.Linear) else "convolution"
        return f"{kind} computes otherwise than torch's own {own}"
    if is_watched(module) or "forward" in vars(module):
        return "hooks or a forward of its own change what it does"
    tensors = [tensor for tensor in (module.weight, module.bias) if tensor is not None]
    if math.prod(module.weight.shape) == 0 or not all(
        bool(torch.isfinite(tensor).all()) for tensor in tensors
    ):
        return "its weights are empty, or hold NaN or infinity"
    if module.weight.is_complex():
        return "its weights are complex"
    return _odd_geometry(module) if is_transposed(module) else None


def _odd_geometry(module: Any) -> str | None:
    """Return why a transposed convolution is no convolution of its spread input; None where it is."""
    try:
        geometry_of(module)
    except ValueError as reason:
        return str(reason)
    return None
