"""Mutated image files: whatever is in one, reading it gives an image or an error that names the file.

``make fuzz``, or ``python -m tests.fuzz_images 1500 0``: how many, and the number of the first. A number is a
file: the same everywhere, so that what one run finds another can look into.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import logging
import math
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import tifffile
from PIL import Image as PillowImage

from separable import files
from separable._base.extras import MissingExtraError
from separable.files import guard
from separable.files.formats import metaimage, nrrd

Bytes = bytearray
Mutation = Callable[[Bytes, np.random.Generator], Bytes]

SECONDS_PER_FILE = 20  # of a machine that does other things as well; alone it takes milliseconds
MACHINE_BYTES = 1 << 28  # what the guard takes for the memory of this machine
GROWTH_BYTES = 3 << 30  # what the process may take in the end

# Numbers at which lengths, counts and offsets go wrong.
_EDGES = [
    0,
    1,
    2,
    3,
    7,
    8,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    10**6,
    2**31 - 1,
    2**31,
    2**32 - 1,
]


# -- files to start from -----------------------------------------------------------------------------


@functools.cache
def seeds() -> dict[str, bytes]:
    """Return whole files by name: of every format, in the variants that people have."""
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        for write in (
            _write_arrays,
            _write_pictures,
            _write_tiffs,
            _write_tiff_flavours,
            _write_volumes,
            _write_headed,
        ):
            write(folder)
        found = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    examples = Path(nib.__file__).parent / "tests" / "data"
    for path in sorted(examples.glob("*.nii*")):
        if path.stat().st_size < 200_000:
            found[f"nibabel-{path.name}"] = path.read_bytes()
    with contextlib.suppress(ModuleNotFoundError):
        import skimage

        for path in sorted((Path(skimage.__file__).parent / "data").iterdir()):
            if path.suffix in (".png", ".tif", ".tiff", ".jpg") and path.stat().st_size < 200_000:
                found[f"skimage-{path.name}"] = path.read_bytes()
    return found


def _samples(shape: tuple[int, ...], dtype: str = "u1") -> Any:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def _write_arrays(folder: Path) -> None:
    for number, dtype in enumerate(("u1", ">f4", "c8", "?")):
        np.save(folder / f"array{number}.npy", _samples((6, 7, 8), dtype))
    np.save(folder / "fortran.npy", np.asfortranarray(_samples((6, 7))))
    with (folder / "second.npy").open("wb") as file:
        np.lib.format.write_array(file, _samples((6, 7)), version=(2, 0))


def _write_pictures(folder: Path) -> None:
    colours, grey = _samples((20, 30, 4)), _samples((20, 30))
    exif = PillowImage.Exif()
    exif[0x010E] = "a caption"
    for mode, shown in (
        ("rgba", PillowImage.fromarray(colours)),
        ("rgb", PillowImage.fromarray(colours[..., :3])),
        ("grey", PillowImage.fromarray(grey)),
        ("wide", PillowImage.fromarray(grey.astype("u2") * 300)),
        ("palette", PillowImage.fromarray(colours[..., :3]).quantize(8)),
        ("bits", PillowImage.fromarray(grey > 90)),
    ):
        shown.save(folder / f"{mode}.png", dpi=(300, 150), icc_profile=b"profile", exif=exif)
    for mode in ("L", "RGB", "CMYK"):
        PillowImage.fromarray(colours[..., :3]).convert(mode).save(folder / f"{mode}.jpg", exif=exif)
    PillowImage.fromarray(colours[..., :3]).save(folder / "progressive.jpg", progressive=True)


def _write_tiffs(folder: Path) -> None:
    stack, grey = _samples((4, 20, 30), "u2"), _samples((20, 30))
    plain = {"metadata": None, "photometric": "minisblack"}
    for name, data, options in (
        ("stack", stack, {}),
        ("deflate", stack, {"compression": "zlib", "predictor": True}),
        ("tiles", _samples((70, 80), "f4"), {"tile": (32, 32), **plain}),
        ("big", stack, {"bigtiff": True, **plain}),
        ("motorola", stack, {"byteorder": ">", **plain}),
        ("floats", stack.astype("f8"), plain),
        ("mask", grey > 90, {}),
        ("line", grey[0], {}),
        ("rgb", _samples((20, 30, 3)), {"photometric": "rgb", "metadata": None}),
        ("planes", _samples((3, 20, 30)), {"photometric": "rgb", "planarconfig": "separate"}),
        ("said", grey, {"description": "Größe 5 µm".encode(), "resolution": (300, 300), **plain}),
    ):
        tifffile.imwrite(folder / f"{name}.tif", data, **options)
    PillowImage.fromarray(grey > 90).save(folder / "packbits.tif", compression="packbits")
    PillowImage.fromarray(grey).save(folder / "lzw.tif", compression="tiff_lzw")


def _write_tiff_flavours(folder: Path) -> None:
    stack = _samples((2, 3, 20, 30), "u2")
    voxels = {"axes": "TZYX", "spacing": 2.0, "unit": "um", "finterval": 0.5, "Labels": list("abcdef")}
    tifffile.imwrite(folder / "imagej.tif", stack, imagej=True, resolution=(4, 2), metadata=voxels)
    sizes = {"axes": "TCYX", "PhysicalSizeX": 0.5, "TimeIncrement": 0.1, "Channel": {"Name": list("abc")}}
    tifffile.imwrite(folder / "ome.tif", stack, ome=True, metadata=sizes)
    earth = [(33550, "d", 3, (0.5, 0.5, 0.0), True), (42113, "s", 0, "-9999", True)]
    tifffile.imwrite(folder / "geo.tif", stack[0, 0].astype("f4"), metadata=None, extratags=earth)
    with tifffile.TiffWriter(folder / "pyramid.tif") as file:
        file.write(stack[0, 0], subifds=1)
        file.write(stack[0, 0, ::2, ::2], subfiletype=1)


def _write_volumes(folder: Path) -> None:
    for name, dtype in (("first.nii", "i2"), ("packed.nii.gz", "f4")):
        volume = nib.Nifti1Image(_samples((5, 6, 7), dtype), np.diag([2.0, 3.0, 4.0, 1.0]))
        volume.header.set_xyzt_units("mm", "sec")
        volume.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"kept"))
        nib.save(volume, folder / name)
    nib.save(nib.Nifti2Image(_samples((5, 6, 7, 2), "u1"), np.eye(4)), folder / "second.nii")


def _write_headed(folder: Path) -> None:
    """Write volumes behind headers of text, and a slice of DICOM."""
    place = np.diag([-0.5, -0.7, 2.0, 1.0])
    for name, dtype in (("first", "u1"), ("second", ">i2"), ("third", "f4")):
        image = files.Image(_samples((5, 6, 7), dtype), "XYZ", (0.5, 0.7, 2.0), affine=place)
        for suffix in (".nrrd", ".mha"):
            files.write(folder / f"{name}{suffix}", image)
    packed = files.Image(_samples((5, 6, 7)), "XYZ", (0.5, 0.7, 2.0))
    begin, _ = nrrd.head(packed, packed.data.dtype, folder / "packed.nrrd", packed=True)
    (folder / "packed.nrrd").write_bytes(begin + gzip.compress(packed.data.tobytes(), mtime=0))
    body = zlib.compress(packed.data.tobytes())
    begin, _ = metaimage.head(packed, packed.data.dtype, folder / "packed.mha", len(body))
    (folder / "packed.mha").write_bytes(begin + body)
    text = "NRRD0004\ntype: short\ndimension: 2\nsizes: 3 2\nencoding: ascii\n\n1 2 3\n4 5 6\n"
    (folder / "text.nrrd").write_text(text)
    with contextlib.suppress(ModuleNotFoundError):
        import pydicom

        path = pydicom.data.get_testdata_file("CT_small.dcm")
        if path:
            (folder / "slice.dcm").write_bytes(Path(path).read_bytes())


# -- mutations ---------------------------------------------------------------------------------------


def _flipped(body: Bytes, rng: np.random.Generator) -> Bytes:
    """Flip bits, most of them where headers are."""
    for _ in range(int(rng.integers(1, 8))):
        end = len(body) if rng.random() < 0.4 else min(len(body), 600)
        body[int(rng.integers(end))] ^= 1 << int(rng.integers(8))
    return body


def _cut(body: Bytes, rng: np.random.Generator) -> Bytes:
    return body[: int(rng.integers(1, len(body)))]


def _moved(body: Bytes, rng: np.random.Generator) -> Bytes:
    """Take a part out, or put one in twice."""
    start, length = int(rng.integers(len(body))), int(rng.integers(1, 64))
    part = body[start : start + length]
    return body[:start] + (part * 2 if rng.random() < 0.5 else Bytes()) + body[start + length :]


def _edged(body: Bytes, rng: np.random.Generator) -> Bytes:
    """Overwrite what may be a length, a count or an offset."""
    for _ in range(int(rng.integers(1, 3))):
        form = str(rng.choice(["<H", ">H", "<I", ">I", "<Q", ">Q", "<h", "<f"]))
        size = struct.calcsize(form)
        value = (
            int(rng.choice(_EDGES)) if form != "<f" else float(rng.choice([math.nan, math.inf, 0, -1, 1e30]))
        )
        if isinstance(value, int):
            value %= 2 ** (8 * size - (form == "<h"))
        end = len(body) if rng.random() < 0.3 else min(len(body), 600)
        place = int(rng.integers(max(1, end - size)))
        body[place : place + size] = struct.pack(form, value)
    return body


def _retagged(body: Bytes, rng: np.random.Generator) -> Bytes:
    """Change the code, type, count or value of a TIFF's tags, wherever its directories are."""
    order = ">" if body[:2] == b"MM" else "<"
    big = len(body) > 16 and struct.unpack(order + "H", body[2:4])[0] == 43
    offset, count, head, size = ("Q", "Q", 8, 20) if big else ("I", "H", 2, 12)
    at = 8 if big else 4
    (start,) = struct.unpack_from(order + offset, body, at)
    (entries,) = struct.unpack_from(order + count, body, start)
    for _ in range(int(rng.integers(1, 3))):
        entry = start + head + size * int(rng.integers(entries))
        what = rng.random()
        if what < 0.15:
            known = [
                254,
                256,
                258,
                259,
                262,
                270,
                273,
                277,
                279,
                282,
                284,
                296,
                317,
                322,
                330,
                338,
                339,
                42113,
            ]
            struct.pack_into(order + "H", body, entry, int(rng.choice(known)))
        elif what < 0.35:
            struct.pack_into(order + "H", body, entry + 2, int(rng.integers(0, 20)))
        elif what < 0.6:
            struct.pack_into(order + offset, body, entry + 4, int(rng.choice(_EDGES)))
        else:
            value = int(rng.choice([*_EDGES, *range(1, 17), len(body), len(body) - 4]))
            struct.pack_into(order + offset, body, entry + (12 if big else 8), value)
    return body


