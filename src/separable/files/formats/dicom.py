"""DICOM series, a folder of slices: read in the order of their positions, with slope and intercept."""

from __future__ import annotations

import math
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from ..._base.extras import extra
from ..._base.types import Array, FloatArray
from ..guard import FileError, check_promise, reading
from ..image import Image, without_samples
from ..orientation import affine_of

if TYPE_CHECKING:
    import pydicom

SUFFIXES = (".dcm",)
KIND = "DICOM"

_MOST_FILES: Final = 100_000
_TAGS: Final = (
    *("SeriesInstanceUID", "SeriesDescription", "SeriesNumber", "Rows", "Columns", "NumberOfFrames"),
    *("SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
)
_ALIKE: Final = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation",
                 "SamplesPerPixel", "PhotometricInterpretation")  # fmt: skip
_TOLERANCE: Final = 1e-3  # of directions, and of in-plane spacings over their length
_GAP: Final = 0.02  # of the distance of slices, by which it may vary
_SAME_PLACE: Final = 1e-3  # millimetres
_NOTE: Final = "what a series says of patient, scanner and acquisition is not kept."


class _Slice(NamedTuple):
    """A file of a series, without its samples."""

    path: Path
    entries: Any
    position: FloatArray | None
    slope: float
    intercept: float
    compressed: bool


