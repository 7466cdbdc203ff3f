"""The same work done in several ways, timed fairly."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

SECONDS_PER_WORK = 1.0
ROUNDS = (3, 50)  # at least, at most


def medians(runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median seconds of each, from interleaved runs: none has the better moments.

    Parameters
    ----------
    runs : mapping of str to callable
        Warm already.

    Returns
    -------
    dict of str to float
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    least, most = ROUNDS
    began = time.perf_counter()
    for done in range(most):
        if done >= least and time.perf_counter() - began > SECONDS_PER_WORK:
            break
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}
