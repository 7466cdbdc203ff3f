"""What it costs to run a filter one way or another on this machine, in nanoseconds.

Each way is described by a few counts (passes, taps, weights, samples transformed), and a machine by one rate
for each count: the time is their scalar product. The rates are measured once by ``separable calibrate``
(`separable.calibrate`) and kept in the user's cache directory; where that has not been done, those of one
machine stand in for all that have the same instruction set. Only ratios matter for what is chosen.
"""

from __future__ import annotations

import functools
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from .._core import core_info

Counts = Mapping[str, float]

# Work that is worth waking one more thread for.
THREAD_GRAIN: Final = 20_000

# What is measured, for float32 and for float64: nanoseconds of one thread.
RATES: Final = (
    "call",  # one call, whatever the method
    "setup",  # one call of a sum of terms, for each of its passes
    "sample",  # passes, for each sample: reading and writing it
    "distant",  # the same, and for dense sweeps, where the samples come from beyond the caches
    "volume",  # one pass, beside that, in arrays of more than two axes
    "edge",  # one pass, for each sample
    "along",  # one multiplication along the rows; of (anti)symmetric taps, one for each pair
    "down",  # across the rows
    "deep",  # along the axes before
    "few",  # one pass along the rows of so few taps that the core takes shifted vectors one by one
    "pair",  # adding the two samples that such taps share
    "sweep",  # one call of a dense sweep, for each weight
    "dense",  # a dense sweep, for each sample
    "weight",  # and for each weight
    "folded",  # the same, where the kernel's columns are (anti)symmetric
    "running",  # running sums and oscillators, times the nanoseconds that their form states
    "hauled",  # one pass of these, for each sample, as far as its sums do not fit the caches
    "pages",  # for each sample of an array that lies between two filters, whose pages are new in every call
    "block",  # a block of transforms, there and back
    "axis",  # for each of its samples and axes
    "level",  # for each of its samples, times the logarithm to base 2 of how many they are
    "stack",  # for each of its samples, where more than two axes are transformed
    "spilled",  # for each of its samples, where they do not fit the caches
)

# Passes along the rows of fewer taps than these take longer.
_FEW_TAPS: Final = 5

# Of the second and every further thread, how much counts.
_SHARE: Final = 0.9
_SHARE_OF_MEMORY: Final = 0.3
_SHARE_OF_ONE_BLOCK: Final = 0.5
_SMALL_BLOCK: Final = 2e7  # nanoseconds: below, threads gain nothing on transforms of one block

SCHEMA: Final = 1

_PAGES: Final = 0.8  # of the rate of running sums: nanoseconds, where that was about 1

# Where nothing has been measured: rates of another machine for each instruction set, and the one for others.
_BUNDLED: Final = Path(__file__).with_name("rates.json")
_NEAREST: Final = "v3"


class Rates(NamedTuple):
    """The rates of one dtype on one machine, and where they come from."""

    values: Mapping[str, float]
    l2: float  # bytes
    l3: float
    source: str

    def cost(self, counts: Mapping[str, Any]) -> Any:
        """Return the scalar product of counts, numbers or arrays of them, and rates: nanoseconds."""
        return sum(count * self.values[name] for name, count in counts.items())


@dataclass(frozen=True, eq=False, slots=True)
class MachineRates:
    """The rates of one machine: what plans are chosen by, and keep."""

    float32: Rates
    float64: Rates

    def rates(self, dtype: np.dtype[Any]) -> Rates:
        """Return those for arrays of the working dtype `dtype`."""
        return self.float32 if dtype.char in "fF" else self.float64