def _reheaded(body: Bytes, rng: np.random.Generator) -> Bytes:
    """Change fields of a NIfTI header: dimensions, type, scale, sizes, offset, units."""
    second = struct.unpack_from("<i", body)[0] == 540
    dims, shorts, floats = (16, [12, 14], [104, 176, 184]) if second else (40, [70, 72], [76, 108, 112])
    what = rng.random()
    if what < 0.5:
        form = "<q" if second else "<h"
        place = dims + struct.calcsize(form) * int(rng.integers(8))
        edges = [-1, 0, 1, 2, 5, 7, 8, 300, 32767] + ([2**31, 2**62] if second else [])
        struct.pack_into(form, body, place, int(rng.choice(edges)))
    elif what < 0.75:
        value = int(rng.choice([0, 1, 2, 4, 8, 16, 32, 64, 128, 512, 1536, 2048, 2304]))
        struct.pack_into("<h", body, int(rng.choice(shorts)), value)
    else:
        value = float(rng.choice([math.nan, math.inf, -1, 0, 1e-40, 1e30, 5e9, 347]))
        struct.pack_into("<d" if second else "<f", body, int(rng.choice(floats)), value)
    return body


def _rewritten(body: Bytes, rng: np.random.Generator) -> Bytes:
    """Put another word into the text of a .npy header, or of a TIFF's description."""
    words = [
        b"(6,",
        b"7",
        b"'|u1'",
        b"False",
        b"descr",
        b"shape",
        b"TZYX",
        b"spacing",
        b"um",
        b"0.5",
        b"XYCZT",
    ]
    words += [b"sizes:", b"dimension:", b"little", b"raw", b"gzip", b"domain", b"(-0.5", b"5 6 7", b"MET_"]
    words += [b"NDims = 3", b"LOCAL", b"= False", b"= True", b"none", b"space", b"endian", b"TransformMatrix"]
    words += [b"uint16", b"SizeC", b"slices", b"Pixels", b"-9999", b"/OME", b"ImageJ"]
    found = [word for word in words if word in body]
    if not found:
        return _edged(body, rng)
    new = [
        b"(-6,",
        b"99999999999",
        b"'|O'",
        b"None",
        b"(",
        b"\xff\xfe",
        b"",
        b"nan",
        b"'<f16'",
        b"<!--",
        b"1e999",
    ]
    word = found[int(rng.integers(len(found)))]
    return body.replace(word, new[int(rng.integers(len(new)))], int(rng.integers(1, 3)))


