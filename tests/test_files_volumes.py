"""NRRD, MetaImage and DICOM: samples, where they lie, what is refused; beside SimpleITK if installed."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run

import separable as sp
from separable import files
from separable.files import orientation
from separable.files.formats import dicom, metaimage, nrrd, raw
from separable.stream.places import volumes

pynrrd = pytest.importorskip("nrrd")

Array = np.ndarray[Any, Any]
KERNEL = sp.families.gaussian([1.0, 1.5, 2.0])
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # between RAS and LPS


def samples(shape: tuple[int, ...] = (7, 6, 9), dtype: str = "i2") -> Array:
    return np.random.default_rng(3).integers(0, 120, shape).astype(dtype)


def turned() -> Array:
    """Return directions of axes that are at right angles, and lie askew."""
    q, _ = np.linalg.qr(np.random.default_rng(8).standard_normal((3, 3)))
    return np.asarray(q * np.sign(np.linalg.det(q)))


def affine() -> Array:
    """Return an affine of voxels of 0.5 x 0.7 x 2 mm, in RAS."""
    made = np.eye(4)
    made[:3, :3], made[:3, 3] = turned() * [0.5, 0.7, 2.0], [12.5, -30.25, 410.0]
    return made


def placed(data: Array) -> files.Image:
    return files.Image(data, "XYZ", (0.5, 0.7, 2.0), affine=affine())


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_what_is_written_is_read_again_with_its_place(tmp_path: Path, suffix: str, dtype: str) -> None:
    if suffix.startswith(".nii"):
        pytest.importorskip("nibabel")
    path = tmp_path / f"x{suffix}"
    files.write(path, placed(samples(dtype=dtype)))
    back = files.read(path)
    np.testing.assert_array_equal(back.data, samples(dtype=dtype))
    assert back.data.dtype == dtype
    assert back.axes == "XYZ"
    np.testing.assert_allclose(back.spacing, [0.5, 0.7, 2.0], rtol=1e-6)
    assert back.affine is not None
    np.testing.assert_allclose(back.affine, affine(), rtol=1e-5, atol=1e-5)
    files.write(tmp_path / f"y{suffix}", back)  # from a file of its own kind: to the last byte
    assert files.read(tmp_path / f"y{suffix}").data.tobytes() == back.data.tobytes()
    if not suffix.startswith(".nii"):
        assert (tmp_path / f"y{suffix}").read_bytes() == path.read_bytes()


def test_a_stack_without_a_place_keeps_its_spacing(tmp_path: Path) -> None:
    stack = files.Image(samples(), "ZYX", (3.0, 2.0, 1.0))
    for suffix in (".nrrd", ".mha"):
        files.write(tmp_path / f"x{suffix}", stack)
        back = files.read(tmp_path / f"x{suffix}")
        np.testing.assert_array_equal(back.data, samples().T)
        assert (back.axes, back.spacing) == ("XYZ", (1.0, 2.0, 3.0))
    assert files.read(tmp_path / "x.nrrd").affine is None


def test_colours_and_channels(tmp_path: Path) -> None:
    picture = files.Image(samples((9, 8, 3), "u1"), "YXS", (0.5, 0.25, None), colour="RGB")
    channels = files.Image(samples((4, 9, 8)), "CYX", (None, 0.5, 0.25))
    for suffix, letters in ((".nrrd", ("SXY", "XYC")), (".mha", ("CXY", "CXY"))):
        for image, axes in zip((picture, channels), letters, strict=True):
            files.write(tmp_path / f"x{suffix}", image)
            back = files.read(tmp_path / f"x{suffix}")
            assert back.axes == axes
            order = [
                image.axes.index(letter.replace("C", "S" if "S" in image.axes else "C")) for letter in axes
            ]
            np.testing.assert_array_equal(back.data, image.data.transpose(order))
            assert back.spacing[axes.index("X")] == 0.25
    assert files.read(tmp_path / "x.nrrd").spatial == (0, 1)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_nrrd_by_its_own_library(tmp_path: Path, encoding: str, dtype: str) -> None:
    header = {
        "space": "left-posterior-superior", "space origin": [1.0, 2.0, 3.0], "encoding": encoding,
        "space directions": [[0.5, 0, 0], [0, 0.7, 0], [0, 0, 2.0]], "kinds": ["domain"] * 3,
        "MyKey": "a word",
    }  # fmt: skip
    for name in ("x.nrrd", "x.nhdr"):
        pynrrd.write(str(tmp_path / name), samples(dtype=dtype), header)
        image = files.read(tmp_path / name)
        np.testing.assert_array_equal(image.data, samples(dtype=dtype))
        assert image.affine is not None
        np.testing.assert_allclose(
            FLIP @ image.affine, [[0.5, 0, 0, 1], [0, 0.7, 0, 2], [0, 0, 2, 3], [0, 0, 0, 1]]
        )
        if encoding != "ascii":
            sp.stream.filter(tmp_path / name, tmp_path / f"{name}.npy", KERNEL, memory="4GiB")
            expected = sp.correlate(np.asfortranarray(samples(dtype=dtype)), KERNEL)
            np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), expected)
    files.write(tmp_path / "y.nrrd", replace(image, data=image.data.astype("f8")))
    data, fields = pynrrd.read(str(tmp_path / "y.nrrd"))
    np.testing.assert_array_equal(data, samples(dtype=dtype))
    assert fields["MyKey"] == "a word"  # what the format says is kept
    assert fields["encoding"] == ("gzip" if encoding in ("gzip", "bzip2") else "raw")


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr", ".nii"])
@pytest.mark.parametrize("packed", [False, True])
def test_beside_simpleitk(tmp_path: Path, suffix: str, packed: bool) -> None:
    sitk = pytest.importorskip("SimpleITK")
    pytest.importorskip("nibabel")
    image = sitk.GetImageFromArray(samples().T)
    image.SetSpacing((0.5, 0.7, 2.0))
    image.SetOrigin((1.5, -20.0, 300.0))
    image.SetDirection(turned().ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / f"x{suffix}"), useCompression=packed)
    read = files.read(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(read.data, samples())
    expected = np.eye(4)
    expected[:3, :3], expected[:3, 3] = turned() * [0.5, 0.7, 2.0], [1.5, -20.0, 300.0]
    assert read.affine is not None
    np.testing.assert_allclose(FLIP @ read.affine, expected, atol=1e-4)
    for target in ("y.mha", "y.nrrd", "y.nii"):
        files.write(tmp_path / target, read)
        theirs = sitk.ReadImage(str(tmp_path / target))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(theirs), samples().T)
        np.testing.assert_allclose(theirs.GetSpacing(), (0.5, 0.7, 2.0), rtol=1e-6)
        np.testing.assert_allclose(theirs.GetOrigin(), (1.5, -20.0, 300.0), atol=1e-4)
        np.testing.assert_allclose(np.reshape(theirs.GetDirection(), (3, 3)), turned(), atol=1e-5)


@pytest.mark.parametrize("source", ["x.nrrd", "x.mha", "packed.nrrd", "packed.mha", "x.nii"])
@pytest.mark.parametrize("target", ["y.nrrd", "y.mha", "y.nii", "y.tif"])
def test_slabs_are_those_of_the_whole_volume(tmp_path: Path, source: str, target: str) -> None:
    pytest.importorskip("nibabel")
    pytest.importorskip("tifffile")
    x = samples((20, 24, 50), "i2")
    image = placed(x)
    if source.startswith("packed"):
        body = compressed(tmp_path, image, source)
        (tmp_path / source).write_bytes(body)
    else:
        files.write(tmp_path / source, image)
    plan = sp.stream.plan(tmp_path / source, KERNEL, target=tmp_path / target, dtype="i2", memory="4GiB")
    assert plan.axis == 2
    plan.run()
    filtered = sp.correlate(np.asfortranarray(x), KERNEL, method=plan.method, output="i2")
    result = files.read(tmp_path / target)
    np.testing.assert_array_equal(result.data, filtered.T if target == "y.tif" else filtered)
    if target != "y.tif":
        assert result.affine is not None
        np.testing.assert_allclose(result.affine, affine(), rtol=1e-5, atol=1e-5)
        files.write(tmp_path / f"z{target}", replace(files.read(tmp_path / source), data=filtered))
        if "packed" not in source:  # the very file that is written in memory
            assert (tmp_path / f"z{target}").read_bytes() == (tmp_path / target).read_bytes()


def compressed(folder: Path, image: files.Image, name: str) -> bytes:
    """Return a file of compressed samples."""
    if name.endswith(".nrrd"):
        begin, _ = nrrd.head(image, image.data.dtype, folder / name, packed=True)
        return begin + gzip.compress(image.data.tobytes(order="F"))
    import zlib

    body = zlib.compress(image.data.tobytes(order="F"))
    return metaimage.head(image, image.data.dtype, folder / name, len(body))[0] + body


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("x.nrrd", (b"sizes: 7 6 9", b"sizes: 7 6 9999"), "x.nrrd` is damaged or cut short: its header says"),
        ("x.nrrd", (b"sizes: 7 6 9", b"sizes: 7 6"), "is damaged: it has 3 axes, and sizes"),
        ("x.nrrd", (b"sizes: 7 6 9", b"sizes: 7 6 -9"), "a negative length"),
        ("x.nrrd", (b"sizes: 7 6 9", b"sizes: 7 6 0"), "holds an empty volume"),
        ("x.nrrd", (b"type: int16", b"type: block"), "type 'block', which are no numbers"),
        ("x.nrrd", (b"encoding: raw", b"encoding: hex"), "has encoding 'hex'; expected one of"),
        ("x.nrrd", (b"endian: little\n", b""), "its field `endian` is None"),
        ("x.nrrd", (b"encoding: raw", b"encoding: raw\ndata file: ../x.raw"), "in the same folder"),
        ("x.nrrd", (b"encoding: raw", b"encoding: raw\ndata file: LIST"), "has its samples in several files"),
        ("x.nrrd", (b"encoding: raw", b"encoding: raw\ndata file: no.raw"), "no.raw`, which does not exist"),
        ("x.nrrd", (b"encoding: raw", b"encoding: raw\nline skip: 3"), "skips lines"),
        ("x.nrrd", (b"encoding: raw", b"encoding: raw\nbyte skip: 99999"), "its samples would lie from"),
        ("x.nrrd", (b"NRRD0005", b"NRRD0009"), "x.nrrd` is not a readable NRRD file"),
        ("x.mha", (b"DimSize = 7 6 9", b"DimSize = 7 6 9999"), "is damaged or cut short: its header"),
        ("x.mha", (b"DimSize = 7 6 9", b"DimSize = 7 6"), "is damaged: it has 3 axes, and sizes"),
        ("x.mha", (b"NDims = 3", b"NDims = three"), "x.mha` is not a readable MetaImage file"),
        ("x.mha", (b"MET_SHORT", b"MET_OTHER"), "holds samples of MET_OTHER, which are not read"),
        ("x.mha", (b"BinaryData = True", b"BinaryData = False"), "has its samples as text"),
        ("x.mha", (b"= LOCAL", b"= /etc/passwd"), "expected a file in the same folder"),
        ("x.mha", (b"= LOCAL", b"= x%03d.raw 1 9 1"), "has its samples in several files"),
        ("x.mha", (b"ObjectType = Image", b"ObjectType = Tube"), "holds a Tube, not an image"),
        ("x.mha", (b"NDims = 3", b"NDims = 3\nNDims = 3"), "has `NDims` twice"),
        ("x.mha", (b"NDims = 3", b"NDims = 3\nfoo"), "has no entry"),
        ("x.mha", (b"DimSize", b"DimSiz"), "has no `DimSize`"),
        ("x.mha", (b"MET_SHORT", b"MET_SHORT\nElementNumberOfChannels = 0"), "has 0 channels"),
        ("x.mha", (b"CompressedData = False", b"CompressedData = True"), "is not a readable MetaImage"),
    ],
)  # fmt: skip
def test_headers_that_lie_are_refused_by_name(
    tmp_path: Path, name: str, change: tuple[bytes, bytes], message: str
) -> None:
    path = tmp_path / name
    files.write(path, placed(samples()))
    body = path.read_bytes()
    assert change[0] in body
    path.write_bytes(body.replace(*change, 1))
    with pytest.raises(files.FileError) as caught:
        files.read(path)
    assert message in str(caught.value)
    with pytest.raises((files.FileError, ValueError), match=r"x\.(nrrd|mha)|no\.raw"):
        sp.stream.filter(path, tmp_path / "y.npy", KERNEL, memory="4GiB")
    assert not (tmp_path / "y.npy").exists()


@pytest.mark.parametrize("name", ["x.nrrd", "x.mha", "packed.nrrd", "packed.mha"])
def test_files_cut_short_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.startswith("packed"):
        path.write_bytes(compressed(tmp_path, placed(samples()), name))
    else:
        files.write(path, placed(samples()))
    body = path.read_bytes()
    for end in (0, 3, 90, len(body) // 2, len(body) - 5):
        path.write_bytes(body[:end])
        with pytest.raises(files.FileError, match=name):
            files.read(path)
    (tmp_path / "long.nrrd").write_bytes(b"NRRD0004\n" + b"#" * (3 << 20))
    with pytest.raises(files.FileError, match=r"long.nrrd` is damaged: its header does not end"):
        files.read(tmp_path / "long.nrrd")


def test_what_these_formats_do_not_hold_is_refused_before_the_work(tmp_path: Path) -> None:
    for name, fix in (
        ("y.nhdr", "write .nrrd"),
        ("y.mhd", "write .mha"),
        ("y.dcm", "write .nii.gz, .nrrd or .mha"),
    ):
        with pytest.raises(files.FileError, match=fix):
            files.check_storable(placed(samples()), np.dtype("i2"), tmp_path / name)
    for name in ("y.nrrd", "y.mha"):
        with pytest.raises(files.FileError, match=r"no complex64; pass --dtype float32"):
            files.check_storable(placed(samples()), np.dtype("c8"), tmp_path / name)
        with pytest.raises(files.FileError, match=r"no bool; pass --dtype uint8"):
            files.check_storable(placed(samples()), np.dtype(bool), tmp_path / name)


def test_affines_and_their_words() -> None:
    origin, columns = orientation.lps_of(affine())
    made = orientation.affine_of(origin, columns)
    assert made is not None
    np.testing.assert_allclose(made, affine())
    np.testing.assert_allclose(orientation.lengths_of(columns), [0.5, 0.7, 2.0])
    assert orientation.affine_of(origin, np.zeros((3, 3))) is None
    assert orientation.axes_placed(replace(placed(samples()), axes="XYC")) is None
    assert raw.numbers_text([0.1, 2]) == "0.10000000000000001 2"


# -- DICOM -------------------------------------------------------------------------------------------


def series(folder: Path, data: Array, change: Callable[[int, Any], None] | None = None, **more: Any) -> Path:
    """Write a series of slices, (z, y, x), shuffled, whose place is that of `affine`."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    folder.mkdir(exist_ok=True)
    world, uid = FLIP @ affine(), generate_uid()
    names = np.random.default_rng(1).permutation(len(data))
    for number, plane in enumerate(data):
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
            "1.2.840.10008.5.1.4.1.1.2",
            generate_uid(),
        )
        entries = pydicom.dataset.FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        entries.SeriesInstanceUID, entries.SeriesDescription, entries.SeriesNumber = uid, "thorax", 3
        entries.Rows, entries.Columns = plane.shape
        entries.SamplesPerPixel, entries.PhotometricInterpretation = 1, "MONOCHROME2"
        entries.BitsAllocated = entries.BitsStored = plane.itemsize * 8
        entries.HighBit, entries.PixelRepresentation = plane.itemsize * 8 - 1, int(plane.dtype.kind == "i")
        entries.PixelSpacing = [0.7, 0.5]
        entries.ImageOrientationPatient = [*(world[:3, 0] / 0.5), *(world[:3, 1] / 0.7)]
        entries.ImagePositionPatient = list((world @ [0, 0, number, 1])[:3])
        for name, value in more.items():
            setattr(entries, name, value)
        entries.PixelData = plane.tobytes()
        if change is not None:
            change(number, entries)
        entries.save_as(folder / f"{names[number]:03}.dcm", enforce_file_format=True)
    return folder


