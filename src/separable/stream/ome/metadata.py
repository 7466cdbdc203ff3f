"""What an OME-Zarr picture says of its axes and of where its samples lie, as OME-NGFF 0.5 writes it.

Read are 0.4 and 0.5, by `places.ngff`; what a source of another kind says is put in the same words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ...files.guard import FileError
from ...files.image import Image, size_text
from .geometry import OmeLevel, Reduction, placed

VERSION: Final = "0.5"

# Axes by the letters of an image; the order in which OME-NGFF wants their kinds.
_NAMES: Final = {"X": "x", "Y": "y", "Z": "z", "T": "t", "C": "c"}
_KINDS: Final = {"T": "time", "C": "channel"}
_ORDER: Final = {"time": 0, "space": 2}  # all others between
_UNNAMED: Final = {2: "YX", 3: "ZYX"}
_MICROSCOPIC: Final = 0.1  # millimetres, below which distances are told in micrometres
_METHODS: Final = {
    "mean": "means of the samples of level 0, rounded once",
    "sample": "every so many samples of level 0, the first among them",
}


@dataclass(frozen=True)
class OmeAxis:
    """An axis: its name, its kind (space, time, channel), and the unit of its distances; "" for none."""

    name: str
    kind: str
    unit: str = ""

    def entry(self) -> dict[str, str]:
        """Return it as a file holds it."""
        entry = {"name": self.name, "type": self.kind}
        return entry | {"unit": self.unit} if self.unit else entry


@dataclass(frozen=True)
class OmePicture:
    """A picture: its axes, and where the samples of its largest level lie, in the units of the axes.

    Attributes
    ----------
    axes : tuple of OmeAxis
    scale, translation : tuple of float
        Distance of neighbouring samples, and the place of the first.
    name : str
    levels : int
        How many the source has.
    rendering : dict or None
        How its channels are to be shown ("omero").
    """

    axes: tuple[OmeAxis, ...]
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    name: str = ""
    levels: int = 1
    rendering: dict[str, Any] | None = None

    def reversed(self) -> OmePicture:
        """Return the picture of the array with its axes in the opposite order."""
        return replace(self, axes=self.axes[::-1], scale=self.scale[::-1], translation=self.translation[::-1])

    def refusal(self) -> str:
        """Return why OME-NGFF has no such picture; empty if it has."""
        names, kinds = [axis.name for axis in self.axes], [axis.kind for axis in self.axes]
        if not 2 <= len(names) <= 5 or len(set(names)) < len(names):
            return f"expected 2 to 5 axes with names of their own, not {len(names)}"
        if not 2 <= kinds.count("space") <= 3:
            return f"expected 2 or 3 axes of space, not {kinds.count('space')}"
        if kinds.count("time") > 1 or len(kinds) - kinds.count("space") - kinds.count("time") > 1:
            return "expected one axis of time and one of channels at the most"
        ranks = [_ORDER.get(kind, 1) for kind in kinds]
        return "" if ranks == sorted(ranks) else "expected time before channels before space"

    def attributes(self, levels: Sequence[OmeLevel], reduction: Reduction) -> dict[str, Any]:
        """Return the attributes of the group that holds its levels, 0, 1 and so on."""
        places = [placed(level, self.scale, self.translation, reduction) for level in levels]
        moved = any(start for _, begins in places for start in begins)
        data_sets = []
        for number, (scale, begins) in enumerate(places):
            steps: list[dict[str, Any]] = [{"type": "scale", "scale": list(scale)}]
            steps += [{"type": "translation", "translation": list(begins)}] if moved else []
            data_sets.append({"path": str(number), "coordinateTransformations": steps})
        picture: dict[str, Any] = {"name": self.name} if self.name else {}
        picture |= {"axes": [axis.entry() for axis in self.axes], "datasets": data_sets}
        if len(levels) > 1:
            how = {"method": "separable.stream.pyramid", "description": _METHODS[reduction]}
            picture |= {"type": reduction, "metadata": how}
        ome: dict[str, Any] = {"version": VERSION, "multiscales": [picture]}
        return {"ome": ome | ({"omero": self.rendering} if self.rendering else {})}


def picture_of(image: Image, path: Path, turned: bool = False) -> tuple[OmePicture, bool]:
    """Return what is known of an image as an OME-Zarr picture says it.

    Parameters
    ----------
    image : Image
    path : Path
        Of the picture that is to be, for errors.
    turned : bool
        Axes may come in the opposite order: those with names do, as x, y, z become z, y, x.

    Returns
    -------
    picture : OmePicture
    turned : bool
        Whether its axes are those of the image in the opposite order.

    Raises
    ------
    FileError
        There is no such picture.
    """
    picture = image.carried
    if not isinstance(picture, OmePicture) or picture.refusal():
        picture = _by_letters(image, path)
        turned = turned and not set(image.axes) & set("QI")
    if turned:
        picture = picture.reversed()
    if reason := picture.refusal():
        shape = size_text(image.data.shape)
        raise FileError(f"`{path}`: an OME-Zarr picture of {shape} samples: {reason}; write .zarr.")
    return picture, turned


def _by_letters(image: Image, path: Path) -> OmePicture:
    """Return a picture of axes and spacing of an image of any kind."""
    letters = image.axes
    if set(letters) <= {"Q"}:
        letters = _UNNAMED.get(len(letters), letters)
    elif "Z" not in letters and sum(letter in "QI" for letter in letters) == 1:
        letters = letters.replace("Q", "Z").replace("I", "Z")
    if any(letter not in _NAMES for letter in letters):
        what = "colours as channels, before its space" if "S" in letters else "2 or 3 axes, or names for them"
        shape = size_text(image.data.shape)
        raise FileError(f"`{path}`: an OME-Zarr picture has {what}, not {shape} samples; write .zarr.")
    steps = [step for step in image.spacing if step]
    unit, per_millimetre = "millimeter", 1.0
    if min(steps, default=1.0) < _MICROSCOPIC:
        unit, per_millimetre = "micrometer", 1e3
    return OmePicture(
        tuple(
            OmeAxis(_NAMES[letter], _KINDS.get(letter, "space"), unit if step else "")
            for letter, step in zip(letters, image.spacing, strict=True)
        ),
        tuple(step * per_millimetre if step else 1.0 for step in image.spacing),
        (0.0,) * len(letters),
    )


def rendering_of(value: Any, channels: int) -> dict[str, Any] | None:
    """Return how channels are to be shown, as a file says it; None where that is not what a file may say."""
    entries = value.get("channels") if isinstance(value, dict) else None
    if not isinstance(entries, list) or len(entries) != channels:
        return None
    kept = []
    for entry in entries:
        window = entry.get("window") if isinstance(entry, dict) else None
        if not isinstance(window, dict) or not re.fullmatch(r"[0-9A-Fa-f]{6}", str(entry.get("color"))):
            return None
        numbers = {name: window.get(name) for name in ("min", "max", "start", "end")}
        if not all(map(_is_number, numbers.values())):
            return None
        words = {name: entry[name] for name in ("label", "family") if isinstance(entry.get(name), str)}
        flags = {name: entry[name] for name in ("active", "inverted") if isinstance(entry.get(name), bool)}
        kept.append({"color": entry["color"], "window": numbers, **words, **flags})
    return {"channels": kept}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
