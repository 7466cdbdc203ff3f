"""The graph of a filter of a Dask array: one task a chunk, which takes the blocks that it needs."""

from __future__ import annotations

import itertools
import pickle
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from .._base.extras import extra
from .._base.types import Array
from .._base.words.messages import kind
from ..arrays import arguments
from ..arrays import masks as masking
from ..arrays import output as storing
from ..arrays.boundaries import Line
from ..kernel.value import SeparableKernel
from ..stream.parted import plan_in_parts, request_of
from .tasks import BlockFilter, extent_over
from .windows import ChunkWindow, Stretch, followed, held, read_share, stretches

if TYPE_CHECKING:
    import dask.array as da

# mode, cval, origin, axes, tol, method; and rounding, overflow, mask, nan
Asked: TypeAlias = tuple[Any, complex, Any, Any, float | None, Any]
Stored: TypeAlias = tuple[storing.Rounding, storing.Overflow, Any, masking.Nan]
_Index: TypeAlias = tuple[int, ...]
_Key: TypeAlias = tuple[Any, ...]

# Bytes of a pickled filter beyond which it is one value of the graph, and not part of every task.
_INLINE: Final = 1 << 15
_FAN_IN: Final = 64  # extents that a task brings together
_MOST_READ: Final = 8.0  # times the samples of the array; beyond, a warning names larger chunks


def checked_array(x: Any, verb: str) -> da.Array:
    """Return the Dask array of an argument.

    Raises
    ------
    TypeError
        It is none; its blocks are no plain ndarrays.
    ValueError
        Lengths of chunks are unknown.
    """
    with extra("dask"):
        import dask.array as da
    if not isinstance(x, da.Array):
        raise TypeError(
            f"`x` is a {kind(x)}; expected a Dask array. Pass dask.array.from_array(x, chunks=...), or call "
            f"sp.{verb}(x, ...) for an array in memory."
        )
    unknown = [axis for axis, lengths in enumerate(x.chunks) if any(n != n for n in lengths)]
    if unknown:
        raise ValueError(
            f"`x` has chunks of unknown lengths along axis {unknown[0]}, so that halos have no place; call "
            "x.compute_chunk_sizes() first."
        )
    meta = getattr(x, "_meta", None)
    if isinstance(meta, np.ma.MaskedArray):
        raise TypeError(
            "`x` has blocks of masked arrays, and a filter would read what the masks hide; pass "
            "dask.array.ma.getdata(x) with mask=~dask.array.ma.getmaskarray(x)."
        )
    if not isinstance(meta, np.ndarray):
        raise TypeError(
            f"`x` has blocks of {kind(meta)}; filters run on blocks of NumPy: pass x.map_blocks(convert), "
            "with the function that converts a block."
        )
    return x


def filtered(
    x: da.Array,
    kernel: SeparableKernel | npt.ArrayLike,
    asked: Asked,
    output: npt.DTypeLike | None,
    threads: int | None,
    how: Stored,
    verb: str,
    flip: bool = False,
) -> da.Array:
    """Return the Dask array of results: of the shape and the chunks of `x`."""
    rounding, overflow, mask, nan = how
    storing.check_names(rounding, overflow)
    masking.check_nan(nan)
    stored = _stored_dtype(output)
    if threads is not None:
        threads = arguments.thread_count(threads)
    _, request = request_of(x.shape, x.dtype, stored, asked, mask, nan, rounding)
    plan, _ = plan_in_parts(_real(kernel), request._replace(flip=flip), None)
    if plan.dtype.kind == "c" and stored is not None and stored.kind != "c":
        raise TypeError(
            f"`output` is {stored.name}, but the result is {plan.dtype.name}; pass "
            f"output='{plan.dtype.name}', or filter x.real and x.imag apart."
        )
    task = BlockFilter(plan, x.dtype, stored, nan, rounding, overflow, threads)
    return _FilterGraph(x, task, _mask_of(mask, x), verb).array()