def _rechunked(body: Bytes, rng: np.random.Generator) -> Bytes:
    """Change what is in a chunk of a PNG, with a checksum that says that it is right."""
    starts, place = [], 8
    while place + 12 <= len(body):
        starts.append(place)
        place += 12 + struct.unpack_from(">I", body, place)[0]
    start = starts[0] if rng.random() < 0.5 else starts[int(rng.integers(len(starts)))]
    (length,) = struct.unpack_from(">I", body, start)
    inside = Bytes(body[start + 8 : start + 8 + length])
    if not inside:
        return body
    inside = (_edged if length > 8 and rng.random() < 0.5 else _flipped)(inside, rng)
    kind = bytes(body[start + 4 : start + 8])
    chunk = struct.pack(">I", len(inside)) + kind + inside + struct.pack(">I", zlib.crc32(kind + inside))
    return body[:start] + chunk + body[start + 12 + length :]


_ANY: list[Mutation] = [_flipped, _cut, _moved, _edged]
_OF_FORMAT: dict[str, list[Mutation]] = {
    ".tif": [_retagged, _retagged, _retagged, _rewritten],
    ".tiff": [_retagged, _retagged, _retagged, _rewritten],
    ".nii": [_reheaded, _reheaded],
    ".npy": [_rewritten],
    ".png": [_rechunked, _rechunked],
    ".jpg": [],
    ".nrrd": [_rewritten, _rewritten],
    ".mha": [_rewritten, _rewritten],
    ".dcm": [],
}


