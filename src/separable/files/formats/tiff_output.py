"""Writing TIFF: the form that holds the image and most of the source's metadata."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from ..._base.extras import extra
from ..._base.types import Array
from ..guard import FileError
from ..image import Image, arranged, check_samples, size_text
from ..target import replacing
from .tiff_metadata import GDAL_NODATA, Carried, nodata_value, ome_sizes, ome_type, rewritten_ome

_AXES = "TZCYXS"  # the order ImageJ wants
_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")

# Offsets in a TIFF have 32 bits, in a BigTIFF 64. Beside the samples there are tags, and two numbers for
# each strip of 256 KiB; and Deflate grows by 5 bytes for each 16 KiB of noise (RFC 1951).
_CLASSIC_LIMIT: Final = 2**32
_BYTES_PER_PAGE: Final = 2048
_GROWTH: Final = 1 + 1 / 2048

_PLAIN: Final = "its samples are not compressed, so that a run that was stopped can go on."

# Length, along axes that do not affect the layout, of the small image written as a trial before the work.
_TRIED: Final = 2


@dataclass(frozen=True)
class _Form:
    """One way to store an image.

    Attributes
    ----------
    flavour : {"imagej", "ome", ""}
        What tifffile makes of it.
    options : dict
        Of tifffile's ``write``.
    lost : str
        What it does not hold of what the image says.
    """

    flavour: str
    options: dict[str, Any]
    lost: str = ""


@dataclass(frozen=True)
class _Job:
    """An image in the order of its pages, and how it is stored."""

    image: Image
    dtype: np.dtype[Any]
    big: bool
    form: _Form

    def write(self, stream: IO[bytes], data: Array | None) -> None:
        """Write the image's samples; without any, room for them."""
        import tifffile

        flavour = self.form.flavour
        imagej, ome = flavour == "imagej", flavour == "ome"
        with tifffile.TiffWriter(stream, bigtiff=self.big, imagej=imagej, ome=ome) as file:
            if data is None:
                file.write(shape=self.image.data.shape, dtype=self.dtype, **self.form.options)
            else:
                file.write(data, **self.form.options)

    def refusal(self) -> str:
        """Return why tifffile does not write such an image; empty if it does."""
        free = [letter in "CS" for letter in self.image.axes]
        shape = self.image.data.shape
        tried = [n if all_of_it else min(n, _TRIED) for n, all_of_it in zip(shape, free, strict=True)]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                self.write(io.BytesIO(), np.zeros(tried, self.dtype))
        except Exception as error:  # tifffile checks its arguments while it writes; any kind of error
            return str(error) or type(error).__name__
        return ""

    def lacking(self, *options: str) -> _Job:
        kept = {key: value for key, value in self.form.options.items() if key not in options}
        return replace(self, form=replace(self.form, options=kept))

    def having(self, **options: Any) -> _Job:
        return replace(self, form=replace(self.form, options={**self.form.options, **options}))


def check(image: Image, dtype: np.dtype[Any], path: Path) -> tuple[str, ...]:
    """Refuse what a TIFF cannot hold.

    Returns
    -------
    tuple of str
        What it will not hold of what the source says.

    Raises
    ------
    FileError
        If the axes are not those of a picture or a stack, or there are no samples.
    MissingExtraError
        If tifffile is not installed.
    """
    return _prepared(image, dtype, path)[1]


def write(path: Path, image: Image) -> None:
    """Write a picture or a stack; from a TIFF, with all that the TIFF said and the samples allow."""
    job, _ = _prepared(image, image.data.dtype, path)
    with replacing(path) as draft, draft.open("w+b") as stream:
        job.write(stream, job.image.data)