def _stored_dtype(output: Any) -> np.dtype[Any] | None:
    """Return the dtype that is asked for; TypeError for an array."""
    if output is None:
        return None
    named = isinstance(output, (type, np.dtype))  # which have a shape as well
    if not named and (hasattr(output, "__array__") or hasattr(output, "shape")):
        raise TypeError(
            f"`output` is a {kind(output)}; results of Dask have no place yet. Pass a dtype, and store the "
            "result: result.store(target), or result.to_zarr(path)."
        )
    return arguments.output_dtype(output)


def _real(kernel: SeparableKernel | npt.ArrayLike) -> SeparableKernel | Array:
    if isinstance(kernel, SeparableKernel):
        return kernel
    weights = arguments.input_array(kernel, "kernel_or_weights")
    if weights.dtype.kind == "c":
        raise ValueError(
            "`kernel_or_weights` is complex, and both of its parts share a sweep in memory; filter by its "
            "real and its imaginary part, and add up the results."
        )
    return weights


def _mask_of(mask: Any, x: da.Array) -> da.Array | None:
    """Return a mask as a Dask array with as many axes as `x`, of which some may have length 1."""
    if mask is None:
        return None
    import dask.array as da

    known: Any = mask if isinstance(mask, da.Array) else arguments.input_array(mask, "mask")
    if any(n != n for n in known.shape):
        raise ValueError("`mask` has chunks of unknown lengths; call mask.compute_chunk_sizes() first.")
    masking.check_mask(known.dtype, known.shape, x.shape)
    known = known[(np.newaxis,) * (x.ndim - known.ndim)]
    if isinstance(known, da.Array):
        return known
    alike = zip(known.shape, x.shape, x.chunks, strict=True)
    chunks = tuple(c if n == wanted else (n,) for n, wanted, c in alike)
    return cast("da.Array", da.from_array(known, chunks=chunks))


