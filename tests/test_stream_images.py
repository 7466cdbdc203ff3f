"""NIfTI and TIFF as sources and targets: the bits of the verb, headers kept, runs killed, files damaged."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sp
from separable import files
from separable.stream.journal import JournalError, journal_of
from separable.stream.places.flat import draft_of
from separable.stream.places.place import as_array, as_lying
from separable.stream.places.table import open_source

nib = pytest.importorskip("nibabel")
tifffile = pytest.importorskip("tifffile")

Array = np.ndarray[Any, Any]
KERNEL = sp.families.gaussian([1.0, 1.5, 2.0])
RANDOM = int(os.environ.get("SEPARABLE_RANDOM", "12"))


def samples(shape: tuple[int, ...] = (20, 24, 60), dtype: str = "f4", seed: int = 3) -> Array:
    return (np.random.default_rng(seed).random(shape) * 200).astype(dtype)


def thin(plan: sp.stream.StreamPlan, unit: int = 8) -> sp.stream.StreamPlan:
    """Return the plan in slabs of a few indices."""
    units = -(-plan.shape[plan.axis] // unit)
    return dataclasses.replace(plan, unit=unit, units=units, held=unit, overlapped=True)


def streamed(source: Any, target: Path, kernel: Any = KERNEL, **how: Any) -> sp.stream.StreamPlan:
    plan = sp.stream.plan(source, kernel, target=target, memory="4GiB", **how)
    thin(plan).run()
    assert not journal_of(str(target)).exists()
    assert not draft_of(target).exists()
    return plan


def in_memory(source: Path, target: Path, plan: sp.stream.StreamPlan, kernel: Any = KERNEL) -> None:
    """Filter by the verb, by the method that the stream chose, and write with `separable.files`."""
    image = files.read(source)
    filter_plan = plan.filter_plan
    how: dict[str, Any] = {"axes": filter_plan.axes, "mode": filter_plan.modes, "method": plan.method}
    result = np.empty_like(image.data, dtype=plan.dtype)  # in its memory order, as `files.filtered` has it
    sp.correlate(image.data, kernel, output=result, **how)
    files.write(target, dataclasses.replace(image, data=result))


def volume(path: Path, data: Array, kind: Any = None, **header: Any) -> Path:
    """Write a NIfTI volume with an affine that is turned, and with an extension."""
    affine = np.array([[0, -2.0, 0.1, 5], [1.5, 0, 0, -7], [0, 0.2, 3, 1], [0, 0, 0, 1]])
    image = (kind or nib.Nifti1Image)(data, affine, dtype=data.dtype)
    image.header.set_xyzt_units("mm", "sec")
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a scan"))
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


# -- NIfTI -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f4", "u1", "i2", "f8"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("mode", ["reflect", "constant", ("nearest", "wrap", "mirror")])
def test_volumes_are_those_of_the_verb_to_the_last_byte(
    tmp_path: Path, dtype: str, suffix: str, mode: Any
) -> None:
    source = volume(tmp_path / f"x{suffix}", samples(dtype=dtype))
    plan = streamed(source, tmp_path / f"y{suffix}", mode=mode, dtype=dtype)
    assert (plan.axis, plan.shape) == (2, (20, 24, 60))
    assert plan.halo == (8, 8)
    in_memory(source, tmp_path / f"z{suffix}", plan)
    ours, theirs = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "yz")
    if suffix == ".nii.gz":
        ours, theirs = gzip.decompress(ours), gzip.decompress(theirs)
    assert ours == theirs  # header, affine, extension and samples


def test_the_plan_says_along_what_and_in_one_go(tmp_path: Path) -> None:
    volume(tmp_path / "x.nii.gz", samples())
    text = str(sp.stream.plan(tmp_path / "x.nii.gz", KERNEL, target=tmp_path / "y.nii.gz"))
    said = ("x.nii.gz`, decompressed from front to back", "of 60 along axis 2, with 8 before and 8 behind")
    for words in (*said, "y.nii.gz`, compressed in one go and not resumed"):
        assert words in text


@pytest.mark.parametrize("stored", ["u1", "i2", "i4", "f4"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_slope_and_intercept_are_applied_as_in_memory(tmp_path: Path, stored: str, order: str) -> None:
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(stored)
    image = nib.Nifti1Image(samples(dtype=stored), np.eye(4), header)
    image.header.set_slope_inter(0.3, -7.25)
    # nibabel divides by them, and stores what it gets.
    nib.save(image, tmp_path / "x.nii")
    read = files.read(tmp_path / "x.nii")
    assert read.data.dtype == (np.float64 if np.dtype(stored).itemsize > 2 else np.float32)
    plan = streamed(tmp_path / "x.nii", tmp_path / "y.nii")
    in_memory(tmp_path / "x.nii", tmp_path / "z.nii", plan)
    assert (tmp_path / "y.nii").read_bytes() == (tmp_path / "z.nii").read_bytes()
    identity = sp.stream.plan(
        tmp_path / "x.nii", np.ones((1, 1, 1)), target=tmp_path / "same.npy", memory="4GiB"
    )
    identity.run()
    np.testing.assert_array_equal(np.load(tmp_path / "same.npy"), read.data)


def test_time_points_are_filtered_each_on_its_own(tmp_path: Path) -> None:
    source = volume(tmp_path / "x.nii", samples((12, 10, 9, 20)), nib.Nifti2Image)
    plan = streamed(source, tmp_path / "y.nii", axes=(0, 1, 2))
    assert (plan.axis, plan.halo) == (3, (0, 0))
    in_memory(source, tmp_path / "z.nii", plan)
    assert (tmp_path / "y.nii").read_bytes() == (tmp_path / "z.nii").read_bytes()


@pytest.mark.parametrize("seed", range(RANDOM))
def test_random_volumes_in_slabs_along_the_last_axis(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ndim = int(rng.integers(2, 5))
    shape = (*(int(n) for n in rng.integers(1, 14, ndim - 1)), int(rng.integers(1, 70)))
    x = np.asfortranarray(samples(shape, str(rng.choice(["f4", "f8", "u1", "c8"])), seed))
    np.save(tmp_path / "x.npy", x)
    axes = tuple(sorted(int(axis) for axis in rng.choice(ndim, int(rng.integers(1, ndim + 1)), False)))
    modes = tuple(str(mode) for mode in rng.choice(["reflect", "constant", "wrap", "nearest"], len(axes)))
    sizes = rng.integers(1, 7, len(axes))
    kernel = rng.random(tuple(sizes)) if rng.random() < 0.5 else sp.families.gaussian([n / 3 for n in sizes])
    mask = np.asfortranarray(rng.random(shape) < 0.8) if x.dtype.kind != "c" and rng.random() < 0.5 else None
    plan = sp.stream.plan(tmp_path / "x.npy", kernel, axes=axes, mode=modes, mask=mask, memory="4GiB")
    target = tmp_path / "y.npy"
    thin(sp.stream.plan(tmp_path / "x.npy", kernel, target=target, axes=axes, mode=modes, mask=mask,
                        memory="4GiB"), int(rng.integers(2, 30))).run()  # fmt: skip
    expected = sp.correlate(x, kernel, axes=axes, mode=modes, mask=mask, method=plan.method)
    result = np.load(target)
    assert result.flags.f_contiguous
    np.testing.assert_array_equal(result, expected)


def test_no_slab_in_fortran_order_is_of_one_index(tmp_path: Path) -> None:
    """It would lie in C order too, in which sums along two axes have another order."""
    x = np.asfortranarray(samples((10, 1, 49)))
    np.save(tmp_path / "x.npy", x)
    kernel, told = sp.families.gaussian([0.4, 1.4]), list[tuple[int, int]]()
    plan = sp.stream.plan(tmp_path / "x.npy", kernel, target=tmp_path / "y.npy", axes=(0, 1), memory="4GiB")
    thin(plan, 4).run(progress=lambda *slabs: told.append(slabs))
    assert told[-1] == (12, 12)  # the last has 5
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), sp.correlate(x, kernel, axes=(0, 1)))


def test_between_formats_that_lie_in_another_order(tmp_path: Path) -> None:
    zarr, h5py = pytest.importorskip("zarr"), pytest.importorskip("h5py")
    x = samples()
    source = volume(tmp_path / "x.nii", x)
    expected = sp.correlate(np.asfortranarray(x), KERNEL)
    streamed(source, tmp_path / "y.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
    streamed(source, tmp_path / "y.zarr")
    np.testing.assert_array_equal(zarr.open(str(tmp_path / "y.zarr"), mode="r")[:], expected)
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(7, 8, 9))
    plan = sp.stream.plan(tmp_path / "x.zarr", KERNEL, target=tmp_path / "v.nii", memory="4GiB")
    assert plan.axis == 2
    plan.run()
    np.testing.assert_array_equal(nib.load(tmp_path / "v.nii").get_fdata(dtype="f4"), expected)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("raw", data=x, chunks=(7, 8, 9))
    streamed(tmp_path / "x.h5", tmp_path / "w.nii.gz")
    np.testing.assert_array_equal(nib.load(tmp_path / "w.nii.gz").get_fdata(dtype="f4"), expected)
    array = np.zeros(x.shape, np.float32)
    thin(sp.stream.plan(source, KERNEL, target=array, memory="4GiB")).run()
    np.testing.assert_array_equal(array, expected)


def test_orders_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    source = volume(tmp_path / "x.nii", samples())
    with pytest.raises(
        ValueError, match=r"x.nii` lies in slabs along its last axis, and `.*y.h5` is written"
    ):
        sp.stream.plan(source, KERNEL, target=tmp_path / "y.h5")
    np.save(tmp_path / "x.npy", samples())
    with pytest.raises(ValueError, match=r"x.npy` lies in slabs along its first axis.*a .zarr is read and"):
        sp.stream.plan(tmp_path / "x.npy", KERNEL, target=tmp_path / "y.nii")
    with pytest.raises(ValueError, match=r"mode='wrap'` along axis 2 reads the ends of .*x.nii.gz` twice"):
        sp.stream.plan(volume(tmp_path / "x.nii.gz", samples()), KERNEL, mode="wrap")
    with pytest.raises(files.FileError, match="NIfTI has no bool"):
        sp.stream.plan(source, KERNEL, target=tmp_path / "b.nii", dtype=bool)


def test_a_compressed_volume_is_read_twice_where_results_are_clipped(tmp_path: Path) -> None:
    source = volume(tmp_path / "x.nii.gz", np.linspace(0, 255, 8 * 8 * 40).reshape(8, 8, 40))
    plan = streamed(source, tmp_path / "y.nii", dtype="int64")
    assert plan.bytes_read == 2 * 8 * 8 * 40 * 8
    in_memory(source, tmp_path / "z.nii", plan)
    assert (tmp_path / "y.nii").read_bytes() == (tmp_path / "z.nii").read_bytes()


# -- TIFF --------------------------------------------------------------------------------------------


def stack(path: Path, data: Array, **how: Any) -> Path:
    tifffile.imwrite(path, data, **how)
    return path


STACKS: dict[str, dict[str, Any]] = {
    "plain": {"photometric": "minisblack", "resolution": (300, 300)},
    "deflate": {"photometric": "minisblack", "compression": "zlib"},
    "tiles": {"photometric": "minisblack", "tile": (16, 16), "compression": "zlib"},
    "imagej": {"imagej": True, "resolution": (2.0, 2.0), "metadata": {"spacing": 3.0, "unit": "um"}},
    "ome": {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeZ": 2.0}},
    "big endian": {"byteorder": ">", "photometric": "minisblack"},
    "bigtiff": {"bigtiff": True, "photometric": "minisblack"},
    "strips": {"rowsperstrip": 5, "photometric": "minisblack", "compression": "zlib", "predictor": False},
}


@pytest.mark.parametrize("kind", STACKS)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_stacks_are_those_of_the_verb_with_their_metadata(tmp_path: Path, kind: str, dtype: str) -> None:
    source = stack(tmp_path / "x.tif", samples((60, 24, 20), dtype), **STACKS[kind])
    plan = streamed(source, tmp_path / "y.tif", dtype=dtype)
    assert (plan.axis, plan.halo) == (0, (4, 4))
    in_memory(source, tmp_path / "z.tif", plan)
    ours, theirs = files.read(tmp_path / "y.tif"), files.read(tmp_path / "z.tif")
    np.testing.assert_array_equal(ours.data, theirs.data)
    assert (ours.axes, ours.colour) == (theirs.axes, theirs.colour)
    assert ours.spacing == theirs.spacing
    with tifffile.TiffFile(tmp_path / "y.tif") as mine, tifffile.TiffFile(tmp_path / "z.tif") as other:
        assert len(mine.pages) == len(other.pages) == 60
        assert mine.is_imagej == other.is_imagej
        assert mine.is_ome == other.is_ome
        for name in ("XResolution", "YResolution", "ResolutionUnit", "ImageDescription"):
            first, second = mine.pages[0].tags.get(name), other.pages[0].tags.get(name)
            assert (first is None) == (second is None)
            if first is not None and name != "ImageDescription":
                assert first.value == second.value
    compressed = "compression" in STACKS[kind]
    assert bool(plan.notes) == compressed
    assert ("decoded page by page" in str(plan)) == compressed


def test_colours_and_channels_of_a_stack(tmp_path: Path) -> None:
    x = samples((6, 40, 30, 3), "u1")
    source = stack(tmp_path / "x.tif", x, photometric="rgb", compression="zlib")
    plan = streamed(source, tmp_path / "y.tif", dtype="u1", axes=(0, 1, 2))
    in_memory(source, tmp_path / "z.tif", plan)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "y.tif"), tifffile.imread(tmp_path / "z.tif"))
    planes = stack(tmp_path / "c.tif", samples((4, 3, 30, 20), "u2"), ome=True, metadata={"axes": "ZCYX"})
    plan = streamed(planes, tmp_path / "d.tif", axes=(0, 2, 3), dtype="u2")
    in_memory(planes, tmp_path / "e.tif", plan)
    np.testing.assert_array_equal(files.read(tmp_path / "d.tif").data, files.read(tmp_path / "e.tif").data)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_single_picture(tmp_path: Path, compression: Any) -> None:
    source = stack(tmp_path / "x.tif", samples((90, 70)), compression=compression)
    kernel = sp.families.gaussian([2.0, 1.0])
    plan = streamed(source, tmp_path / "y.tif", kernel)
    in_memory(source, tmp_path / "z.tif", plan, kernel)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "y.tif"), tifffile.imread(tmp_path / "z.tif"))


def test_from_nifti_to_tiff_and_back(tmp_path: Path) -> None:
    source = volume(tmp_path / "x.nii", samples())
    plan = streamed(source, tmp_path / "y.tif")
    in_memory(source, tmp_path / "z.tif", plan)
    ours, theirs = files.read(tmp_path / "y.tif"), files.read(tmp_path / "z.tif")
    np.testing.assert_array_equal(ours.data, theirs.data)
    assert (ours.axes, ours.spacing) == (theirs.axes, theirs.spacing)
    back = streamed(tmp_path / "y.tif", tmp_path / "b.nii", sp.families.box([3, 3, 3]))
    assert back.axis == 0  # which lies as the last of the NIfTI file does
    in_memory(tmp_path / "y.tif", tmp_path / "c.nii", back, sp.families.box([3, 3, 3]))
    assert (tmp_path / "b.nii").read_bytes() == (tmp_path / "c.nii").read_bytes()


def test_what_a_tiff_does_not_hold_is_refused(tmp_path: Path) -> None:
    source = stack(tmp_path / "x.tif", samples((9, 8, 7)), photometric="minisblack")
    with pytest.raises(files.FileError, match="samples of one bit are packed"):
        sp.stream.plan(source, KERNEL, target=tmp_path / "y.tif", dtype=bool)
    with pytest.raises(files.FileError, match=r"without names; write .npy"):
        sp.stream.plan(np.zeros((3, 3, 3, 3), np.float32), np.ones((3,) * 4), target=tmp_path / "y.tif")


# -- killed, and damaged -----------------------------------------------------------------------------

_RUN = """
import dataclasses, sys, time
import separable as sp
kernel = sp.families.gaussian([1.0, 1.5, 2.0])
plan = sp.stream.plan(sys.argv[1], kernel, target=sys.argv[2], memory="4GiB")
plan = dataclasses.replace(plan, unit=4, overlapped=True)
def tell(done, of):
    print(done, of, flush=True)
    time.sleep(float(sys.argv[3]))
