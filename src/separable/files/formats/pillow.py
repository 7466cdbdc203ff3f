"""PNG and JPEG: one 2-D picture, grey or in colour, with or without opacity."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._base.extras import extra
from ..guard import FileError, reading
from ..image import Image, arranged, check_samples, size_text
from ..target import replacing

if TYPE_CHECKING:
    from PIL import Image as PillowImage

PNG_SUFFIXES = (".png",)
JPEG_SUFFIXES = (".jpg", ".jpeg")
SUFFIXES = PNG_SUFFIXES + JPEG_SUFFIXES

# How the modes Pillow opens are filtered: palettes and bits become the colours they stand for.
_MODES = {"1": "L", "P": "RGB", "PA": "RGBA"}
_SAMPLES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_JPEG_SIDE = 65500  # libjpeg's JPEG_MAX_DIMENSION
_JPEG_QUALITY = 95  # the highest Pillow recommends: above it files grow without gain


@dataclass(frozen=True)
class _Carried:
    info: dict[str, Any]


def read(path: Path) -> Image:
    """Return a PNG's or JPEG's samples as uint8, or uint16 for a 16-bit grey PNG."""
    with extra("files"):
        from PIL import Image as PillowImage

    with reading(path, "PNG or JPEG"), warnings.catch_warnings():
        # Pillow warns above 89 Mpixel, which is a large photograph, and refuses above 179 Mpixel.
        warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
        with PillowImage.open(path, formats=("PNG", "JPEG")) as picture:
            _check_kind(path, picture)
            shown = _shown(picture)
            # Pillow opens 16-bit grey in mode I;16; before Pillow 11 in mode I, which has 32 bits.
            data = np.array(shown, dtype=np.uint16 if shown.mode.startswith("I") else None)
            kept = ("icc_profile", "dpi", "exif")
            info: dict[str, Any] = {key: picture.info[key] for key in kept if key in picture.info}
    colour = "L" if data.ndim == 2 else shown.mode
    return Image(data, "YXS"[: data.ndim], (None,) * data.ndim, colour, _Carried(info))


def _shown(picture: PillowImage.Image) -> PillowImage.Image:
    if "transparency" in picture.info:  # one colour, or palette entries, that are see-through
        return picture.convert("LA" if picture.mode in ("1", "L") else "RGBA")
    return picture.convert(_MODES.get(picture.mode, picture.mode))


def _check_kind(path: Path, picture: PillowImage.Image) -> None:
    if picture.format != "PNG":  # a phone's JPEG may hold a second picture, its depth: the first is the photo
        return
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise FileError(
            f"`{path}` is an animation of {frames} frames; expected one picture, or a TIFF stack."
        )
    with path.open("rb") as file:
        depth, colour = file.read(26)[24:26]  # IHDR: bit depth, colour type; 0 is grey
    if depth == 16 and colour != 0:
        raise FileError(f"`{path}` is a 16-bit colour PNG, which Pillow reads at 8 bits; convert it to TIFF.")


def check(image: Image, dtype: np.dtype[Any], path: Path) -> tuple[str, ...]:
    """Refuse what a PNG or a JPEG cannot hold.

    Raises
    ------
    FileError
        If the image is not one picture, or if its dtype needs another format.
    """
    name = "JPEG" if path.suffix.lower() in JPEG_SUFFIXES else "PNG"
    picture = _picture(image, name, path)
    grey_png = name == "PNG" and picture.data.ndim == 2
    if dtype != np.uint8 and not (grey_png and dtype == np.uint16):
        allowed = "uint8 or uint16" if grey_png else "uint8"
        raise FileError(
            f"`{path}`: a {name} of this picture holds {allowed}, not {dtype.name}; pass --dtype uint8 "
            "(rounded, and clipped to 0..255), or write .tif or .npy."
        )
    if picture.colour not in {"PNG": ("L", "LA", "RGB", "RGBA"), "JPEG": ("L", "RGB", "CMYK")}[name]:
        raise FileError(f"`{path}`: a {name} holds no {picture.colour} picture; write .tif or .npy.")
    if name == "JPEG" and max(picture.data.shape) > _JPEG_SIDE:
        raise FileError(
            f"`{path}`: a JPEG holds at most {_JPEG_SIDE} rows and columns, not "
            f"{size_text(picture.data.shape[:2])}; write .png, .tif or .npy."
        )
    return ()


def write(path: Path, image: Image) -> None:
    """Write a picture with the colour profile, resolution and EXIF data it was read with."""
    with extra("files"):
        from PIL import Image as PillowImage

    name = "JPEG" if path.suffix.lower() in JPEG_SUFFIXES else "PNG"
    picture = _picture(image, name, path)
    samples = picture.data
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[..., 0]
    info = picture.carried.info if isinstance(picture.carried, _Carried) else {}
    options = {"quality": _JPEG_QUALITY, "subsampling": 0} if name == "JPEG" else {}
    shown = PillowImage.fromarray(np.ascontiguousarray(samples))
    if picture.colour == "CMYK":  # four samples look like RGBA to Pillow
        shown = PillowImage.frombytes("CMYK", shown.size, shown.tobytes())
    # Given a file, Pillow's JPEG encoder does not notice a short write on a full disk.
    encoded = io.BytesIO()
    shown.save(encoded, format=name, **options, **info)
    with replacing(path) as draft:
        draft.write_bytes(encoded.getbuffer())


def _picture(image: Image, name: str, path: Path) -> Image:
    """Return `image` as rows x columns [x samples], with its colour named."""
    check_samples(image, name, path)
    if set(image.axes) == {"Q"} and image.data.ndim in (2, 3):
        image = replace(image, axes="YXS"[: image.data.ndim])
    picture = arranged(image, "YXS", f"`{path}`: a {name} holds one 2-D picture")
    samples = picture.data.shape[2] if picture.axes == "YXS" else 1
    if picture.axes not in ("YX", "YXS") or samples not in _SAMPLES:
        size = size_text(image.data.shape)
        raise FileError(
            f"`{path}`: a {name} holds one 2-D picture of 1 to 4 colours, not {size} samples; "
            "write .tif or .npy."
        )
    return replace(picture, colour=picture.colour or _SAMPLES[samples])
