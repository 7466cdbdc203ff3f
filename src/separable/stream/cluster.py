"""A run on a cluster of Dask: workers filter the units, and this process keeps the journal."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from .._base.extras import extra
from .._base.words.messages import kind
from .._base.words.quantities import in_bytes
from .journal import FinishedUnit, Journal, JournalError, header_of
from .parts import Region
from .pipeline import OpenFilter, Progress, extent_over, finished, program, run_units, tell
from .places.place import SharedTarget
from .slabs import Cut

Extent: TypeAlias = tuple[float, float]
Opening: TypeAlias = Callable[[Any, "int | None"], AbstractContextManager[OpenFilter]]

# Units that are under way, for each worker: the next one is there when one is done.
_AHEAD: Final = 2
_PATIENCE: Final = 60  # seconds for which units that are being written are waited for after an error

# One unit at a time in a process, whatever its threads: `memory` is the process's.
_ALONE = threading.Lock()
_CHECKED = set[str]()  # headers of journals that this worker has seen


class Order(NamedTuple):
    """What workers are told of a run: how they open its places, and what its journal says."""

    opening: Opening
    target: str
    cut: Cut
    header: dict[str, Any]


class Cluster:
    """The runner of units on the workers of a cluster.

    Parameters
    ----------
    given : str or distributed.Client
    opening : callable
        Opens the places of the run in any process; it is pickled.
    """

    def __init__(self, given: Any, opening: Opening) -> None:
        self._given, self._opening = given, opening

    def check(self, job: OpenFilter) -> None:
        """Refuse places that several processes do not read and write at a time.

        Raises
        ------
        ValueError
        """
        if any(source.forward for source in job.places.sources):
            raise ValueError(
                f"{job.places.source.name} is read from front to back, by one process; with `distributed` "
                "pass a .zarr, .npy, .h5, .nii or .tif."
            )
        if job.target.path is None or not isinstance(job.target, SharedTarget):
            raise ValueError(
                f"{job.target.name} is written from front to back, by one process; with `distributed` write "
                "a .zarr, .npy, .h5, .nii or .tif."
            )

    def __call__(
        self, job: OpenFilter, journal: Journal, units: list[Region], progress: Progress | None, done: int
    ) -> None:
        """Have units filtered, and record each."""
        target = os.path.abspath(str(job.target.path))
        order = Order(self._opening, target, job.cut, journal.header)
        total = done + len(units)
        tell(progress, done, total)
        with _connected(self._given) as client:
            extent = None
            if job.storage.clips and units:
                extents = _results(client, partial(_extent_of, order), job.traits.units(job.cut), job.cut)
                parts = list(extents)
                extent = min(low for low, _ in parts), max(high for _, high in parts)
            with closing(_results(client, partial(_filtered, order, extent), units, job.cut)) as results:
                for number, unit in enumerate(results, start=1):
                    journal.append(unit)
                    tell(progress, done + number, total)


@contextmanager
def _connected(given: Any) -> Iterator[Any]:
    """Yield a client with workers.

    Raises
    ------
    TypeError
        It is neither an address nor a client.
    ConnectionError
        No scheduler answers.
    ValueError
        There are no workers; the client does not wait for results.
    """
    with extra("dask"):
        import distributed
    if isinstance(given, distributed.Client):
        if given.asynchronous:
            raise ValueError("`distributed` is an asynchronous client; pass one that waits, or its address.")
        _check_workers(given)
        yield given
        return
    if not isinstance(given, str):
        raise TypeError(
            f"`distributed` is a {kind(given)}; expected the address of a scheduler of Dask, such as "
            "'tcp://10.0.0.1:8786', or a distributed.Client."
        )
    try:
        client = distributed.Client(given, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConnectionError(f"no scheduler of Dask answers at '{given}': {error}") from error
    with client:
        _check_workers(client)
        yield client


def _check_workers(client: Any) -> None:
    if not client.nthreads():
        raise ValueError(
            f"the cluster at {client.scheduler.address} has no workers; start some, and run again."
        )


def _results(
    client: Any, work: Callable[[Any], Any], units: list[Any], cut: Cut
) -> Generator[Any, None, None]:
    """Yield what `work` returns on a worker for each unit, in the order in which they end.

    Few are under way at a time. Where one fails, those that are being written are waited for: nobody writes
    the target any more when the journal is closed.
    """
    import distributed

    left, running = iter(units), set[Any]()
    coming = distributed.as_completed(loop=client.loop)

    def submit(count: int) -> None:
        for unit in itertools.islice(left, count):
            future = client.submit(work, unit, pure=False)
            running.add(future)
            coming.add(future)

    try:
        submit(_AHEAD * len(client.nthreads()))
        for future in coming:
            running.discard(future)
            yield _result(future, cut)
            submit(1)
    finally:
        if running:
            with _ignoring_errors():
                distributed.wait(list(running), timeout=_PATIENCE)
            client.cancel(list(running))


@contextmanager
def _ignoring_errors() -> Iterator[None]:
    """Go on where the cluster has gone, or takes too long."""
    try:
        yield
    except Exception:
        return


def _result(future: Any, cut: Cut) -> Any:
    """Return what a unit gave.

    Raises
    ------
    RuntimeError
        Workers died of it.
    ConnectionError
        The scheduler has gone.
    """
    from asyncio import CancelledError as Cancelled
    from concurrent.futures import CancelledError

    from distributed.scheduler import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise RuntimeError(
            "workers died again and again while they filtered one slab, which takes about "
            f"{in_bytes(cut.memory)} in each; what is finished is kept. Give workers more memory, or pass "
            "less `memory`, and run again."
        ) from error
    except (Cancelled, CancelledError) as error:
        raise ConnectionError("the cluster has gone; what is finished is kept: run again.") from error


def _filtered(order: Order, extent: Extent | None, unit: Region) -> FinishedUnit:
    """Filter and write a unit, on a worker; return its record."""
    records: list[FinishedUnit] = []
    with _opened(order) as job:
        run_units(job, [unit], lambda part: records.append(finished(job, part)), None, extent=extent)
    return records[0]


def _extent_of(order: Order, unit: Region) -> Extent:
    """Return the least and the largest known sample of a unit, on a worker."""
    with _opened(order) as job:
        return extent_over(job, [unit])


@contextmanager
def _opened(order: Order) -> Iterator[OpenFilter]:
    """Yield the filter with its places open, as the only one in this process.

    Raises
    ------
    JournalError
        This worker's program or machine would give other bits; it sees another source.
    FileNotFoundError
        It does not see source or target.
    """
    import distributed

    worker = distributed.get_worker()
    with _ALONE:
        try:
            with order.opening(order.target, worker.state.nthreads) as job:
                _check(order, job, worker.address)
                assert isinstance(job.target, SharedTarget)
                job.target.join()
                yield job._replace(cut=order.cut)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"on the worker {worker.address}: {error} All workers must see source and target."
            ) from error


def _check(order: Order, job: OpenFilter, address: str) -> None:
    """Compare what this worker has with what the journal says, once."""
    told = json.dumps([order.target, order.header], sort_keys=True)
    if told in _CHECKED:
        return
    own = {**program(), "source": job.places.source.identity()}
    for name, value in own.items():
        if value != order.header[name]:
            raise JournalError(
                f"the worker {address} has another {name} ({value:.200}; the journal says "
                f"{order.header[name]:.200}): results would have other bits."
            )
    if header_of(order.target) != order.header:
        raise FileNotFoundError(f"the journal of `{order.target}` is not there, or is another.")
    _CHECKED.add(told)
