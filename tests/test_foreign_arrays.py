"""Arrays of other libraries: what is read, what is written into, and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sp
import separable.ndimage as ndi
from separable._base import foreign

X = np.random.default_rng(0).random((9, 8)).astype(np.float32)
KERNEL = sp.families.gaussian(1.0)
PLAN = sp.plan(KERNEL, X.shape)
BANK = sp.plan([KERNEL, sp.families.box(3)], X.shape)
Call = Callable[..., Any]

# Everything that takes an array and an output.
FILTERS: dict[str, Call] = {
    "correlate": lambda x, **k: sp.correlate(x, KERNEL, **k),
    "convolve": lambda x, **k: sp.convolve(x, np.array([[1.0, 2.0]]), **k),
    "complex weights": lambda x, **k: sp.convolve(x, np.array([[1.0, 2.0j]]), **k),
    "gaussian": lambda x, **k: sp.gaussian(x, 1.0, **k),
    "uniform": lambda x, **k: sp.uniform(x, 3, **k),
    "plan": lambda x, **k: PLAN(x, **k),
    "bank": lambda x, **k: BANK(x, **k),
    "adjoint": lambda x, **k: PLAN.adjoint()(x, **k),
}
DROP_IN: dict[str, Call] = {
    "ndimage gaussian_filter": lambda x, **k: ndi.gaussian_filter(x, 1.0, **k),
    "ndimage correlate": lambda x, **k: ndi.correlate(x, np.ones((3, 3)), **k),
    "ndimage sobel": lambda x, **k: ndi.sobel(x, **k),
    "ndimage gradient": lambda x, **k: ndi.gaussian_gradient_magnitude(x, 1.0, **k),
    "ndimage generic": lambda x, **k: ndi.generic_laplace(
        x, lambda a, axis, out, mode, cval: ndi.correlate1d(a, [1, -2, 1], axis, out, mode, cval), **k
    ),
}
ALL = {**FILTERS, **DROP_IN}


class Copying:
    """As a dataset on disk: NumPy reads a copy of it, and what is written there is lost."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self._values = values
        self.shape, self.dtype = values.shape, values.dtype
        self.reads = 0

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        self.reads += self.shape == self._values.shape
        return np.array(self._values, dtype)

    def __getitem__(self, key: Any) -> Any:
        return Copying(self._values[key])


class Sharing:
    """As a tensor: NumPy reads its memory."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.values_ = values
        self.shape, self.dtype = values.shape, values.dtype

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        return self.values_


class Labelled:
    """As an array with names of its axes."""

    def __init__(
        self, data: Any, dims: tuple[str, ...], coords: Any = None, name: Any = None, attrs: Any = None
    ) -> None:
        self.values, self.dims, self.coords = np.asarray(data), dims, coords
        self.name, self.attrs = name, attrs
        self.shape, self.dtype, self.chunks = self.values.shape, self.values.dtype, None

    def copy(self, deep: bool = True, data: Any = None) -> Labelled:
        return Labelled(data, self.dims, self.coords, self.name, self.attrs)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        return self.values

    def __getitem__(self, key: Any) -> Any:
        return Labelled(self.values[key], self.dims)


class Units(np.ndarray):
    """As a quantity: a subclass of ndarray that carries something."""

    unit: str | None = None

    def __array_finalize__(self, other: Any) -> None:
        self.unit = getattr(other, "unit", None)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        found = array.view(Units)
        found.unit = self.unit
        return found


def result_of(name: str, x: Any = X) -> np.ndarray[Any, Any]:
    return np.asarray(ALL[name](x))


def full(name: str, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """Return an array that a filter's result fits into."""
    found = result_of(name)
    return np.full(found.shape, 7, np.result_type(found, dtype))