class PredictedCost(NamedTuple):
    """What one call takes, rate by rate, and what that comes to."""

    counts: Counts
    rates: Rates
    blocks: int | None = None  # the most parts it falls into; None: as many as one likes

    @property
    def nanoseconds(self) -> float:
        """On one thread."""
        return float(self.rates.cost(self.counts))

    @property
    def busy_threads(self) -> int:
        """How many threads have enough to do."""
        return max(1, int(self.nanoseconds - self._of("call")) // THREAD_GRAIN)

    def seconds(self, threads: int) -> float:
        """Return the predicted time on so many threads."""
        count = max(1, min(threads, self.busy_threads))
        parallel = 1 + _SHARE * (count - 1)
        if self.blocks == 1:
            parallel = 1 + _SHARE_OF_ONE_BLOCK * (count - 1) * (self.nanoseconds > _SMALL_BLOCK)
        elif self.blocks is not None:
            parallel = min(parallel, self.blocks / math.ceil(self.blocks / count))
        alone, distant = self._of("call"), self._of("distant") + self._of("hauled")
        shared = self.nanoseconds - alone - distant
        return 1e-9 * (alone + distant / (1 + _SHARE_OF_MEMORY * (count - 1)) + shared / parallel)

    def _of(self, name: str) -> float:
        return float(self.counts.get(name, 0.0) * self.rates.values[name])


class Pass(NamedTuple):
    """One pass of a sum of terms: its axis, counted from the last (0), and its taps."""

    place: int
    taps: npt.NDArray[Any]


def of_passes(passes: Iterable[Pass]) -> dict[str, float]:
    """Count what running such passes takes for each sample."""
    counts = {
        "sample": 1.0,
        "edge": 0.0,
        "along": 0.0,
        "down": 0.0,
        "deep": 0.0,
        "pair": 0.0,
        "few": 0.0,
    }
    for place, taps in passes:
        n = taps.size
        if n == 1:
            continue
        folds = np.array_equal(taps, taps[::-1]) or np.array_equal(taps, -taps[::-1])
        multiplications = (n + 1) // 2 if folds else n
        counts["edge"] += 1
        counts[("along", "down", "deep")[min(place, 2)]] += multiplications
        counts["pair"] += n - multiplications
        counts["few"] += place == 0 and n < _FEW_TAPS
    return counts


def of_weights(weights: int, folded: bool) -> dict[str, float]:
    """Count what a dense sweep takes for each sample."""
    return {"dense": 1.0, "folded" if folded else "weight": float(weights)}


def of_running(nanoseconds: float, passes: int, samples: int, rates: Rates) -> dict[str, float]:
    """Count what running sums and oscillators take for each of so many samples.

    They are kept in double precision: from none beyond half of the L2 cache to all beyond the L3, by the
    logarithm of the size.
    """
    beyond = math.log(max(16 * samples / rates.l2, 1.0)) / math.log(2 * rates.l3 / rates.l2)
    return {"running": nanoseconds, "hauled": passes * min(beyond, 1.0)}


def of_block(
    samples: npt.NDArray[Any], transformed: npt.NDArray[Any], axes: int, item: int, rates: Rates
) -> dict[str, npt.NDArray[Any]]:
    """Count what the transforms of blocks take, there and back.

    Parameters
    ----------
    samples, transformed : ndarray
        Of each block as it is staged, and of one of its transforms.
    axes : int
        That are transformed.
    item : int
        Bytes of a sample.
    rates : Rates
        For the sizes of the caches.
    """
    # Staged samples, spectrum, its copy and the result; from none of them in the L2 cache to all beyond the
    # L3, by the logarithm of the size.
    size = 4.0 * item * samples
    spilled = np.clip(np.log(size / rates.l2) / math.log(4 * rates.l3 / rates.l2), 0, 1)
    return {
        "block": np.ones(samples.shape),
        "axis": axes * samples,
        "stack": samples * float(axes > 2),
        "level": samples * np.log2(np.maximum(transformed, 2)),
        "spilled": samples * spilled**2,
    }


def of_sweep(per_sample: Counts, samples: int, volume: bool, distant: bool, rates: Rates) -> PredictedCost:
    """Return the cost of passes or a dense sweep over arrays that take `per_sample` of each sample.

    Parameters
    ----------
    per_sample : mapping
        From `of_passes` or `of_weights`.
    samples : int
        Of the array.
    volume, distant : bool
        Whether it has more than two axes; whether it does not fit the caches.
    rates : Rates
        Of the machine.
    """
    # A dense sweep reads a volume as three passes do.
    volumes = per_sample.get("edge", 3.0) * volume
    each = {**per_sample, "volume": volumes, "distant": float(distant)}
    weights = each.get("weight", 0.0) + each.get("folded", 0.0)
    return of_call(each, samples, rates, {"setup": each.get("edge", 0.0), "sweep": weights})


def of_call(
    per_sample: Counts, samples: int, rates: Rates, once: Counts = MappingProxyType({})
) -> PredictedCost:
    """Return the cost of one call that takes `per_sample` of each of its samples, and more `once`."""
    counts = {name: samples * count for name, count in per_sample.items()}
    return PredictedCost({"call": 1.0, **once, **counts}, rates)


def machine() -> MachineRates:
    """Return the rates of this machine."""
    return _rates(core_info()["target"], os.environ.get("SEPARABLE_CACHE_DIR", ""))


@functools.lru_cache(maxsize=16)
def _rates(target: str, folder: str) -> MachineRates:
    file = cache_file()  # in `folder`, where that is not empty
    caches = core_info()["caches"]
    l2, l3 = float(caches["l2"]), float(caches["l3"] or 4 * caches["l2"])
    found = load(file).get(target)
    source = f"measured on this machine, kept in {file}"
    if found is None:
        bundled = load(_BUNDLED, anywhere=True)
        near = target if target in bundled else _NEAREST
        found = bundled[near]
        source = f"of another machine ({near}): `separable calibrate` measures this one"
    return MachineRates(Rates(found["float32"], l2, l3, source), Rates(found["float64"], l2, l3, source))


def cache_file() -> Path:
    """Return the file of this machine's rates.

    In SEPARABLE_CACHE_DIR, if that is set, else where the system keeps a user's caches.
    """
    own = os.environ.get("SEPARABLE_CACHE_DIR", "")
    if own:
        return Path(own) / "costs.json"
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA", "") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache")
    return folder / "separable" / "costs.json"