class _FilterGraph:
    """The tasks that filter `x`, and what they depend on."""

    def __init__(self, x: da.Array, task: BlockFilter, mask: da.Array | None, verb: str) -> None:
        from dask.base import tokenize

        self._x, self._task, self._mask = x, task, mask
        self._axes = [stretches(line, chunks) for line, chunks in zip(task.plan.lines, x.chunks, strict=True)]
        how = (task.stored, task.nan, task.rounding, task.overflow, task.threads)
        token = tokenize(x.name, task.plan, how, None if mask is None else mask.name)
        self._token, self._name = token, f"separable-{verb}-{token}"
        self._layer: dict[Any, Any] = {}
        self._keys: dict[tuple[str, _Index], _Key] = {}

    def array(self) -> da.Array:
        """Return the array of results."""
        self._warn()
        task: Any = self._task
        if len(pickle.dumps(task)) > _INLINE:
            task = f"separable-filter-{self._token}"
            self._layer[task] = self._task
        extent = self._extent(task) if self._clips() else None
        for index in itertools.product(*map(range, self._x.numblocks)):
            stretched = tuple(axis[n] for axis, n in zip(self._axes, index, strict=True))
            reads = self._reads(stretched)
            self._layer[(self._name, *index)] = (_filtered, task, *reads, extent)
        return self._collected()

    def _clips(self) -> bool:
        """Return whether results are clipped to what all samples allow, which are looked at first."""
        task = self._task
        if task.stored is None:
            return False
        masked = self._mask is not None or task.nan == "omit"
        return task.plan.clips((task.samples, task.stored, task.rounding), masked)

    def _reads(self, stretched: Sequence[Stretch]) -> tuple[Any, ...]:
        """Return the window of a chunk and the keys of its blocks; and those of the mask."""
        window = ChunkWindow(tuple(stretched))
        reads: tuple[Any, ...] = window, self._blocks(self._x, window)
        mask = self._mask
        if mask is None:
            return *reads, None, []
        lengths = zip(stretched, mask.chunks, mask.shape, self._x.shape, strict=True)
        mask_window = ChunkWindow(
            tuple(followed(s, c) if n == own else held(s, c) for s, c, n, own in lengths)
        )
        return *reads, mask_window, self._blocks(mask, mask_window)

    def _blocks(self, array: da.Array, window: ChunkWindow) -> list[_Key]:
        """Return the keys of the blocks of a window; each is one object, however many tasks take it."""
        name = array.name
        return [self._keys.setdefault((name, index), (name, *index)) for index in window.chunks()]

    def _extent(self, task: Any) -> str:
        """Add the tasks that find the least and the largest sample; return the key of these two."""
        name = f"separable-extent-{self._token}"
        axes = [stretches(Line(sum(c), 1, 0, "reflect"), c) for c in self._x.chunks]
        parts: list[_Key] = []
        for index in itertools.product(*map(range, self._x.numblocks)):
            stretched = tuple(axis[n] for axis, n in zip(axes, index, strict=True))
            parts.append((f"{name}-of-chunk", *index))
            self._layer[parts[-1]] = (_extent_of, task, *self._reads(stretched))
        level = 0
        while len(parts) > _FAN_IN:
            level += 1
            groups = [parts[n : n + _FAN_IN] for n in range(0, len(parts), _FAN_IN)]
            parts = [(f"{name}-{level}", n) for n in range(len(groups))]
            self._layer |= {key: (extent_over, group) for key, group in zip(parts, groups, strict=True)}
        self._layer[name] = (extent_over, parts)
        return name

    def _collected(self) -> da.Array:
        import dask.array as da
        from dask.highlevelgraph import HighLevelGraph

        x, dtype = self._x, self._task.dtype
        meta = np.empty((0,) * x.ndim, dtype)
        sources: list[Any] = [x] if self._mask is None else [x, self._mask]
        if _by_expressions():
            return _expression(self._layer, sources, self._name, x, meta)
        graph = HighLevelGraph.from_collections(self._name, self._layer, dependencies=sources)
        return da.Array(graph, self._name, x.chunks, dtype=dtype, meta=meta)

    def _warn(self) -> None:
        """Warn where chunks are much shorter than halos: most of the work is done several times."""
        import dask.array as da

        x, lines = self._x, self._task.plan.lines
        share = read_share(self._axes, x.shape)
        if share <= _MOST_READ or x.size == 0:
            return
        along = zip(x.shape, lines, x.chunks, strict=True)
        chunks = tuple(min(n, max(4 * line.taps, *lengths)) for n, line, lengths in along)
        taps = tuple(line.taps for line in lines)
        warnings.warn(
            f"chunks of {x.chunksize} are short beside a kernel of {taps} taps: tasks read {share:.3g} times "
            "the samples of the array. Larger chunks take less: "
            f"x.rechunk({chunks}).",
            da.PerformanceWarning,
            stacklevel=7,
        )


def _filtered(task: BlockFilter, *reads: Any) -> Array:
    return task(*reads)


def _extent_of(task: BlockFilter, *reads: Any) -> tuple[float, float]:
    return task.extent(*reads)


def _by_expressions() -> bool:
    """Return whether Dask writes arrays as expressions (its setting ``array.query-planning``)."""
    import dask.array as da

    enabled = cast("Callable[[], bool] | None", getattr(da, "array_expr_enabled", None))
    return enabled is not None and enabled()


def _expression(
    layer: dict[Any, Any], sources: Iterable[da.Array], name: str, x: da.Array, meta: Array
) -> da.Array:
    """Return the array of a graph, where arrays are expressions."""
    from dask.array._array_expr._collection import from_graph

    graph = dict(layer)
    for source in sources:
        graph |= dict(source.__dask_graph__())
    keys = [(name, *index) for index in itertools.product(*map(range, x.numblocks))]
    return cast("da.Array", from_graph(graph, meta, x.chunks, keys, name))