@pytest.mark.parametrize("name", ALL)
def test_what_shares_its_memory_is_written_into_and_returned(name: str, tmp_path: Path) -> None:
    wanted = result_of(name)
    for made in (Sharing(full(name)), full(name).view(Units)):
        for _ in range(2):  # the second call of a kind may take a shorter way
            np.asarray(made)[...] = 7
            assert ALL[name](X, output=made) is made
            np.testing.assert_array_equal(np.asarray(made), wanted)
    mapped = np.lib.format.open_memmap(
        tmp_path / "out.npy", mode="w+", dtype=wanted.dtype, shape=wanted.shape
    )
    assert ALL[name](X, output=mapped) is mapped
    mapped.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), wanted)


@pytest.mark.parametrize("name", ALL)
def test_what_is_copied_is_refused(name: str) -> None:
    read_only = full(name)
    read_only.flags.writeable = False
    for made in (Copying(full(name)), Sharing(read_only)):
        for _ in range(2):
            kind = type(made).__name__
            with pytest.raises(TypeError, match=rf"`output` is a .*{kind}, whose memory.*out\["):
                ALL[name](X, output=made)
        assert (np.asarray(made) == 7).all()


def test_large_outputs_are_not_read_to_refuse_them() -> None:
    output = Copying(np.zeros(X.shape, np.float32))
    with pytest.raises(TypeError):
        sp.gaussian(X, 1, output=output)
    assert output.reads == 0


@pytest.mark.parametrize("name", ALL)
def test_masked_outputs_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match=r"`output` is a masked array.*output\.data"):
        ALL[name](X, output=np.ma.masked_array(full(name)))


@pytest.mark.parametrize("name", FILTERS)
def test_an_output_of_another_shape(name: str) -> None:
    with pytest.raises(ValueError, match=r"`output` has shape \(3, 3\)"):
        FILTERS[name](X, output=Sharing(np.zeros((3, 3), np.complex64)))


@pytest.mark.parametrize("output", ["float64", np.float64, float, np.dtype("f8"), b"f8", "d"])
@pytest.mark.parametrize("name", FILTERS)
def test_names_of_dtypes_are_as_ever(name: str, output: Any) -> None:
    if name == "complex weights":
        output = "complex128"
    assert FILTERS[name](X, output=output).dtype in (np.float64, np.complex128)


@pytest.mark.parametrize("output", [3, 1.5, ["f8"], object(), slice(3)])
@pytest.mark.parametrize("name", FILTERS)
def test_what_is_neither_array_nor_dtype(name: str, output: Any) -> None:
    with pytest.raises(TypeError, match="is neither an array, nor a dtype, nor the name of one"):
        FILTERS[name](X, output=output)


@pytest.mark.parametrize("name", FILTERS)
def test_subclasses_come_back(name: str) -> None:
    x = X.view(Units)
    x.unit = "kelvin"
    found = FILTERS[name](x)
    np.testing.assert_array_equal(np.asarray(found), result_of(name))
    if name != "bank":
        assert isinstance(found, Units)
        assert found.unit == "kelvin"
        matrix = X.view(np.matrix)
        assert type(FILTERS[name](matrix)) is np.matrix
    if name not in ("plan", "bank"):  # a list is float64
        assert type(FILTERS[name](X.tolist())) is np.ndarray


@pytest.mark.parametrize("name", FILTERS)
def test_labels_are_kept(name: str) -> None:
    x = Labelled(X, ("row", "column"), {"row": np.arange(9)}, "image", {"units": "mm"})
    found = FILTERS[name](x)
    assert isinstance(found, Labelled)
    np.testing.assert_array_equal(found.values, result_of(name))
    assert found.dims == (("kernel", "row", "column") if name == "bank" else ("row", "column"))
    assert (found.coords, found.name, found.attrs) == (x.coords, "image", {"units": "mm"})
    out = full(name)
    assert FILTERS[name](x, output=out) is out