@dataclass(frozen=True)
class TiffLayout:
    """How a TIFF is written whose samples follow each other as they are, natively, to be filled in later.

    Attributes
    ----------
    axes : tuple of int
        Those of the image, from the slowest to the fastest in the file.
    notes : tuple of str
        What the file will not hold of what the source says.
    """

    axes: tuple[int, ...]
    notes: tuple[str, ...]
    _job: _Job

    def prepare(self, path: Path) -> None:
        """Write a file with room for the samples."""
        with path.open("w+b") as stream:
            self._job.write(stream, None)

    def locate(self, path: Path) -> int:
        """Return the byte at which the samples begin in such a file."""
        import tifffile

        with tifffile.TiffFile(path) as file:
            (series,) = file.series
            if series.dataoffset is None:
                raise FileError(f"`{path}` is no TIFF whose samples lie one after the other.")
            return int(series.dataoffset)


def lay_out(image: Image, dtype: np.dtype[Any], path: Path) -> TiffLayout:
    """Return how a picture or a stack is stored without compression, its samples as they are.

    Parameters
    ----------
    image : Image
        With samples or without.
    dtype : dtype
        Of the samples that are to be.
    path : Path
        For errors.

    Raises
    ------
    FileError
        As `check`; samples of one bit do not lie as they are.
    """
    if dtype == np.bool_:
        raise FileError(f"`{path}`: samples of one bit are packed, for which `dtype` is uint8 here.")
    job, notes = _prepared(image, dtype, path)
    options = job.form.options
    if "compression" in options:
        notes = (*(note for note in notes if "compression becomes" not in note), _PLAIN)
    job = job.lacking("compression", "predictor", "tile")
    named = image if isinstance(image.carried, Carried) or set(image.axes) == {"Q"} else job.image
    axes = tuple(map(image.axes.index, named.axes)) if named is not image else tuple(range(image.data.ndim))
    return TiffLayout(axes, notes, job)


def _prepared(image: Image, dtype: np.dtype[Any], path: Path) -> tuple[_Job, tuple[str, ...]]:
    """Return how an image is stored, once that has been tried, and what is lost."""
    with extra("files"):
        import tifffile  # noqa: F401

    check_samples(image, "TIFF", path)
    stack = _stack(image, path)
    if dtype == np.bool_ and "S" in stack.axes:
        raise FileError(f"`{path}`: a TIFF holds no colours of one bit; pass --dtype uint8, or write .npy.")
    carried = stack.carried if isinstance(stack.carried, Carried) else Carried("", _plain(stack))
    big = _is_big(stack, dtype)
    reason = ""
    for form in _forms(stack, carried, dtype, big):
        job = _Job(stack, dtype, big, form)
        reason = job.refusal()
        if not reason:
            break
    else:
        kind = f"{size_text(stack.data.shape)} samples of {dtype.name}"
        raise FileError(f"`{path}`: a TIFF does not hold {kind}: {reason.rstrip('.')}; write .npy.")
    notes = [*carried.losses, *([form.lost] if form.lost else [])]
    job, lost = _with_all_that_goes(job, stack, carried)
    return job, (*notes, *lost)


def _with_all_that_goes(job: _Job, stack: Image, carried: Carried) -> tuple[_Job, list[str]]:
    """Add the rest of a file's metadata; return a sentence for each entry that tifffile does not write."""
    tags = [*carried.tags]
    if stack.nodata is not None:
        text = carried.nodata if nodata_value(carried.nodata) == stack.nodata else f"{stack.nodata:.17g}"
        tags.append((GDAL_NODATA, "s", 0, text.encode(), True))
    complete = job.having(**carried.optional, extratags=tags)
    if not complete.refusal():
        return complete, []
    lost, kept = [], job
    for key, value in carried.optional.items():
        more = kept.having(**{key: value})
        reason = more.refusal()
        kept = kept if reason else more
        lost += [f"its {key} is not kept: {reason.rstrip('.')}."] if reason else []
    for tag in tags:
        more = kept.having(extratags=[*kept.form.options.get("extratags", []), tag])
        reason = more.refusal()
        kept = kept if reason else more
        lost += [f"its tag {tag[0]} is not kept: {reason.rstrip('.')}."] if reason else []
    return kept, lost


def _is_big(stack: Image, dtype: np.dtype[Any]) -> bool:
    size = stack.data.size * dtype.itemsize
    return size * _GROWTH + _pages(stack) * _BYTES_PER_PAGE >= _CLASSIC_LIMIT