@dataclass(frozen=True)
class DicomSlices:
    """The slices of a series, from the first to the last along z.

    Attributes
    ----------
    paths : tuple of Path
    shape : tuple of int
        Of the volume: x, y, z.
    dtype : dtype
        Of samples as they are read, with slope and intercept.
    """

    paths: tuple[Path, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _scales: tuple[tuple[float, float], ...]

    def read(self, number: int) -> Array:
        """Return a slice, (rows, columns); FileError where it is damaged, or cannot be decoded here."""
        path, (slope, intercept) = self.paths[number], self._scales[number]
        stored = _pixels(path, (self.shape[1], self.shape[0]))
        if self.dtype.kind == "i" and (slope, intercept) != (1.0, 0.0):
            return np.asarray(stored.astype(self.dtype) + self.dtype.type(int(intercept)))
        if self.dtype.kind != "f":
            return stored.astype(self.dtype, copy=False)
        return np.asarray((stored.astype(np.float64) * slope + intercept).astype(self.dtype))


def read(path: Path) -> Image:
    """Return the series in a folder, or a file of one slice, as a volume (x, y, z)."""
    header, slices = describe(path, whole=True)
    columns, rows, count = slices.shape
    data = np.empty((count, rows, columns), slices.dtype)
    for number in range(count):
        data[number] = slices.read(number)
    return replace(header, data=data.T)


def describe(path: Path, *, whole: bool = False) -> tuple[Image, DicomSlices]:
    """Return what a series says of its volume, without samples, and its slices.

    Raises
    ------
    FileError
        There is none; there are several; a slice is missing, of another size or elsewhere.
    """
    with extra("dicom"):
        import pydicom  # noqa: F401
    slices = _series(path)
    with reading(path, KIND):
        _check_alike(slices)
        first = slices[0].entries
        slices, affine = _sorted(path, slices)
        steps = _steps(slices, affine)
        dtype = _result_dtype(slices)
    shape = (int(first.Columns), int(first.Rows), len(slices))
    stored = np.dtype(f"u{int(first.BitsAllocated) // 8}")
    for item in slices:
        check_promise(item.path, shape[:2], stored, None if item.compressed else 1)
    check_promise(slices[0].path, shape, dtype, None, whole=whole)
    scales = tuple((item.slope, item.intercept) for item in slices)
    made = DicomSlices(tuple(item.path for item in slices), shape, dtype, scales)
    return without_samples(shape, dtype, "XYZ", steps, affine=affine, notes=(_NOTE,)), made


def check(image: Image, dtype: np.dtype[Any], path: Path) -> tuple[str, ...]:
    """Refuse to write any.

    Raises
    ------
    FileError
    """
    raise FileError(f"`{path}`: DICOM is read, not written; write .nii.gz, .nrrd or .mha.")


def write(path: Path, image: Image) -> None:
    """Refuse, as `check`."""
    check(image, image.data.dtype, path)


def _series(path: Path) -> list[_Slice]:
    """Return the slices in a folder; FileError where they are of several series, or there are none."""
    if not path.is_dir():
        slices = [_opened(path, named=True)]
    else:
        names = sorted(entry.path for entry in os.scandir(path) if entry.is_file() and entry.name[0] != ".")
        if len(names) > _MOST_FILES:
            raise FileError(f"`{path}` holds {len(names)} files; expected the slices of one series.")
        slices = [_opened(Path(name), named=name.lower().endswith(SUFFIXES)) for name in names]
    images = [item for item in slices if item is not None]
    if not images:
        raise FileError(f"`{path}` holds no DICOM images.")
    found = Counter(str(item.entries.get("SeriesInstanceUID", "")) for item in images)
    if len(found) > 1:
        told = "; ".join(_told(uid, count, images) for uid, count in list(found.items())[:4])
        raise FileError(f"`{path}` holds {len(found)} series ({told}); put one into a folder of its own.")
    return images


def _told(uid: str, count: int, images: Sequence[_Slice]) -> str:
    entries = next(item.entries for item in images if str(item.entries.get("SeriesInstanceUID", "")) == uid)
    name = " ".join(str(entries.get(key, "")) for key in ("SeriesNumber", "SeriesDescription")).strip()
    return f"{name or uid}: {count} files"


def _opened(path: Path, *, named: bool) -> _Slice | None:
    """Return a file of a series without its samples; None for a file that is none, and not called one."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    with reading(path, KIND), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that are not used here
        try:
            entries = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*_TAGS])
        except InvalidDicomError:
            if named:
                raise
            return None
        if "Rows" not in entries or "Columns" not in entries:
            if named and "DirectoryRecordSequence" not in entries:
                raise FileError(f"`{path}` is a DICOM file without an image.")
            return None
        return _checked(path, entries)


def _checked(path: Path, entries: pydicom.Dataset) -> _Slice:
    if int(entries.get("NumberOfFrames") or 1) != 1:
        raise FileError(
            f"`{path}` holds {entries.NumberOfFrames} frames in one file, which is not read; split it first."
        )
    if int(entries.get("SamplesPerPixel") or 1) != 1:
        raise FileError(f"`{path}` is in colour; expected one sample for each voxel.")
    if entries.get("ModalityLUTSequence"):
        raise FileError(f"`{path}` has a modality table instead of a slope, which is not read.")
    if int(entries.get("BitsAllocated", 0)) not in (8, 16, 32):
        raise FileError(f"`{path}` has samples of {entries.get('BitsAllocated')} bits; expected 8, 16 or 32.")
    if int(entries.Rows) < 1 or int(entries.Columns) < 1:
        raise FileError(f"`{path}` holds an empty image ({entries.Columns} x {entries.Rows}).")
    position = _vector(entries.get("ImagePositionPatient"), 3)
    slope, intercept = (
        _number(entries.get(name), default)
        for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
        raise FileError(f"`{path}` is damaged: its slope is {slope}, its intercept {intercept}.")
    compressed = bool(entries.file_meta.TransferSyntaxUID.is_compressed)
    return _Slice(path, entries, position, slope, intercept, compressed)


def _number(value: Any, default: float) -> float:
    return default if value is None or value == "" else float(value)


def _vector(value: Any, count: int) -> FloatArray | None:
    if value is None or not hasattr(value, "__len__") or len(value) != count:
        return None
    numbers = np.array([float(number) for number in value])
    return numbers if np.isfinite(numbers).all() else None


def _check_alike(slices: Sequence[_Slice]) -> None:
    """Refuse slices of another size or sample, or that lie across the others."""
    first = slices[0]
    for item in slices[1:]:
        for name in _ALIKE:
            own, other = item.entries.get(name), first.entries.get(name)
            if own != other:
                raise FileError(
                    f"`{item.path}` has {name} {own}, and `{first.path}` {other}; expected slices of one "
                    "volume."
                )
        for name, count in (("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
            pair = [_vector(one.entries.get(name), count) for one in (item, first)]
            missing = [vector is None for vector in pair]
            if missing[0] != missing[1] or not (
                missing[0] or np.allclose(pair[0], pair[1], rtol=_TOLERANCE, atol=_TOLERANCE)  # type: ignore[arg-type]
            ):
                raise FileError(
                    f"`{item.path}` has {name} {pair[0]}, and `{first.path}` {pair[1]}; expected slices of "
                    "one volume."
                )


def _sorted(path: Path, slices: list[_Slice]) -> tuple[list[_Slice], FloatArray | None]:
    """Return slices from the first to the last along z, and where the volume lies."""
    turned = _vector(slices[0].entries.get("ImageOrientationPatient"), 6)
    spacing = _vector(slices[0].entries.get("PixelSpacing"), 2)
    if turned is None or any(item.position is None for item in slices):
        if len(slices) > 1:
            raise FileError(f"`{path}`: its {len(slices)} slices do not say where they lie, nor their order.")
        return slices, None
    along, down = turned[:3], turned[3:]
    normal = np.cross(along, down)
    if abs(np.linalg.norm(normal) - 1) > _TOLERANCE:
        raise FileError(f"`{slices[0].path}` is damaged: its directions {turned} are not at right angles.")
    places = [float(normal @ item.position) for item in slices if item.position is not None]
    order = sorted(range(len(slices)), key=places.__getitem__)
    slices = [slices[number] for number in order]
    positions = np.array([item.position for item in slices])
    third = normal * _thickness(slices[0].entries)
    if len(slices) > 1:
        _check_even(slices, positions, normal)
        third = (positions[-1] - positions[0]) / (len(slices) - 1)
    if spacing is None or min(spacing) <= 0:
        return slices, None
    columns = np.column_stack([along * spacing[1], down * spacing[0], third])
    return slices, affine_of(positions[0], columns)


def _check_even(slices: list[_Slice], positions: FloatArray, normal: FloatArray) -> None:
    """Refuse slices at one place, missing ones, and those beside the line of the others."""
    steps = np.diff(positions, axis=0)
    distances = steps @ normal
    usual = float(np.median(distances))
    for number, distance in enumerate(distances):
        pair = f"`{slices[number].path}` and `{slices[number + 1].path}`"
        if distance < _SAME_PLACE:
            raise FileError(f"{pair} lie at one place: several times or echoes? Put one into its own folder.")
        if abs(distance - usual) > max(_GAP * usual, _SAME_PLACE):
            raise FileError(
                f"{pair} are {distance:.4g} mm apart, and others {usual:.4g} mm; a slice is missing between "
                "them, or they are not evenly spaced."
            )
    aside = np.linalg.norm(steps - steps.mean(axis=0), axis=1)
    if float(aside.max()) > max(_GAP * usual, _SAME_PLACE):
        number = int(aside.argmax())
        raise FileError(
            f"`{slices[number + 1].path}` lies {aside[number]:.4g} mm beside the line of the others; "
            "expected slices of one volume."
        )


def _thickness(entries: Any) -> float:
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        step = _number(entries.get(name), 0.0)
        if 0 < abs(step) < math.inf:
            return abs(step)
    return 1.0


def _steps(slices: Sequence[_Slice], affine: FloatArray | None) -> tuple[float | None, ...]:
    if affine is not None:
        x, y, z = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        return float(x), float(y), float(z)
    spacing = _vector(slices[0].entries.get("PixelSpacing"), 2)
    if spacing is None or min(spacing) <= 0:
        return None, None, None
    return float(spacing[1]), float(spacing[0]), None


def _result_dtype(slices: Sequence[_Slice]) -> np.dtype[Any]:
    """Return the dtype of samples with slope and intercept: whole numbers where all of them are."""
    entries = slices[0].entries
    signed, bits = bool(entries.get("PixelRepresentation", 0)), int(entries.BitsAllocated)
    scales = {(item.slope, item.intercept) for item in slices}
    if scales == {(1.0, 0.0)}:
        return np.dtype(f"{'i' if signed else 'u'}{bits // 8}")
    stored = min(int(entries.get("BitsStored") or bits), bits)
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1)
    if all(slope == 1 and intercept == int(intercept) for slope, intercept in scales):
        ends = [low + min(inter for _, inter in scales), high + max(inter for _, inter in scales)]
        for kind in (np.int16, np.int32):
            if np.iinfo(kind).min <= ends[0] and ends[1] <= np.iinfo(kind).max:
                return np.dtype(kind)
    return np.dtype(np.float32 if bits <= 16 else np.float64)


def _pixels(path: Path, shape: tuple[int, int]) -> Array:
    """Return the samples of a file, as stored."""
    import pydicom

    with reading(path, KIND), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(path)
        if (int(data.Rows), int(data.Columns)) != shape:
            raise FileError(f"`{path}` has changed while it was read.")
        syntax = data.file_meta.TransferSyntaxUID
        try:
            samples = np.asarray(data.pixel_array)
        except Exception as error:
            if not syntax.is_compressed or not _undecoded(error):
                raise
            raise FileError(
                f"`{path}` is compressed with {syntax.name}, and what decodes that is not installed: "
                "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
            ) from error
        if samples.shape != shape:
            raise FileError(f"`{path}` is damaged: it gives {samples.shape} samples; expected {shape}.")
        return samples


def _undecoded(error: Exception) -> bool:
    return "missing dependencies" in str(error) or "no available" in str(error).lower()