def test_the_array_api_namespace_makes_the_result() -> None:
    class Namespace:
        @staticmethod
        def asarray(values: Any) -> Any:
            return ("made", values)

    class Standard(Sharing):
        def __array_namespace__(self) -> Any:
            return Namespace

    found = sp.gaussian(Standard(X), 1)
    assert found[0] == "made"
    np.testing.assert_array_equal(found[1], sp.gaussian(X, 1))


@pytest.mark.parametrize("name", DROP_IN)
def test_the_drop_in_returns_ndarrays_as_scipy_does(name: str) -> None:
    for x in (X.view(Units), Labelled(X, ("row", "column")), Sharing(X)):
        found = DROP_IN[name](x)
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, result_of(name))


def test_what_the_device_or_the_gradient_keeps_from_numpy() -> None:
    class Device:
        type = "cuda"

    class Tensor(Sharing):
        requires_grad = False
        device: Any = None

        def cpu(self) -> None: ...

    tensor = Tensor(X)
    np.testing.assert_array_equal(sp.gaussian(tensor, 1), sp.gaussian(X, 1))
    tensor.requires_grad = True
    with pytest.raises(TypeError, match=r"`x` requires grad.*x\.detach\(\)"):
        sp.gaussian(tensor, 1)
    tensor.requires_grad, tensor.device = False, Device()
    with pytest.raises(TypeError, match=r"`x` lies on .*x\.cpu\(\)"):
        PLAN(tensor)
    with pytest.raises(TypeError, match=r"`y` lies on .*y\.cpu\(\)"):
        PLAN.adjoint()(tensor)
    with pytest.raises(TypeError, match=r"`kernel_or_weights` lies on"):
        sp.correlate(X, tensor)


