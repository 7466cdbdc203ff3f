"""Calibration data as calls of a model: what it is given as, and how often it can be read."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..model.run import Call, description, tensors_of
from ..model.untouched import map_tensors

Batches: TypeAlias = Tensor | Iterable[Any]

# Batch size for a tensor of calibration inputs: keeps the cores busy, and the activations of a large network
# in memory.
BATCH: Final = 64

_ACCEPTED = "a tensor of inputs, a list of batches, or a DataLoader"


class TorchCalibration:
    """Inputs of a model, read as often as asked for, always on its device and in its dtype.

    Parameters
    ----------
    model : Module
    data : Tensor, ndarray, mapping of tensors, or iterable of batches
        As :func:`separate` takes it.
    limit : int
        Bytes up to which the inputs are kept, so that each pass sees the same ones in the same order.

    Attributes
    ----------
    labels : list or None
        What tuples hold behind the arguments of the model, as DataLoaders give labels: the first entry, input
        by input; None where there is none, or the order of the inputs may change.

    Raises
    ------
    TypeError
        If it is none of these, or can be read only once.
    ValueError
        If there is no batch.
    """

    def __init__(self, model: nn.Module, data: Batches, limit: int, argument: str = "calibration") -> None:
        self._accepts = _Parameters(model)
        like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
        self._device, self._dtype = like.device, like.dtype
        self._source = _batches_of(data)
        self._kept: list[Call] | None = None
        kept: list[Call] = []
        held, labels = 0, _Labels()
        for batch in self._source:
            call = self._call(batch)
            labels.add(self._accepts.behind(batch))
            held += sum(tensor.nbytes for tensor in tensors_of(call))
            if kept and held > limit:
                break
            kept.append(call)
        else:
            self._kept = kept
        self.labels = labels.entries if self._kept is not None else None
        if not kept:
            raise ValueError(f"`{argument}` holds no batch; pass a few hundred inputs of the model.")
        self.first = kept[0]
        _check_finite(self.first)

    @property
    def repeats(self) -> bool:
        """Whether each pass is known to see the same inputs in the same order."""
        return self._kept is not None

    def __iter__(self) -> Iterator[Call]:
        return self._read() if self._kept is None else iter(self._kept)

    def _read(self) -> Iterator[Call]:
        yield from map(self._call, self._source)

    def _call(self, batch: Any) -> Call:
        call: Call = map_tensors(self._accepts.call(batch), self._moved)
        return call

    def _moved(self, tensor: Tensor) -> Tensor:
        dtype = self._dtype if tensor.is_floating_point() else tensor.dtype
        own = tensor.clone() if tensor.is_inference() else tensor.detach()  # nothing learns from the former
        return own.to(device=self._device, dtype=dtype)


class _Parameters:
    """What the forward of a model takes: by position, and by name."""

    def __init__(self, model: nn.Module) -> None:
        self.places: int | None = None
        self.names: set[str] | None = None
        try:
            parameters = inspect.signature(model.forward).parameters.values()
        except (TypeError, ValueError):  # a forward that is not written in Python takes what it takes
            return
        kinds = {parameter.kind for parameter in parameters}
        if inspect.Parameter.VAR_POSITIONAL not in kinds:
            positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            self.places = sum(parameter.kind in positional for parameter in parameters)
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            self.names = {parameter.name for parameter in parameters}

    def call(self, batch: Any) -> Call:
        """Return the arguments that a batch stands for, without what the model does not take."""
        if isinstance(batch, (Tensor, np.ndarray)):
            return (_tensor(batch),), {}
        if isinstance(batch, Mapping):
            kept = {key: _tensor(value) for key, value in batch.items() if self._knows(key)}
            if not kept:
                raise ValueError(
                    f"a batch of `calibration` has the keys {sorted(map(str, batch))}, and the model's "
                    f"forward takes {sorted(self.names or ())}."
                )
            return (), kept
        if isinstance(batch, (tuple, list)):
            return tuple(_tensor(argument) for argument in batch[: self.places]), {}
        raise TypeError(
            f"a batch of `calibration` is a {type(batch).__name__}; expected a tensor, a tuple whose first "
            "entries are the model's arguments, or a mapping of keyword arguments."
        )

    def behind(self, batch: Any) -> Any:
        """Return what a tuple holds behind the arguments of the model; None if that is nothing."""
        if isinstance(batch, (tuple, list)) and self.places is not None and len(batch) > self.places:
            return batch[self.places]
        return None

    def _knows(self, name: object) -> bool:
        return self.names is None or name in self.names


class _Labels:
    """What comes behind the inputs of all batches, input by input."""

    def __init__(self) -> None:
        self.entries: list[Any] | None = []

    def add(self, labels: Any) -> None:
        """Add those of a batch; None: there are none."""
        if isinstance(labels, Tensor):
            labels = labels.detach().cpu().numpy()
        sized = isinstance(labels, (np.ndarray, list, tuple)) and np.ndim(labels) > 0
        if self.entries is None or not sized:
            self.entries = None
        else:
            self.entries += list(labels)


def _batches_of(data: Any) -> Iterable[Any]:
    """Return what can be iterated over again and again, one batch at a time."""
    if isinstance(data, (Tensor, np.ndarray)):
        return _slices(_tensor(data))
    if isinstance(data, Mapping):
        lengths = {len(value) for value in data.values() if isinstance(value, (Tensor, np.ndarray))}
        if len(lengths) != 1:
            raise ValueError(
                f"`calibration` maps names to tensors of {sorted(lengths)} inputs; expected one number. Pass "
                "a list of such mappings to give batches."
            )
        parts = {key: list(_slices(_tensor(value))) for key, value in data.items()}
        return [dict(zip(parts, batch, strict=True)) for batch in zip(*parts.values(), strict=True)]
    if isinstance(data, Iterator):
        raise TypeError(
            f"`calibration` is a {type(data).__name__}, which can be read only once; the data are read "
            "several times. Pass a list of its batches: list(...)."
        )
    if isinstance(data, Dataset):
        raise TypeError(
            f"`calibration` is the dataset {type(data).__name__}, which gives single samples; pass "
            "torch.utils.data.DataLoader(dataset, batch_size=64)."
        )
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes)):
        raise TypeError(f"`calibration` is a {type(data).__name__}; expected {_ACCEPTED}.")
    return data


def _slices(inputs: Tensor) -> Sequence[Tensor]:
    if inputs.dim() == 0:
        raise ValueError("`calibration` is a single number; expected inputs along the first axis.")
    return [inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH)]


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _check_finite(call: Call) -> None:
    for tensor in tensors_of(call):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(
                f"`calibration` holds NaN or infinity ({description(call)}); inputs must be finite."
            )


def one_sample(call: Call) -> Call:
    """Return the first sample of a batch; the batch itself where its tensors disagree on what that is."""
    lengths = {len(tensor) if tensor.dim() else 0 for tensor in tensors_of(call)}
    if len(lengths) != 1 or 0 in lengths:
        return call
    single: Call = map_tensors(call, lambda tensor: tensor[:1])
    return single