def _pages(stack: Image) -> int:
    lengths = zip(stack.axes, stack.data.shape, strict=True)
    return math.prod(length for letter, length in lengths if letter not in "YXS")


def _forms(stack: Image, carried: Carried, dtype: np.dtype[Any], big: bool) -> Iterator[_Form]:
    """Yield the forms that may hold an image, the one that holds most metadata first."""
    samples = dict(carried.samples)
    if "compression" in samples and dtype.kind in "iu" and dtype.itemsize <= 4:
        samples["predictor"] = True  # differences of neighbours; for floats that takes imagecodecs
    if stack.data.ndim == 1:  # with a photometric given, tifffile requires rows
        samples.pop("photometric", None)
    axes, flavour, said = stack.axes, carried.flavour, {**carried.metadata, "axes": stack.axes}
    if flavour == "imagej" and not big and dtype.name in _IMAGEJ_DTYPES:
        yield _Form("imagej", {**samples, "metadata": said})
    if flavour == "ome":
        xml = rewritten_ome(carried.xml, axes, dtype, _pages(stack))
        if xml is not None:
            yield _Form("", {**samples, "metadata": None, "description": xml.encode()})
    why = "of 4 GiB or more" if big and flavour == "imagej" else f"of {dtype.name}"
    sizes = ome_sizes(axes, stack.spacing, carried.frame_interval)
    if not flavour and "resolution" in carried.optional:  # whose tags say it
        sizes = {}
    if sizes and ome_type(dtype) is not None:
        yield _Form("ome", {**samples, "metadata": {**sizes, "axes": axes}}, _lost(flavour, carried, why))
    if "description" in carried.optional:
        yield _Form("", {**samples, "metadata": None})
    elif not flavour:
        lost = f"an OME-TIFF holds no samples {why}: the voxel size is not kept." if sizes else ""
        yield _Form("", {**samples, "metadata": said}, lost)
    lost = f"the samples {why} become a TIFF without voxel size, frame interval and channel names."
    yield _Form("", {**samples, "metadata": {"axes": axes}}, lost)


def _lost(own: str, carried: Carried, why: str) -> str:
    """Return what an OME-TIFF made anew does not hold of what an ImageJ TIFF or another OME-TIFF said."""
    if not own:
        return ""
    if own == "ome":
        return f"OME's metadata do not describe samples {why}: voxel size alone is kept."
    unwritten = sorted(set(carried.metadata) - {"spacing", "unit", "finterval", "fps", "mode", "loop"})
    but = f", without its {', '.join(unwritten)}" if unwritten else ""
    return f"ImageJ holds no samples {why}: written as OME-TIFF with its voxel size{but}."


def _plain(stack: Image) -> dict[str, Any]:
    if "S" not in stack.axes:
        return {"photometric": "minisblack"}
    extras = {"RGBA": ["unassalpha"], "LA": ["unassalpha"]}.get(stack.colour)
    base = {"C": "separated", "R": "rgb"}.get(stack.colour[:1], "minisblack")
    return {"photometric": base, "planarconfig": "contig", "extrasamples": extras}


def _stack(image: Image, path: Path) -> Image:
    if isinstance(image.carried, Carried):
        return image
    if set(image.axes) == {"Q"}:
        picture = image.data.ndim == 3 and image.data.shape[2] in (3, 4) and image.data.dtype.itemsize <= 2
        names = "YXS" if picture else {1: "X", 2: "YX", 3: "ZYX"}.get(image.data.ndim)
        if names is None:
            raise FileError(
                f"`{path}`: a TIFF holds pages, not {size_text(image.data.shape)} samples without names; "
                "write .npy."
            )
        colour = {3: "RGB", 4: "RGBA"}[image.data.shape[2]] if picture else "L"
        return replace(image, axes=names, colour=colour)
    return arranged(image, _AXES, f"`{path}`: a TIFF holds pages of x, y, z, time and colour")