def load(file: Path, anywhere: bool = False) -> dict[str, dict[str, dict[str, float]]]:
    """Return the rates in a file by instruction set and dtype.

    Empty where it holds none that are whole, or, unless `anywhere`, those of another machine.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        return {}
    if not anywhere and data.get("machine") != fingerprint():
        return {}
    rates = data.get("rates")
    if isinstance(rates, dict):
        rates = {target: _completed(entry) for target, entry in rates.items()}
        if all(map(_whole, rates.values())):
            return rates
    return {}


def _completed(entry: Any) -> Any:
    """Return an entry with what was not measured before there was a rate for it."""
    if not isinstance(entry, dict):
        return entry
    return {dtype: completed(rates) if isinstance(rates, dict) else rates for dtype, rates in entry.items()}


def completed(rates: Mapping[str, float]) -> Mapping[str, float]:
    """Return rates with one for new pages, which were taken for so much of a running sum before."""
    running = rates.get("running")
    if "pages" in rates or not isinstance(running, (int, float)):
        return rates
    return {**rates, "pages": _PAGES * running}


def _whole(entry: Any) -> bool:
    """Return whether `entry` holds all rates of both dtypes, as numbers that can be."""
    return isinstance(entry, dict) and all(
        isinstance(entry.get(dtype), dict)
        and set(entry[dtype]) == set(RATES)
        and all(isinstance(value, (int, float)) and 0 <= value < math.inf for value in entry[dtype].values())
        for dtype in ("float32", "float64")
    )


def save(file: Path, rates: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Write measured rates; the file is never half-written."""
    from .._base.atomic import replacing  # what it needs takes longer to import than all of this package

    file.parent.mkdir(parents=True, exist_ok=True)
    data = {"schema": SCHEMA, "machine": fingerprint(), "rates": rates}
    with replacing(file) as draft:
        draft.write_text(json.dumps(data, indent=1), encoding="utf-8")
    _rates.cache_clear()


def fingerprint() -> dict[str, Any]:
    """Return what makes measured rates worthless if it changes: the processor and the transforms."""
    import importlib.util

    info = core_info()
    return {
        "caches": dict(info["caches"]),
        "targets": list(info["targets"]),
        "compiler": info["compiler"],
        "scipy": importlib.util.find_spec("scipy") is not None,
    }


def fit(counts: Sequence[Counts], nanoseconds: Sequence[float], names: Sequence[str]) -> dict[str, float]:
    """Return rates >= 0 for `names` that predict `nanoseconds` with the least squares of relative errors.

    By cyclic coordinate descent on the normal equations, which for so few rates takes milliseconds.
    """
    table = np.array([[row.get(name, 0.0) for name in names] for row in counts])
    table /= np.asarray(nanoseconds, float)[:, None]
    scale = np.sqrt(np.square(table).sum(axis=0))
    scale[scale == 0] = 1.0
    table /= scale
    gram, target = table.T @ table, table.sum(axis=0)
    found = np.zeros(len(names))
    for _ in range(5000):
        for n in np.flatnonzero(np.diag(gram)):
            found[n] = max(0.0, found[n] + (target[n] - gram[n] @ found) / gram[n, n])
    return dict(zip(names, map(float, found / scale), strict=True))
