"""A distillation on disk: what it takes to go on where it stopped, and whose it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from ..._base.atomic import replacing
from ...conv.conversion.records import Conversion, ConversionReport, ConvertedLayer, Option
from ...conv.forms.layer import ConvLayer, Replacement
from ..model.run import Call, tensors_of

_FORMAT: Final = "separable: distillation, version 1"

# What a fingerprint is of, as a refusal names it.
_MODEL, _DATA = "model", "calibration data"


class Checkpoint:
    """A file that is exchanged in one step, so that it is whole at any time.

    Parameters
    ----------
    path : path-like
        Need not be there yet; its folder must.
    model : Module
        What is converted.
    calls : iterable of arguments
        What it is calibrated on.
    settings : mapping of str to plain values
        The arguments that the result depends on.

    Attributes
    ----------
    conversion : Conversion or None
        As it was found in the file.
    training : dict or None
        Likewise, as :meth:`save` was given it.

    Raises
    ------
    ValueError
        If the file is not a checkpoint, or one of another model, of other data or of other settings.
    FileNotFoundError
        If its folder is not there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: nn.Module,
        calls: Iterable[Call],
        settings: Mapping[str, Any],
    ) -> None:
        self._path = Path(path)
        self.conversion: Conversion | None = None
        self.training: dict[str, Any] | None = None
        if not self._path.parent.is_dir():
            raise FileNotFoundError(f"`checkpoint` lies in {self._path.parent}, which is no folder; make it.")
        self._owner = {
            _MODEL: _fingerprint({**dict(model.named_parameters()), **dict(model.named_buffers())}.items()),
            _DATA: _fingerprint(
                (str(number), tensor) for number, call in enumerate(calls) for tensor in tensors_of(call)
            ),
            **_plain(settings),
        }
        if self._path.exists():
            held = self._read()
            self._check(held["owner"])
            self.conversion, self.training = _conversion(held["conversion"]), held["training"]

    def save(self, conversion: Conversion, training: Mapping[str, Any]) -> None:
        """Write and exchange the file: what is cut short leaves it as it was.

        Parameters
        ----------
        conversion : Conversion
        training : mapping
            Of tensors, numbers, strings, lists and dicts.
        """
        held = {
            "format": _FORMAT,
            "owner": self._owner,
            "conversion": {
                "report": _plain(asdict(conversion.report)),
                "replacements": {place: _written(new) for place, new in conversion.replacements.items()},
            },
            "training": dict(training),
        }
        with replacing(self._path) as draft, draft.open("wb") as stream:
            torch.save(held, stream)

    def _read(self) -> dict[str, Any]:
        try:
            held = torch.load(self._path, map_location="cpu", weights_only=True)
        # Whatever torch makes of other people's files.
        except Exception as error:
            raise ValueError(
                f"`checkpoint` ({self._path}) cannot be read ({type(error).__name__}); it is damaged or no "
                "checkpoint of `separate`. Remove it, or pass another path."
            ) from error
        if not isinstance(held, dict) or held.get("format") != _FORMAT:
            raise ValueError(
                f"`checkpoint` ({self._path}) is no checkpoint of this version of `separate`; remove it, or "
                "pass another path."
            )
        return held

    def _check(self, owner: Mapping[str, Any]) -> None:
        """Refuse a file of something else, by the name of what differs."""
        for name, mine in self._owner.items():
            other = owner.get(name)
            if other == mine:
                continue
            if name == _MODEL:
                raise ValueError(
                    f"`checkpoint` ({self._path}) is of another model; remove it, or pass another path."
                )
            if name == _DATA:
                raise ValueError(
                    f"`checkpoint` ({self._path}) is of other calibration data; remove it, or pass another "
                    "path. The same inputs must come in the same order: a DataLoader must not shuffle."
                )
            raise ValueError(
                f"`checkpoint` ({self._path}) is of a run with {name}={other!r}, and this is one with "
                f"{name}={mine!r}; pass the same, or another path."
            )


def _fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return what differs where a name, a shape, a dtype or a number does."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors:
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(values.shape)} {values.dtype} ".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """Return nested values as what a file may hold: no classes, no NumPy."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _written(new: Replacement) -> dict[str, Any]:
    return {
        "form": new.form,
        "rank": _plain(new.rank),
        "error": float(new.error),
        "channels": _plain(new.channels),
        "convs": [
            {field.name: _tensor_or_plain(getattr(conv, field.name)) for field in fields(conv) if field.init}
            for conv in new.convs
        ],
    }


def _tensor_or_plain(value: Any) -> Any:
    return torch.tensor(value) if isinstance(value, np.ndarray) else _plain(value)


def _conversion(held: Mapping[str, Any]) -> Conversion:
    """Return what :meth:`Checkpoint.save` wrote."""
    replacements = {place: _replacement(entry) for place, entry in held["replacements"].items()}
    report = dict(held["report"])
    report["layers"] = tuple(_row(entry) for entry in report["layers"])
    report["frontier"] = tuple((cost, change) for cost, change in report["frontier"])
    report["measured"] = tuple(report["measured"])
    report["notes"] = tuple(report.get("notes", ()))
    report["outputs"] = ()  # what was measured of a result is measured again, of the trained one
    return Conversion(replacements, ConversionReport(**report))


def _row(held: Mapping[str, Any]) -> ConvertedLayer:
    options = tuple(Option(**option) for option in held["options"])
    return ConvertedLayer(**{**held, "rank": _tuples(held["rank"]), "options": options})


def _replacement(held: Mapping[str, Any]) -> Replacement:
    convs = tuple(
        ConvLayer(**{key: _array_or_tuples(value) for key, value in conv.items()}) for conv in held["convs"]
    )
    return Replacement(held["form"], _tuples(held["rank"]), convs, held["error"], _tuples(held["channels"]))


def _array_or_tuples(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value