def test_a_series_in_the_order_of_its_positions(tmp_path: Path) -> None:
    x = samples((9, 6, 7), "u2")
    folder = series(tmp_path / "scan", x)
    (folder / "README.txt").write_text("not a slice")
    image = files.read(folder)
    np.testing.assert_array_equal(image.data, x.T)
    assert (image.axes, image.data.dtype) == ("XYZ", np.uint16)
    np.testing.assert_allclose(image.spacing, [0.5, 0.7, 2.0], rtol=1e-6)
    assert image.affine is not None
    np.testing.assert_allclose(image.affine, affine(), atol=1e-4)
    header, slices = dicom.describe(folder)
    assert header.data.shape == slices.shape == (7, 6, 9)


def test_a_series_beside_simpleitk(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    x = samples((9, 6, 7), "u2")
    folder = series(tmp_path / "scan", x, RescaleSlope=1, RescaleIntercept=-1024, BitsStored=12, HighBit=11)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    theirs = reader.Execute()
    ours = files.read(folder)
    assert ours.data.dtype == np.int16
    np.testing.assert_array_equal(ours.data, sitk.GetArrayFromImage(theirs).T)
    files.write(tmp_path / "y.mha", ours)
    written = sitk.ReadImage(str(tmp_path / "y.mha"))
    np.testing.assert_allclose(written.GetOrigin(), theirs.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(written.GetSpacing(), theirs.GetSpacing(), rtol=1e-5)
    np.testing.assert_allclose(written.GetDirection(), theirs.GetDirection(), atol=1e-5)


@pytest.mark.parametrize(
    ("scale", "dtype"),
    [((1, -1024), "i2"), ((1, 100000), "i4"), ((0.5, -3), "f4"), ((1, 0.25), "f4"), ((1, 0), "u2")],
)
def test_slope_and_intercept(tmp_path: Path, scale: tuple[float, float], dtype: str) -> None:
    x = samples((4, 6, 7), "u2")
    bits = {"BitsStored": 12, "HighBit": 11}
    folder = series(tmp_path / "scan", x, RescaleSlope=scale[0], RescaleIntercept=scale[1], **bits)
    image = files.read(folder)
    assert image.data.dtype == dtype
    np.testing.assert_array_equal(image.data, (x.T.astype(float) * scale[0] + scale[1]).astype(dtype))


def without(*names: str) -> Callable[[int, Any], None]:
    def change(number: int, entries: Any) -> None:
        for name in names:
            delattr(entries, name)

    return change


def at(slice_number: int, **values: Any) -> Callable[[int, Any], None]:
    def change(number: int, entries: Any) -> None:
        if number == slice_number:
            for name, value in values.items():
                setattr(entries, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (at(2, SeriesInstanceUID="1.2.3"), r"holds 2 series \(3 thorax: "),
        (at(2, Rows=5), "has Rows 5, and"),
        (at(2, PixelSpacing=[0.7, 0.6]), "has PixelSpacing"),
        (at(2, ImageOrientationPatient=[1, 0, 0, 0, 1, 0]), "has ImageOrientationPatient"),
        (at(2, ImagePositionPatient=[0, 0, 0]), "apart, and others|beside the line|at one place"),
        (at(0, NumberOfFrames=4), "holds 4 frames in one file"),
        (at(0, SamplesPerPixel=3), "is in colour"),
        (at(0, BitsAllocated=1), "has samples of 1 bits"),
        (without("ImagePositionPatient"), "its 6 slices do not say where they lie"),
        (without("PixelData"), "is not a readable DICOM file"),
        (at(0, RescaleSlope=0), "its slope is 0"),
        (at(1, Columns=60000, Rows=60000), "60000; expected slices of one volume"),
    ],
)
def test_series_that_are_no_volume_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = series(tmp_path / "scan", samples((6, 6, 7), "u2"), change)
    with pytest.raises(files.FileError, match=message) as caught:
        files.read(folder)
    assert str(folder) in str(caught.value)


def test_missing_slices_and_two_at_one_place_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    folder = series(tmp_path / "scan", samples((6, 6, 7), "u2"))
    _, slices = dicom.describe(folder)
    third = slices.paths[3].read_bytes()
    slices.paths[3].unlink()
    with pytest.raises(files.FileError, match=r"are 4 mm apart, and others 2 mm; a slice is missing"):
        files.read(folder)
    for name in ("a.dcm", "b.dcm"):
        (folder / name).write_bytes(third)
    with pytest.raises(files.FileError, match="lie at one place"):
        files.read(folder)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(files.FileError, match=r"scan` holds no DICOM images"):
        files.read(folder)
    (folder / "a.dcm").write_bytes(b"no DICOM")
    with pytest.raises(files.FileError, match=r"a.dcm` is not a readable DICOM file"):
        files.read(folder)
    (folder / "a.dcm").write_bytes(third)
    assert files.read(folder / "a.dcm").data.shape == (7, 6, 1)
    (folder / "a.dcm").write_bytes(third[: len(third) - 40])
    with pytest.raises(files.FileError, match=r"a.dcm`"):
        files.read(folder)


def test_what_cannot_be_decoded_names_the_syntax(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGLSLossless

    def jpeg(number: int, entries: Any) -> None:
        entries.file_meta.TransferSyntaxUID = JPEGLSLossless
        entries.PixelData = encapsulate([b"\xff\xd8\xff\xf7" + b"\0" * 60])
        entries["PixelData"].is_undefined_length = True

    folder = series(tmp_path / "scan", samples((2, 6, 7), "u2"), jpeg)
    with pytest.raises(files.FileError, match=r"\.dcm` is (compressed with JPEG-LS|not a readable DICOM)"):
        files.read(folder)


def test_a_series_in_slabs_and_from_the_command_line(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    pytest.importorskip("typer")
    x = samples((30, 16, 18), "u2")
    series(Path("scan"), x, RescaleIntercept=-100, RescaleSlope=1, BitsStored=12, HighBit=11)
    done = run("filter", "scan", "y.nii.gz", "--gaussian", "1mm")
    assert (done.code, done.err) == (0, "")
    assert "sigma 1 x 1 x 1 mm = 2 x 1.429 x 0.5 samples" in done.out
    assert "patient, scanner and acquisition is not kept" in " ".join(done.out.split())
    assert run("filter", "scan", "y.nrrd", "--gaussian", "1mm", "--memory", "1GiB").code == 0
    assert run("filter", "scan", "y.mha", "--gaussian", "1mm", "--memory", "1GiB", "-q").code == 0
    whole = files.read(Path("y.nii.gz"))
    kernel = sp.families.gaussian([2.0, 1 / 0.7, 0.5])
    expected = sp.correlate(np.asfortranarray(x.T.astype("i2") - 100), kernel, output="i2")
    np.testing.assert_array_equal(whole.data, expected)
    for name in ("y.nrrd", "y.mha"):
        other = files.read(Path(name))
        np.testing.assert_array_equal(other.data, whole.data)
        assert other.affine is not None
        np.testing.assert_allclose(other.affine, affine(), atol=1e-4)
    source = volumes.volume_source(Path("scan"))
    assert (source.order, source.rows) == ("F", 1)
    assert "decoded slice by slice" in source.remark