def mutated(number: int) -> tuple[str, bytes]:
    """Return the name and the bytes of the mutated file of that number."""
    rng = np.random.default_rng(number)
    names = sorted(seeds())
    name = names[int(rng.integers(len(names)))]
    body = Bytes(seeds()[name])
    packed = name.endswith(".gz")
    inside = packed and rng.random() < 0.7  # else what is mutated is the compressed stream
    if inside:
        body = Bytes(gzip.decompress(body))
    suffix = Path(name.removesuffix(".gz")).suffix if inside or not packed else ""
    choices = [*_ANY, *_OF_FORMAT.get(suffix, [])]
    for _ in range(int(rng.integers(1, 3))):
        with contextlib.suppress(struct.error, IndexError, ValueError):  # of what another has destroyed
            body = choices[int(rng.integers(len(choices)))](body, rng) or body
    return name, gzip.compress(bytes(body), 1, mtime=0) if inside else bytes(body)


# -- what comes of one -------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What came of a file: the kind is "image", "refused", or what must not be."""

    kind: str
    text: str

    @property
    def wrong(self) -> bool:
        return self.kind not in ("image", "refused")


@contextlib.contextmanager
def small_machine() -> Iterator[None]:
    """Let the guard believe in little memory, and nobody hear what decoders say of damaged files."""
    memory, level = guard.physical_memory, logging.getLogger("tifffile").level
    guard.physical_memory = lambda: MACHINE_BYTES
    logging.getLogger("tifffile").setLevel(logging.ERROR)  # the reader listens to errors
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        guard.physical_memory = memory
        logging.getLogger("tifffile").setLevel(level)


