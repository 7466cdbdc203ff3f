"""By which tensors a converted model is judged: its outputs, or what they are chosen by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from torch import Tensor

from .interception import Interception
from .run import tensors_of

__all__ = ["CHOSEN_BY", "floats_of", "named_outputs", "outcomes"]

# What the name of a tensor begins with that stands for an output.
CHOSEN_BY: Final = "the input of "

# Operators that only cast or arrange what they read first: labels stay labels.
_ARRANGED: Final = (
    *("_to_copy", "view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "transpose", "permute", "clone"),
    *("expand", "slice", "select", "cat", "stack"),
)


def outcomes(run: Callable[[], Any], whole_numbers: bool) -> dict[str, Tensor]:
    """Return what a run of a model is judged by, under the names of its outputs.

    Parameters
    ----------
    run : callable
        Runs it and returns its output.
    whole_numbers : bool
        Whether some outputs hold whole numbers or truth values: then it is watched what those are computed
        from. For each stand the floating-point tensors that an argmax, a topk or a comparison read. One that
        no such tensor is known of, as it was computed outside of torch, is judged itself.

    Returns
    -------
    dict of str to Tensor
        Copies. Names of tensors that stand for outputs begin with `CHOSEN_BY`.
    """
    if not whole_numbers:
        return {name: tensor.detach().clone() for name, tensor in named_outputs(run()).items()}
    with _ChoiceWatch() as watch:
        output = run()
    named = named_outputs(output)
    chosen = {name: watch.sources(tensor) for name, tensor in named.items()}
    judged = {name: tensor.detach().clone() for name, tensor in named.items() if not chosen[name]}
    known = {id(named[name]) for name in judged}
    for name, sources in chosen.items():
        for source, operator in sources:
            if id(source) not in known:
                known.add(id(source))
                label = f"{CHOSEN_BY}{operator}" + (f", for {name}" if len(named) > 1 else "")
                label += f" ({sum(known_name.startswith(label) for known_name in judged) + 1})" * (
                    label in judged
                )
                judged[label] = source.detach().clone()
    return judged


def named_outputs(output: Any) -> dict[str, Tensor]:
    """Return the tensors in a model's output by keys and places; a lone one is called "output"."""
    if isinstance(output, Tensor):
        return {"output": output}
    return dict(_named(output, ""))


def floats_of(output: Any) -> list[Tensor]:
    """Return the floating tensors in a model's output, whatever it packs them in."""
    return [tensor for tensor in named_outputs(output).values() if tensor.is_floating_point()]


def _named(value: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if hasattr(value, "to_tuple"):  # the output classes of transformers
        value = dict(value) if isinstance(value, Mapping) else value.to_tuple()
    if isinstance(value, Tensor):
        yield prefix or "output", value
    elif isinstance(value, (Mapping, tuple, list)):
        entries = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, entry in entries:
            yield from _named(entry, f"{prefix}.{key}" if prefix else str(key))
    else:
        for number, tensor in enumerate(tensors_of(value)):
            yield f"{prefix}.{number}" if prefix else str(number), tensor


_Sources = tuple[tuple[Tensor, str], ...]  # floating-point tensors, each with the operator that read it


class _ChoiceWatch(Interception):
    """Notes which floating-point tensors each tensor of whole numbers was computed from last."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # By the identity of a tensor: itself, so that its identity stays its own, and what it was made of.
        self._made: dict[int, tuple[Tensor, _Sources]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator, and note what its whole numbers come from."""
        result = func(*args, **(kwargs or {}))
        read = tensors_of([args, kwargs or {}])
        operator = getattr(getattr(func, "overloadpacket", None), "__name__", "an operator")
        labels = operator in _ARRANGED and bool(read) and id(read[0]) in self._made
        for tensor in tensors_of([result]):
            if labels or not tensor.is_floating_point():
                sources: dict[int, tuple[Tensor, str]] = {}
                for given in read:
                    plain = given.is_floating_point() and id(given) not in self._made
                    for source, name in ((given, operator),) if plain else self.sources(given):
                        sources.setdefault(id(source), (source, name))
                self._made[id(tensor)] = tensor, tuple(sources.values())
        return result

    def sources(self, tensor: Tensor) -> _Sources:
        """Return what a tensor of whole numbers was computed from; nothing where that is not known."""
        return self._made.get(id(tensor), (tensor, ()))[1]