plan.run(progress=tell, resume=sys.argv[4])
"""


def start(source: Path, target: Path, pause: float, resume: str = "auto") -> subprocess.Popen[str]:
    words = [sys.executable, "-c", _RUN, str(source), str(target), str(pause), resume]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed(source: Path, target: Path, slabs: int, how: int = signal.SIGTERM) -> None:
    with start(source, target, 0.1) as running:
        assert running.stdout is not None
        for _ in range(slabs + 1):
            running.stdout.readline()
        running.send_signal(how)
        running.communicate(timeout=30)
    assert not target.exists()


def gone_on(source: Path, target: Path, resume: str = "auto") -> int:
    """Run to the end; return how many slabs were there."""
    with start(source, target, 0.0, resume) as running:
        out, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    return int(out.split()[0])


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("suffix", [".nii", ".tif"])
def test_killed_and_gone_on_with(tmp_path: Path, suffix: str) -> None:
    x = samples((20, 24, 60))
    if suffix == ".nii":
        source = volume(tmp_path / "x.nii", x)
    else:
        source = stack(tmp_path / "x.tif", x.T, imagej=True)
    target = tmp_path / f"y{suffix}"
    killed(source, target, 4, signal.SIGKILL)
    done = gone_on(source, target)
    assert 2 <= done <= 14
    plan = sp.stream.plan(source, KERNEL, memory="4GiB")
    in_memory(source, tmp_path / f"z{suffix}", plan)
    np.testing.assert_array_equal(files.read(target).data, files.read(tmp_path / f"z{suffix}").data)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_compressed_volume_goes_on_from_the_front_and_is_not_resumed(tmp_path: Path) -> None:
    source, target = volume(tmp_path / "x.nii.gz", samples()), tmp_path / "y.nii"
    killed(source, target, 4, signal.SIGKILL)
    assert gone_on(source, target) >= 2  # read from the front, up to where it stopped
    packed = tmp_path / "y.nii.gz"
    killed(source, packed, 4, signal.SIGKILL)
    with pytest.raises(JournalError, match=r"y.nii.gz` was begun by a run that was killed.*resume='never'"):
        sp.stream.filter(source, packed, KERNEL)
    assert gone_on(source, packed, "never") == 0
    assert gzip.decompress(packed.read_bytes()) == target.read_bytes()
    with pytest.raises(FileExistsError, match=r"y.nii.gz` is there already"):
        sp.stream.filter(source, packed, KERNEL)


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_two_writers_of_a_compressed_volume(tmp_path: Path) -> None:
    source, packed = volume(tmp_path / "x.nii", samples()), tmp_path / "y.nii.gz"
    with start(source, packed, 0.3) as running:
        assert running.stdout is not None
        running.stdout.readline()
        for resume in ("auto", "never"):
            with pytest.raises(JournalError, match="is being written by another process"):
                sp.stream.plan(source, KERNEL, target=packed, memory="4GiB").run(resume=resume)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.nii"]  # Ctrl-C leaves nothing


def test_volumes_cut_short_are_refused_by_name(tmp_path: Path) -> None:
    source = volume(tmp_path / "x.nii", samples())
    content = source.read_bytes()
    source.write_bytes(content[:-1])
    with pytest.raises(files.FileError, match=r"x.nii` is (damaged or )?cut short"):
        sp.stream.filter(source, tmp_path / "y.nii", KERNEL)
    source.write_bytes(content[:100])
    with pytest.raises(files.FileError, match=r"x.nii` is not a readable NIfTI"):
        sp.stream.plan(source, KERNEL)
    wrong = bytearray(content)
    wrong[42:50] = np.array([30000, 30000, 30000, 1], "<i2").tobytes()
    source.write_bytes(wrong)
    with pytest.raises(
        files.FileError, match=r"x.nii` is damaged or cut short: its header says 30000 x 30000"
    ):
        sp.stream.plan(source, KERNEL)
    source.write_bytes(b"")
    with pytest.raises(files.FileError, match=r"x.nii` is empty"):
        sp.stream.plan(source, KERNEL)


@pytest.mark.parametrize("end", [0.5, 0.999, -3])
@pytest.mark.parametrize("target", ["y.nii", "y.nii.gz"])
def test_compressed_volumes_cut_short_are_refused_by_name(tmp_path: Path, end: float, target: str) -> None:
    source = volume(tmp_path / "x.nii.gz", samples())
    content = source.read_bytes()
    source.write_bytes(content[: int(end if end < 0 else end * len(content))])
    with pytest.raises(files.FileError, match=r"x.nii.gz` is (cut short|not a readable NIfTI)"):
        sp.stream.filter(source, tmp_path / target, KERNEL)
    assert not (tmp_path / target).exists()


def test_a_compressed_volume_with_a_wrong_check_sum(tmp_path: Path) -> None:
    source = volume(tmp_path / "x.nii.gz", samples())
    content = bytearray(source.read_bytes())
    content[-6] ^= 1
    source.write_bytes(content)
    with pytest.raises(files.FileError, match=r"x.nii.gz` is not a readable NIfTI file: CRC check failed"):
        sp.stream.filter(source, tmp_path / "y.nii.gz", KERNEL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.nii.gz"]


@pytest.mark.parametrize("kind", ["plain", "deflate", "imagej"])
@pytest.mark.parametrize("end", [0.3, 0.9])
def test_stacks_cut_short_are_refused_by_name(tmp_path: Path, kind: str, end: float) -> None:
    source = stack(tmp_path / "x.tif", samples((60, 24, 20)), **STACKS[kind])
    content = source.read_bytes()
    source.write_bytes(content[: int(end * len(content))])
    with pytest.raises(files.FileError, match=r"x.tif`"):
        sp.stream.filter(source, tmp_path / "y.tif", KERNEL)
    assert not (tmp_path / "y.tif").exists()


def test_a_damaged_page_is_refused_by_name(tmp_path: Path) -> None:
    source = stack(tmp_path / "x.tif", samples((60, 24, 20)), **STACKS["deflate"])
    with tifffile.TiffFile(source) as file:
        place = file.pages[30].dataoffsets[0]
    content = bytearray(source.read_bytes())
    content[place : place + 20] = b"\xff" * 20
    source.write_bytes(content)
    with pytest.raises(files.FileError, match=r"x.tif` is not a readable TIFF"):
        sp.stream.filter(source, tmp_path / "y.tif", KERNEL)


def test_mutated_files_are_read_as_in_memory_or_refused_by_name(tmp_path: Path) -> None:
    """Whatever is in a file, it is read in parts as `files.read` reads it, or an error names it."""
    pytest.importorskip("PIL")
    import fuzz_images

    streamed_suffixes, read = (".npy", ".nii", ".nii.gz", ".tif", ".tiff"), 0
    for number in range(int(os.environ.get("SEPARABLE_MUTATED", "200"))):
        name, body = fuzz_images.mutated(number)
        path = tmp_path / name
        if not name.lower().endswith(streamed_suffixes):
            continue
        path.write_bytes(body)
        try:
            expected: Array | None = files.read(path).data
        except (files.FileError, MemoryError):
            expected = None
        said, samples_read = parts_of(path)
        if expected is None or expected.size == 0 or expected.ndim == 0:
            assert samples_read is None or expected is None, (number, name)
            assert name in said or samples_read is not None, (number, name, said)
        elif "CRC check failed" not in said:  # which nibabel does not look at
            assert samples_read is not None, (number, name, said)
            np.testing.assert_array_equal(samples_read, expected, err_msg=f"{number} {name}")
            read += 1
        path.unlink()
    assert read > 10


def parts_of(path: Path) -> tuple[str, Array | None]:
    """Return a file's samples, read in three parts, or an error's text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            source = open_source(path)
        except (ValueError, TypeError, MemoryError) as error:
            return str(error), None
        shape = as_lying(source.shape, source.order)
        if np.prod(shape, dtype=float) > 1e7:
            source.close()
            return path.name, None
        array = np.empty(shape, source.dtype)
        cuts = sorted({0, shape[0] // 3, shape[0] // 2, shape[0]})
        try:
            for begin, end in itertools.pairwise(cuts):
                source.read(begin, end, array[begin:end])
        except (files.FileError, MemoryError) as error:
            return str(error), None
        finally:
            source.close()
    return "", as_array(array, source.order)