@pytest.mark.parametrize("name", ALL)
def test_what_is_no_array_is_blamed(name: str, tmp_path: Path) -> None:
    for x in ("photo.png", tmp_path / "photo.png", b"photo.png"):
        with pytest.raises(TypeError, match=r"`[xy]` is .*photo\.png.*read first.*separable\.files\.read"):
            ALL[name](x)
    with pytest.raises(TypeError, match=r"`[xy]` is None; expected an array of numbers"):
        ALL[name](None)
    with pytest.raises(TypeError, match=r"`[xy]` is a separable.SeparableKernel; expected an array"):
        ALL[name](KERNEL)
    with pytest.raises(ValueError, match=r"`[xy]` is a list that NumPy does not read"):
        ALL[name]([[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("name", ALL)
def test_masked_arrays_are_refused_with_the_way(name: str) -> None:
    with pytest.raises(TypeError, match=r"is a masked array.*pass [xy]\.data with mask=~[xy]\.mask"):
        ALL[name](np.ma.masked_array(X, X > 0.5))
    x = np.ma.masked_array(X, X > 0.5)
    wanted = sp.gaussian(np.where(X > 0.5, np.nan, X), 1, nan="omit")
    np.testing.assert_allclose(sp.gaussian(x.data, 1, mask=~x.mask), wanted)


@pytest.mark.parametrize(
    "call",
    [
        lambda w: sp.correlate(X, w),
        lambda w: sp.convolve(X, w, method="direct"),
        lambda w: sp.plan(w, X.shape),
        lambda w: sp.plan([w, w], X.shape),
        lambda w: sp.factor(w),
        lambda w: sp.SeparableKernel([[w[0], w[0]]]),
        lambda w: ndi.correlate(X, w),
        lambda w: ndi.convolve1d(X, w[0]),
    ],
)
def test_masked_kernels_are_refused(call: Call) -> None:
    weights = np.ma.masked_array(np.ones((3, 3)), np.eye(3) > 0)
    with pytest.raises(TypeError, match=r"is a masked array.*filled\(0\)"):
        call(weights)


class Large(Copying):
    """As an array of a terabyte on disk."""

    def __init__(self) -> None:
        super().__init__(np.zeros((1, 1), np.float32))
        self.shape = (1 << 20, 1 << 18)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise AssertionError("read")


@pytest.mark.parametrize("name", [*FILTERS, "ndimage sobel"])
def test_what_does_not_fit_is_refused_before_it_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "_free_memory", lambda: 8.0 * 2**30)
    with pytest.raises(MemoryError, match=r"Large of 1.02e\+03 GiB.*8 GiB are free.*sp\.stream\.filter\("):
        ALL[name](Large())

    class Chunked(Large):
        def map_overlap(self) -> None: ...

    with pytest.raises(MemoryError, match=r"chunk by chunk: sp\.dask\.gaussian\([xy], "):
        ALL[name](Chunked())
    monkeypatch.setattr(foreign, "_free_memory", lambda: None)
    with pytest.raises(AssertionError, match="read"):
        ALL[name](Large())


def test_masks_that_do_not_fit_are_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "_free_memory", lambda: 8.0 * 2**30)
    with pytest.raises(MemoryError, match=r"`mask` is a .*Large of 1.02e\+03 GiB"):
        sp.gaussian(X, 1, mask=Large())


def test_lazy_arrays_that_do_not_fit_name_the_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    da, xr = pytest.importorskip("dask.array"), pytest.importorskip("xarray")
    zarr, h5py = pytest.importorskip("zarr"), pytest.importorskip("h5py")
    monkeypatch.setattr(foreign, "_free_memory", lambda: 8.0 * 2**30)
    shape, chunks = (1 << 10,) * 3, (128,) * 3  # 4 GiB, none of which is there
    lazy = da.zeros(shape, chunks=chunks, dtype="f4")
    stored = zarr.create_array(str(tmp_path / "x.zarr"), shape=shape, chunks=chunks, dtype="f4")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data_set = file.create_dataset("x", shape, "f4", chunks=chunks)
        slabs = r"slab by slab: sp\.stream\.filter\("
        for array, words in (
            (lazy, r"sp\.dask\.gaussian\(x, sigma\)"),
            (stored, slabs),
            (data_set, slabs),
            (xr.DataArray(lazy), r"import separable\.xarray, then x\.separable\.gaussian"),
        ):
            with pytest.raises(MemoryError, match=words):
                sp.gaussian(array, 1)


def test_files_that_xarray_has_not_read_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    xr = pytest.importorskip("xarray")
    pytest.importorskip("scipy")
    xr.Dataset({"x": (("y", "z"), X)}).to_netcdf(tmp_path / "x.nc", engine="scipy")
    monkeypatch.setattr(foreign, "_free_memory", lambda: 100.0)
    monkeypatch.setattr(foreign, "_SMALL", 10)
    with xr.open_dataset(tmp_path / "x.nc", engine="scipy") as opened:
        with pytest.raises(MemoryError, match=r"x\.chunk\(\)\.separable\.gaussian"):
            sp.gaussian(opened["x"], 1)
        read = opened["x"].load()
        np.testing.assert_array_equal(sp.gaussian(read, 1).values, sp.gaussian(X, 1))


def test_free_memory_is_known_here() -> None:
    free = foreign._free_memory()
    assert free is None or 2**20 < free < 2**60


def test_torch() -> None:
    torch = pytest.importorskip("torch")
    t = torch.from_numpy(X.copy())
    for name, call in FILTERS.items():
        found = call(t)
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found.numpy(), result_of(name))
        out = torch.empty(tuple(found.shape), dtype=found.dtype)
        assert call(t, output=out) is out
        assert torch.equal(out, found)
        into = np.empty(tuple(found.shape), found.numpy().dtype)
        assert call(t, output=into) is into
    assert sp.gaussian(t, 1, output=torch.float64).dtype == torch.float64
    assert sp.plan(KERNEL, t.shape, t.dtype)(t).dtype == torch.float32
    assert isinstance(ndi.gaussian_filter(t, 1), np.ndarray)
    out = torch.empty_like(t)
    for _ in range(2):
        out.fill_(7)
        assert ndi.gaussian_filter(X, 1, output=out) is out
        np.testing.assert_array_equal(out.numpy(), ndi.gaussian_filter(X, 1))
    np.testing.assert_array_equal(sp.correlate(X, torch.ones(3, 3)), sp.correlate(X, np.ones((3, 3))))
    with pytest.raises(TypeError, match=r"requires grad.*x\.detach\(\)"):
        sp.gaussian(t.clone().requires_grad_(), 1)
    with pytest.raises(TypeError, match=r"bfloat16 that NumPy does not read.*pass x\.float\(\)"):
        sp.gaussian(t.bfloat16(), 1)
    with pytest.raises(TypeError, match=r"`output` is a torch\.Tensor"):
        sp.gaussian(t, 1, output=torch.empty_like(t).bfloat16())


