"""What a model does with its convolutions: which run, how often, what reads their outputs and weights."""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils._python_dispatch import TorchDispatchMode

from ..layers.between import is_plain, is_watched
from ..layers.pair import ConvPair
from ..layers.spatial import SpatialConv
from ..model.run import Call, tensors_of
from ..model.untouched import map_tensors, untouched
from ..model.watch import _storage, own_name

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_RECTIFIERS: Final = {"aten::relu", "aten::relu_"}
_SUMS: Final = {"aten::add", "aten::add_"}
Shape: TypeAlias = tuple[int, ...]


@dataclass
class Traced:
    """How a convolution took part in one run.

    Attributes
    ----------
    name : str
        Qualified; the first one of a module that has several.
    module : Module
    inputs : list of tuple of int
        Shape of the input of each call, ``(N, C_in, *sizes)``.
    readers : set of str
        Modules that read its output; "" is the model itself, which also stands for the model's own output.
    operators : set of str
        With what they read it. Additions are in it only if they add another tensor of the same shape.
    after : set of str
        What reads those sums.
    """

    name: str
    module: Any
    inputs: list[Shape] = field(default_factory=list)
    readers: set[str] = field(default_factory=set)
    operators: set[str] = field(default_factory=set)
    after: set[str] = field(default_factory=set)

    @property
    def is_summed(self) -> bool:
        """Whether all that is done with the output is to add it to another branch."""
        return bool(self.operators) and self.operators <= _SUMS

    @property
    def is_summed_and_rectified(self) -> bool:
        """Whether a rectifier alone reads that sum."""
        return self.is_summed and bool(self.after) and self.after <= _RECTIFIERS

    @property
    def activation(self) -> str | None:
        """The rectifier that alone reads the output, if there is one."""
        return "relu" if self.operators and self.operators <= _RECTIFIERS else None


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
                    f"`skip` holds {pattern!r}, which is the name of no convolution that can be converted."
                    + (f" Did you mean {close[0]!r}?" if close else "")
                )
        left_out = {n for n in names if any(fnmatch.fnmatchcase(n, pattern) for pattern in skip)}
        kept = [place for place, name in enumerate(names) if name not in left_out]
        return replace(
            self,
            convs=tuple(self.convs[place] for place in kept),
            order=tuple(kept.index(place) for place in self.order if place in kept),
            refused={**self.refused, **dict.fromkeys(sorted(left_out), "left out by `skip`")},
        )


def trace(model: nn.Module, call: Call) -> Trace:
    """Run a model once on `call` and watch its convolutions.

    Shapes are enough, so that no number is computed unless the model asks for some.

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
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        return _run(model, call, candidates, dict(refused), fake.from_tensor, fake)
    # What a model does with fake tensors is no matter, as long as it runs on real ones.
    except Exception:
        return _run(model, call, candidates, dict(refused), _own, nullcontext())


def _own(tensor: Tensor) -> Tensor:
    return tensor if isinstance(tensor, nn.Parameter) else tensor.detach().clone()


def _run(
    model: nn.Module,
    call: Call,
    candidates: dict[str, Any],
    refused: dict[str, str],
    replace: Callable[[Tensor], Tensor],
    mode: AbstractContextManager[Any],
) -> Trace:
    with untouched(model, replace):
        arguments, options = map_tensors(call, replace)
        watcher = _ConvWatcher(model, candidates)
        with torch.no_grad(), mode, watcher.following(), watcher:
            output = model(*arguments, **options)
        watcher.read("", "output", output)
    for name, (tensor, reader) in watcher.asked.items():
        refused[name] = f"its {tensor} is read by {reader or 'the model itself'}, too"
    for name in candidates:
        if name not in watcher.convs:
            refused.setdefault(name, "it did not run on the calibration data")
    for name, seen in watcher.convs.items():
        ndim = len(seen.module.kernel_size) + 2
        if any(len(shape) != ndim for shape in seen.inputs):
            refused.setdefault(name, "its input has no batch axis")
    kept = [seen for name, seen in watcher.convs.items() if name not in refused]
    places = {seen.name: place for place, seen in enumerate(kept)}
    order = tuple(places[name] for name in watcher.order if name in places)
    samples = max((len(x) for x in tensors_of(call)[:1] if x.dim()), default=1)
    return Trace(tuple(kept), order, watcher.calls, refused, samples)


class _ConvWatcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the outputs and weights of convolutions to the modules that read them."""

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module, candidates: dict[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._model = model
        self._names = {id(module): own_name(name) for name, module in reversed([*model.named_modules()])}
        self._candidates = candidates
        self._stack: list[str] = [""]
        self._alive: list[Tensor] = []  # so that no storage is used twice
        self._made: dict[int, str] = {}
        self._sums: dict[int, list[str]] = {}
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
                (x,) = tensors_of((inputs, options))
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

    def read(self, reader: str, operator: str, values: Any) -> None:
        """Note that `reader` reads tensors."""
        for tensor in tensors_of(values):
            storage = _storage(tensor)
            if storage in self._made:
                conv = self.convs[self._made[storage]]
                conv.readers.add(reader)
                conv.operators.add(operator)
            for name in self._sums.get(storage or 0, ()):
                self.convs[name].after.add(operator)
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
        )
        for place, value in enumerate(args if schema is not None and schema.is_mutable else ()):
            written = schema.arguments[place].alias_info
            if written is not None and written.is_write:  # from here on it is no convolution's output
                for tensor in tensors_of((value,)):
                    self._made.pop(_key(tensor), None)
                    self._sums.pop(_key(tensor), None)
        result = func(*args, **(kwargs or {}))
        if added and addends:
            self._alive.append(result)
            self._sums[_key(result)] = addends
        return result


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
    """Return the convolutions that can be converted, and why each other one cannot."""
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
    """Return why a module is no convolution that can be converted; "" for what is no convolution at all."""
    kind = type(module).__name__
    if isinstance(module, (ConvPair, SpatialConv)):
        return "it is separable already"
    if isinstance(module, _ConvTransposeNd):
        return "" if separable else f"{kind}: transposed convolutions are not converted"
    if not isinstance(module, _ConvNd):
        foreign = "Conv" in kind and "quantized" in type(module).__module__
        return f"{kind}: quantized convolutions are not converted" if foreign else ""
    if separable:
        return ""
    if not any(is_plain(module, plain) for plain in CONVS):
        return f"{kind} computes otherwise than torch's own convolution"
    if is_watched(module) or "forward" in vars(module):
        return "hooks or a forward of its own change what it does"
    tensors = [tensor for tensor in (module.weight, module.bias) if tensor is not None]
    if math.prod(module.weight.shape) == 0 or not all(
        bool(torch.isfinite(tensor).all()) for tensor in tensors
    ):
        return "its weights are empty, or hold NaN or infinity"
    if module.weight.is_complex():
        return "its weights are complex"
    return None
