"""Calls timed in turn in one process, so that none has the better moments."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from ...conv.audits.machine import copy_speed, fma_peak
from ..recorded.collection import no_collection

__all__ = ["REST", "Samples", "interleaved"]

K = TypeVar("K", bound=Hashable)

# Threads of other runtimes go on polling for some time after a call, and slow down whoever runs next.
REST: Final = 0.06  # seconds
_WARM: Final = 3e-3  # seconds of calls after a rest, which lets caches cool and the clock fall
_ROUND: Final = 2e-3  # seconds: shorter calls are timed several times in a round, each by itself
_MOST: Final = 10  # calls of a round
_TRIALS: Final = 3  # calls before the rounds, which tell how many of them a round has


@dataclass(frozen=True)
class Samples(Generic[K]):
    """Times of calls, and the speeds of the machine in the same minutes.

    Attributes
    ----------
    seconds : mapping of hashable to list of float
        Of each call, in the order of the samples.
    peak : float
        The most FLOPs per second of fused multiply-adds of one thread, between the rounds.
    copy : float
        The most bytes per second that one thread read and wrote, before and after the rounds.
    """

    seconds: Mapping[K, list[float]]
    peak: float
    copy: float


def interleaved(
    calls: Mapping[K, Callable[[], object]],
    rounds: int,
    *,
    rest: float = REST,
    alike: Callable[[K], Hashable] = lambda key: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Samples[K]:
    """Time calls in turn.

    Parameters
    ----------
    calls : mapping of hashable to callable
        Each has run before.
    rounds : int
    rest : float, optional
        Seconds before each sample.
    alike : callable, optional
        Given a key, says whose calls are compared with it: these have as many samples, as quantiles of few
        and of many are not alike.
    progress : callable, optional
        Called with (rounds done, rounds in all).

    Returns
    -------
    Samples
    """
    slowest: dict[Hashable, float] = {}
    for key, call in calls.items():
        least = min(_timed(call) for _ in range(_TRIALS))
        slowest[alike(key)] = max(slowest.get(alike(key), 0.0), least)
    repeats = {key: min(_MOST, math.ceil(_ROUND / max(slowest[alike(key)], 1e-9))) for key in calls}
    seconds: dict[K, list[float]] = {key: [] for key in calls}
    peak, copy = 0.0, copy_speed()
    gc.collect()
    with no_collection():
        for number in range(rounds):
            progress(number, rounds)
            peak = max(peak, fma_peak())
            for key, call in calls.items():
                time.sleep(rest)
                _warm(call)
                seconds[key] += [_timed(call) for _ in range(repeats[key])]
    return Samples(seconds, peak, max(copy, copy_speed()))


def _warm(call: Callable[[], object]) -> None:
    """Wake up a runtime's threads, and the processor."""
    start = time.perf_counter()
    while True:
        call()
        if time.perf_counter() - start > _WARM:
            return


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