def test_xarray() -> None:
    xarray = pytest.importorskip("xarray")
    coords = {"y": np.arange(9.0), "x": np.arange(8.0)}
    a = xarray.DataArray(X, dims=("y", "x"), coords=coords, name="image", attrs={"units": "K"})
    for name, call in FILTERS.items():
        found = call(a)
        assert isinstance(found, xarray.DataArray)
        np.testing.assert_array_equal(found.values, result_of(name))
        assert found.dims[-2:] == ("y", "x")
        assert (found.name, found.attrs) == ("image", {"units": "K"})
        assert found.coords["y"].equals(a.coords["y"])
        out = xarray.zeros_like(found)
        assert call(a, output=out) is out
        assert out.equals(found)
    assert isinstance(sp.gaussian(a.variable, 1), xarray.Variable)
    with pytest.raises(TypeError, match=r"`x` is a xarray\.Dataset"):
        sp.gaussian(a.to_dataset(), 1)


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X.astype(np.float64), index=list("abcdefghi"), columns=list("ABCDEFGH"))
    found = sp.gaussian(frame, 1)
    assert isinstance(found, pandas.DataFrame)
    assert found.index.equals(frame.index)
    assert found.columns.equals(frame.columns)
    np.testing.assert_allclose(found.to_numpy(), sp.gaussian(X.astype(np.float64), 1), rtol=1e-14)
    line = sp.correlate(frame["A"], [1, 2, 1])
    assert isinstance(line, pandas.Series)
    assert line.name == "A"
    assert line.index.equals(frame.index)
    assert isinstance(BANK(frame.astype(np.float32)), np.ndarray)
    out = frame.copy()
    if int(pandas.__version__.partition(".")[0]) >= 3:  # a table's memory is its own
        with pytest.raises(TypeError, match=r"pandas\.DataFrame, whose memory"):
            sp.gaussian(X, 1, output=out)
        assert out.equals(frame)
    else:
        assert sp.gaussian(X, 1, output=out) is out
        np.testing.assert_allclose(out.to_numpy(), sp.gaussian(X, 1))


def _hdf5(path: Path) -> Any:
    return pytest.importorskip("h5py").File(path, "w").create_dataset("plain", data=X)


def _hdf5_chunked(path: Path) -> Any:
    return pytest.importorskip("h5py").File(path, "w").create_dataset("chunked", data=X, chunks=(3, 3))


def _zarr(path: Path) -> Any:
    return pytest.importorskip("zarr").array(X)


def _dask(path: Path) -> Any:
    return pytest.importorskip("dask.array").from_array(X, chunks=(3, 3))


@pytest.mark.parametrize("make", [_hdf5, _hdf5_chunked, _zarr, _dask])
def test_arrays_in_files_and_chunks(make: Callable[[Path], Any], tmp_path: Path) -> None:
    array = make(tmp_path / "data.h5")
    np.testing.assert_array_equal(sp.gaussian(array, 1), sp.gaussian(X, 1))
    for call in ALL.values():
        with pytest.raises(TypeError, match=r"`output` is a (h5py|zarr|dask)"):
            call(X, output=array)
    np.testing.assert_array_equal(np.asarray(array), X)
    if hasattr(array, "file"):
        array.file.close()