def outcome(path: Path) -> Outcome:
    """Read a file, and write what it gives."""
    try:
        image = files.read(path)
    except (files.FileError, MissingExtraError) as refused:
        named = path.name in str(refused) or isinstance(refused, MissingExtraError)
        return Outcome("refused" if named else "unnamed", str(refused))
    except Exception:
        return Outcome("raised by reading", traceback.format_exc(limit=-4))
    if not image.data.ndim == len(image.axes) == len(image.spacing):
        return Outcome("inconsistent", f"{image.data.shape}, {image.axes}, {image.spacing}")
    target = path.with_name(f"again-{path.name}")
    try:
        files.check_storable(image, image.data.dtype, target)
    except files.FileError as refused:
        return Outcome("refused" if target.name in str(refused) else "unnamed", str(refused))
    except Exception:
        return Outcome("raised by checking", traceback.format_exc(limit=-4))
    try:
        files.write(target, image)
        back = files.read(target)
    except Exception:
        return Outcome("raised by writing", traceback.format_exc(limit=-4))
    finally:
        target.unlink(missing_ok=True)
    if back.data.size != image.data.size:
        return Outcome("another size", f"{image.data.shape} became {back.data.shape}")
    return Outcome("image", f"{image.data.shape} {image.data.dtype}")


def run(count: int, first: int, folder: Path, say: Callable[[str], None]) -> Counter[str]:
    """Try `count` files; say what must not be."""
    kinds: Counter[str] = Counter()
    with small_machine():
        for number in range(first, first + count):
            name, body = mutated(number)
            path = folder / f"{number}-{name}"
            path.write_bytes(body)
            began = time.perf_counter()
            found = outcome(path)
            seconds = time.perf_counter() - began
            path.unlink()
            if seconds > SECONDS_PER_FILE:
                found = Outcome("slow", f"{seconds:.1f} s: {found.text}")
            kinds[found.kind] += 1
            if found.wrong:
                say(f"{number} ({name}): {found.kind}: {found.text}")
    return kinds


def peak_bytes() -> int:
    """Return the most memory that this process has had; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    count, first = (int(value) for value in (sys.argv[1:] + ["1500", "0"][len(sys.argv) - 1 :])[:2])
    if hasattr(signal, "SIGALRM"):  # a decoder that never comes back
        signal.alarm(60 + count)
    with tempfile.TemporaryDirectory() as folder:
        kinds = run(count, first, Path(folder), print)
    peak = peak_bytes()
    print(
        ", ".join(f"{number} {kind}" for kind, number in kinds.most_common()), f"; {peak >> 20} MiB at most"
    )
    return int(peak > GROWTH_BYTES or any(Outcome(kind, "").wrong for kind in kinds))


if __name__ == "__main__":
    sys.exit(main())
