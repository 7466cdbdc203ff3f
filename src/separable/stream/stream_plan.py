"""Plans of filters of arrays larger than memory: what is read, held and written, before it is."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np

from .._base.words.messages import kind
from .._base.words.quantities import by, in_bytes, plural
from ..arrays.arguments import thread_count
from ..arrays.masks import Nan
from ..arrays.output import Overflow, Rounding
from ..filters.plan import Plan
from . import slabs
from .cluster import Cluster
from .ome.geometry import Pyramid
from .ome.target import OmeTarget
from .pipeline import OpenFilter, program, run_job
from .places.place import Order, StreamSource, StreamTarget, as_lying
from .places.table import is_path, open_places
from .slabs import Cut, Places, Traits
from .system.memory import resident

Resume: TypeAlias = Literal["auto", "never"]


class Storage(NamedTuple):
    """How results are stored, and which samples are known."""

    dtype: np.dtype[Any]
    mask: Any
    nan: Nan
    rounding: Rounding
    overflow: Overflow
    clips: bool  # results are clipped to what all samples allow: the source is read twice
    copied: bool = False  # there is no kernel
    pyramid: Pyramid | None = None  # the target is an OME-Zarr picture of these levels


@dataclass(frozen=True, eq=False, repr=False)
class StreamPlan:
    """A filter of an array that is read and written slab by slab; print it to see what it takes, `run` it.

    Made by `sp.stream.plan`. Results have the bits that `sp.correlate` gives with this `method` in memory.

    Attributes
    ----------
    shape : tuple of int
        Of source and result.
    dtype : dtype
        Of the result.
    method : str
        How the kernel runs, chosen once for the whole array.
    passed_over : str or None
        The method that would be chosen in memory, where parts of an array by it would have other last bits.
    unit : int
        Indices of `axis` that are filtered and written together.
    units : int
        How many slabs, or parts of columns, that makes.
    width : int or None
        Indices of `column_axis` that belong to a column; None where whole slabs fit into memory.
    columns : int
        How many columns are filtered, one after the other; 1 where it is slabs.
    levels : tuple of tuple of int
        Shapes of an OME-Zarr picture, the largest first; empty for other targets.
    notes : tuple of str
        What the target does not hold of what the source says beside its samples.
    held : int
        Indices of the source in memory at most: a slab, its halo, what is read ahead, whole chunks.
    overlapped : bool
        Reading, filtering and writing overlap; not where memory is too small for it.
    bytes_read, bytes_written : int
        As arrays in memory, before they are compressed.
    strip_bytes : int
        On the disk while it runs: decoded samples that the next column needs too. 0 where nothing is decoded,
        and columns read their halos again.
    memory, least_memory, memory_limit : int
        Bytes that the process is predicted to take with the interpreter, that it could take at the least, and
        that it was allowed.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> stack = np.ones((30, 64, 64), np.float32)
    >>> plan = sp.stream.plan(stack, np.ones((3, 3)) / 9, axes=(1, 2), memory="4GiB")
    >>> result = np.zeros_like(stack)
    >>> plan.run(result)
    >>> plan.shape, bool((result == sp.correlate(stack, np.ones((3, 3)) / 9, axes=(1, 2))).all())
    ((30, 64, 64), True)
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    method: str
    passed_over: str | None
    unit: int
    units: int
    held: int
    overlapped: bool
    width: int | None
    columns: int
    bytes_read: int
    bytes_written: int
    strip_bytes: int
    memory: int
    least_memory: int
    memory_limit: int
    _source: Any
    _target: Any
    _plan: Plan
    _storage: Storage
    _names: tuple[str, str]
    _threads: int | None
    _order: Order
    _source_rows: int
    notes: tuple[str, ...]
    levels: tuple[tuple[int, ...], ...]

    @property
    def filter_plan(self) -> Plan:
        """How the whole array would be filtered in memory: the plan whose parts run; print it."""
        return self._plan

    @property
    def axis(self) -> int:
        """The axis that slabs are cut along: the first, or the last where it is the slowest in the files."""
        return 0 if self._order == "C" else len(self.shape) - 1

    @property
    def column_axis(self) -> int:
        """The axis that columns are cut along: the next one after `axis` on the disk."""
        return 1 if self._order == "C" else len(self.shape) - 2

    @property
    def halo(self) -> tuple[int, int]:
        """Indices of the source that a slab takes with it, before its own and behind."""
        return self._halo(self.axis)

    def _halo(self, axis: int) -> tuple[int, int]:
        line = self._plan.lines[axis]
        return line.shift, line.taps - 1 - line.shift

    def run(
        self,
        target: Any = None,
        *,
        resume: Resume = "auto",
        progress: Callable[[int, int], object] | None = None,
        distributed: Any = None,
    ) -> None:
        """Filter the source into the target.

        A target with a path appears when it is whole. Until then its draft lies beside it, and a journal of
        what is finished: a run that was killed goes on from there, with two slabs at most filtered again.

        Parameters
        ----------
        target : path or array, optional
            Where the result goes; that of the plan by default.
        resume : {"auto", "never"}, optional
            Whether to go on where an earlier run of the same filter stopped, or begin anew.
        progress : callable, optional
            Called with (slabs done, slabs in all), before the first and after each.
        distributed : str or distributed.Client, optional
            The address of a scheduler of Dask, or a client of it: its workers filter the slabs, each one at a
            time with the worker's threads, in `memory`. They must see source and target under the paths that
            are given, which cannot be arrays. This process keeps the journal: slabs of workers that died are
            filtered by others.

        Raises
        ------
        ValueError
            With `distributed`, a place that several processes do not share; there is no worker.
        RuntimeError
            Workers died again and again in one slab.
        FileExistsError
            The target is there.
        JournalError
            Another process writes it; it was begun from another source, by another kernel or program.
        OSError
            The disk is full, or fails: what is finished is kept.
        """
        if resume not in ("auto", "never"):
            raise ValueError(f"`resume={resume!r}` is unknown; expected 'auto' or 'never'.")
        given = self._target if target is None else target
        if given is None:
            raise ValueError("there is no target; pass one to `run`, or to `plan`.")
        plan = (
            self
            if given is self._target
            else planned(
                self._source,
                given,
                self._plan,
                self._storage,
                self.memory_limit,
                self._threads,
                self.passed_over,
            )
        )
        runner = None if distributed is None else Cluster(distributed, plan._shared(given)._opened)
        with plan._opened(given) as job:
            if runner is not None:
                runner.check(job)
            facts = plan._facts()
            if isinstance(job.target, OmeTarget):
                facts["levels"] = job.target.made
            run_job(job, facts, resume == "auto", progress, runner)

    @contextlib.contextmanager
    def _opened(self, target: Any, threads: int | None = None) -> Iterator[OpenFilter]:
        """Yield the filter with its places open; `threads` are those by default."""
        count = threads if self._threads is None else self._threads
        with opened_places(self._source, target, self._storage, count) as places:
            cut = Cut(self.unit, self.width, self.overlapped, self.held, self.memory, self.strip_bytes)
            traits = Traits.of(self._plan, places, self.dtype)
            place = cast("StreamTarget", places.target)
            yield OpenFilter(self._plan, places, place, self._storage, traits, cut, self.memory_limit)

    def _shared(self, target: Any) -> StreamPlan:
        """Return the plan with paths that name the same files in other processes.

        Raises
        ------
        ValueError
            A place is no path.
        """
        places = {"source": self._source, "target": target, "mask": self._storage.mask}
        for name, place in places.items():
            if place is not None and not is_path(place):
                raise ValueError(
                    f"`{name}` is a {kind(place)}, which other processes do not have; with `distributed` "
                    "pass paths that all workers see."
                )
        paths = {name: None if path is None else os.path.abspath(path) for name, path in places.items()}
        storage = self._storage._replace(mask=paths["mask"])
        return replace(self, _source=paths["source"], _target=paths["target"], _storage=storage)

    def _facts(self) -> dict[str, Any]:
        """Return what a target is made of, beside the source: what a journal compares."""
        storage = self._storage
        return {
            "shape": repr(self.shape),
            "dtype": self.dtype.str,
            **self._plan.recipe,
            "storage": f"{storage.nan} {storage.rounding} {storage.overflow}",
            **program(),
        }

    def __repr__(self) -> str:
        cut = "slabs" if self.width is None else f"parts of {self.columns} columns"
        return f"<StreamPlan {self.method}, shape {self.shape}, {self.units} {cut}, {in_bytes(self.memory)}>"

    def __str__(self) -> str:
        plan = self._plan
        source, target = self._names
        ways = f"{self.method}" + (f", {plan.terms} terms" if plan.terms > 1 else "")
        if self.passed_over:
            ways += f" ({self.passed_over})"
        twice = " (twice: results are clipped to what all samples allow)" if self._storage.clips else ""
        modes, least = "/".join(dict.fromkeys(plan.modes)), in_bytes(self.least_memory)
        kernel = f"{by(plan.taps, 'x')} along axes {plan.axes}, {modes}: {ways}"
        rows = [
            ("kernel", "none: samples stay as they are" if self._storage.copied else kernel),
            ("source", f"{source}, {self.shape}: reads {in_bytes(self.bytes_read)}{twice}"),
            ("target", f"{target}, {self.dtype}: writes {in_bytes(self.bytes_written)} before compression"),
            *self._cuts(),
            ("memory", f"{in_bytes(self.memory)} of {in_bytes(self.memory_limit)}; {least} at the least"),
        ]
        if len(self.levels) > 1:
            rows.insert(3, ("levels", ", ".join(by(shape, "x") for shape in self.levels)))
        rows += [("note", note) for note in self.notes]
        return "\n".join(f"{name:7} {text}" for name, text in rows)

    def _cuts(self) -> list[tuple[str, str]]:
        """Return what is said of slabs, or of columns and their parts."""
        layers = -(-self.held // self._source_rows)
        chunks = f" ({plural(layers, 'layer')} of chunks)" if self._source_rows > 1 else ""
        how = "reading, filtering and writing overlap" if self.overlapped else "one after the other"
        length = f"{self.shape[self.axis]}" + (f" along axis {self.axis}" if self.axis else "")
        slab = f"{self.unit} of {length}{_beside(self.halo)}; {self.held} held{chunks}; {how}"
        if self.width is None:
            return [("slabs", f"{self.units} of {slab}")]
        halo = _beside(self._halo(self.column_axis))
        shared = "halo strips are read again"
        if self.strip_bytes:
            shared = f"halo strips are kept on the disk, {in_bytes(self.strip_bytes)}, not decoded again"
        length = f"{self.shape[self.column_axis]} along axis {self.column_axis}"
        return [
            ("columns", f"{self.columns} of {self.width} of {length}{halo}; {shared}"),
            ("parts", f"{self.units // self.columns} a column, of {slab}"),
        ]


def _beside(halo: tuple[int, int]) -> str:
    return ", with {} before and {} behind".format(*halo) if any(halo) else ""


@contextlib.contextmanager
def opened_places(source: Any, target: Any, storage: Storage, threads: int | None) -> Iterator[Places]:
    """Yield source, target and mask, open."""
    count = thread_count(threads)
    read, place, mask = open_places(source, target, storage.mask, storage.dtype, storage.pyramid)
    try:
        yield Places(read, place, mask, count)
    finally:
        for opened in (read, place, mask):
            if opened is not None:
                opened.close()


def planned(
    source: Any,
    target: Any,
    plan: Plan,
    storage: Storage,
    memory: int,
    threads: int | None,
    passed_over: str | None,
) -> StreamPlan:
    """Return the plan of a filter with the longest slabs that pay within `memory`.

    Raises
    ------
    ValueError
        The least memory that it takes is more.
    """
    with opened_places(source, target, storage, threads) as places:
        read, place = places.source, places.target
        traits = Traits.of(plan, places, storage.dtype)
        for samples in places.sources:
            _check_forward(samples, traits)
        smallest = slabs.least(plan, traits)
        cut = slabs.chosen(plan, traits, memory)
        if cut is None:
            raise ValueError(_too_small(traits, smallest, memory))
        units = traits.units(cut)
        levels = tuple(level.shape for level in place.levels) if isinstance(place, OmeTarget) else ()
        return StreamPlan(
            *(read.shape, storage.dtype, plan.method, passed_over),
            *(cut.unit, len(units), cut.held, cut.overlapped),
            *(cut.width, len({unit.columns for unit in units})),
            slabs.bytes_read(traits, units) * (2 if storage.clips else 1),
            sum(map(math.prod, levels or (read.shape,))) * storage.dtype.itemsize,
            cut.strips,
            *(cut.memory, smallest.memory, memory),
            source,
            target,
            plan,
            storage,
            (read.name + read.remark, "no target yet" if place is None else place.name + place.remark),
            threads,
            read.order,
            read.rows,
            () if place is None else place.notes,
            levels,
        )


def _check_forward(source: StreamSource, traits: Traits) -> None:
    """Refuse to read the ends of a source twice that is read in one go."""
    if source.forward and traits.line.mode == "wrap" and traits.line.taps > 1:
        axis = as_lying(tuple(range(len(source.shape))), source.order)[0]
        raise ValueError(
            f"`mode='wrap'` along axis {axis} reads the ends of {source.name} twice, which is decompressed "
            "from front to back; decompress it first, or name another mode."
        )


def _too_small(traits: Traits, smallest: Cut, memory: int) -> str:
    rows = f"chunks of {traits.source_rows} in the source and of {traits.target_rows} in the target"
    axis = 0 if traits.order == "C" else len(traits.shape) - 1
    shape = as_lying(traits.shape, traits.order)
    has = in_bytes(resident())
    cut = "slabs" if smallest.width is None else f"columns of {smallest.width}, in parts"
    return (
        f"`memory={in_bytes(memory)}` is too small: {cut} of {smallest.unit} of {shape}, {rows} along "
        f"axis {axis}, take {in_bytes(smallest.memory)} at the least, {has} of which this process has. "
        "Pass that much, or a target of thinner chunks."
    )
