"""How a model is run to be watched: on fake tensors if that is enough, on real ones if it must be."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parameter import is_lazy

from .untouched import map_tensors, untouched
from .watch import CountedRun, Signature, Watcher

Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]  # positional and keyword arguments

_ACCEPTED = (
    "a tensor, a tuple of arguments, a mapping of keyword arguments, or a shape such as (1, 3, 224, 224)"
)


@dataclass(frozen=True)
class Watched:
    """A model that was run: what was counted, median times in milliseconds, and how it was run."""

    counted: CountedRun
    layers_ms: Mapping[Signature, float]
    whole_ms: float | None
    remark: str


def check_model(model: nn.Module) -> None:
    """Refuse what is no model, or has no weights yet."""
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise TypeError(f"`model` is the class {model.__name__}; pass an instance: {model.__name__}(...).")
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"`model` is a {type(model).__name__}; expected a torch.nn.Module. "
            "Wrap a function in a Module whose forward calls it."
        )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                f"`model` holds `{name}`, which has no shape yet (a lazy module); run the model once first."
            )


def call_of(model: nn.Module, example: Any) -> Call:
    """Return the arguments that an example stands for.

    Raises
    ------
    TypeError
        If it is none of the kinds that are understood.
    """
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, Mapping):
        return (), dict(example)
    if not isinstance(example, (tuple, list)):
        raise TypeError(f"`example` is a {type(example).__name__}; expected {_ACCEPTED}.")
    if not example or not all(type(length) is int for length in example):
        return tuple(example), {}
    if min(example) < 0:
        raise ValueError(f"`example={tuple(example)}` is no shape: it holds a negative length.")
    like = next((length for length in model.parameters() if length.is_floating_point()), torch.empty(0))
    return (torch.zeros(tuple(example), dtype=like.dtype, device=like.device),), {}


def watch(model: nn.Module, call: Call, runs: int, *, fakes: bool = True) -> Watched:
    """Run a model and count; measure it if `runs` is not 0.

    Unless `fakes` is False, shapes alone are tried first: of large models that is quicker, and what it needs
    is imported in two seconds.

    Raises
    ------
    ValueError
        If the model does not run on the arguments.
    """
    devices = {parameter.device.type for parameter in model.parameters()}
    if devices == {"meta"}:
        call = map_tensors(call, lambda tensor: tensor.to("meta"))
    remark = "run on real tensors"
    if runs and "meta" in devices:
        raise ValueError(
            "`measure=True`, but `model` is on the meta device and holds no numbers; "
            "move it with model.to_empty(device='cpu'), or leave `measure` out."
        )
    if fakes and not runs:
        try:
            return _run_on_fakes(model, call)
        # Whatever went wrong with fake tensors, real ones decide whether the example fits.
        except Exception as error:
            remark += f", because fake ones failed ({_in_short(error)})"
    try:
        return _run_for_real(model, call, runs, remark, torch.inference_mode)
    except Exception as error:
        # A forward that takes derivatives needs autograd, which inference mode has not.
        with contextlib.suppress(Exception):
            return _run_for_real(model, call, runs, remark + ", with autograd at hand", torch.no_grad)
        raise ValueError(
            f"`model` ({type(model).__name__}) does not run on `example` ({description(call)}): "
            f"{type(error).__name__}: {error}\nPass what model(...) takes: {_ACCEPTED}."
        ) from error


def description(call: Call) -> str:
    """Return the arguments of a call in words: shapes and dtypes."""
    arguments, options = call
    shown = [_shown(argument) for argument in arguments] + [
        f"{key}={_shown(argument)}" for key, argument in options.items()
    ]
    return ", ".join(shown) or "no arguments"


def inputs_of(call: Call) -> int:
    """Return how many inputs a batch holds."""
    first = next((tensor for tensor in tensors_of(call) if tensor.dim()), None)
    return 0 if first is None else len(first)


def tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and mappings."""
    tensors: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    map_tensors(value, keep)
    return tensors


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, (tuple, list)) and any(isinstance(entry, Tensor) for entry in value):
        return f"[{', '.join(map(_shown, value))}]"
    return type(value).__name__ if hasattr(value, "__dict__") else repr(value)


def _in_short(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:200]}" if first else type(error).__name__


def _run_on_fakes(model: nn.Module, call: Call) -> Watched:
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with untouched(model, fake.from_tensor), _plainly():
        arguments, options = map_tensors(call, fake.from_tensor)
        watcher = Watcher(model, parts=True)
        with torch.inference_mode(), fake, watcher.naming(), watcher:
            model(*arguments, **options)
    return Watched(watcher.run(), {}, None, "counted on fake tensors: shapes alone, nothing was computed")


@torch.no_grad()
def seconds_of(model: nn.Module, call: Call) -> float:
    """Return what one call takes, what runs on a device included."""
    start = time.perf_counter()
    model(*call[0], **call[1])
    for tensor in tensors_of(call)[:1]:
        if tensor.is_cuda:
            torch.cuda.synchronize(tensor.device)
    return time.perf_counter() - start


def _run_for_real(
    model: nn.Module,
    call: Call,
    runs: int,
    remark: str,
    mode: Callable[[], contextlib.AbstractContextManager[Any]],
) -> Watched:
    copies: dict[int, Tensor] = {}  # an input that is passed twice stays one
    arguments, options = map_tensors(call, lambda x: copies.setdefault(id(x), x.detach().clone()))
    cuda = sorted(
        {t.device.index or 0 for t in (*model.parameters(), *tensors_of(call)) if t.device.type == "cuda"}
    )

    def synchronize() -> None:
        for device in cuda:
            torch.cuda.synchronize(device)

    def watched(timed: bool) -> CountedRun:
        watcher = Watcher(model, parts=not runs, synchronize=synchronize if timed else None)
        with watcher.naming(), watcher:
            model(*arguments, **options)
        return watcher.run()

    def whole() -> float:
        synchronize()
        start = time.perf_counter()
        model(*arguments, **options)
        synchronize()
        return time.perf_counter() - start

    with untouched(model, _state_copy), _plainly(), torch.random.fork_rng(cuda), mode():
        counted = watched(timed=False)  # and warms up
        timed = [watched(timed=True) for _ in range(runs)]
        wholes = [whole() for _ in range(runs)]
    layers_ms = {}
    for signature in counted.calls if runs else ():
        seconds = [run.seconds[signature] for run in timed if signature in run.seconds]
        if seconds:
            layers_ms[signature] = 1e3 * statistics.median(seconds)
    return Watched(counted, layers_ms, 1e3 * statistics.median(wholes) if runs else None, remark)


def _state_copy(tensor: Tensor) -> Tensor:
    """Return what the forward may write to; parameters it only reads."""
    return tensor if isinstance(tensor, nn.Parameter) else tensor.detach().clone()


@contextlib.contextmanager
def _plainly() -> Iterator[None]:
    """Run operator by operator: compiled code and fused transformer layers would hide what they call."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # Importing the compiler takes seconds; what is not imported has compiled nothing.
        with (
            torch.compiler.set_stance("force_eager")
            if "torch._dynamo" in sys.modules
            else contextlib.nullcontext()
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
