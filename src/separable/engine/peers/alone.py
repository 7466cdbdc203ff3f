"""One runtime in a process of its own: how long a model takes to its first result, and how much memory."""

from __future__ import annotations

import importlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from .runtimes import RUNTIMES, Runtime, engine_runtime

__all__ = ["Alone", "AloneError", "alone", "answer", "peak_memory"]

_SECONDS: Final = 300.0  # after which a process is ended
_LONGEST: Final = 200  # characters of what a process says of its failure
_CODE: Final = (
    "import json, sys; asked = json.loads(sys.argv[1]); sys.path[:] = asked['path']; "
    "from separable.engine.peers.alone import answer; answer(asked)"
)


class AloneError(Exception):
    """A process ended without an answer; the message says how."""


@dataclass(frozen=True)
class Alone:
    """What a process says of itself.

    Attributes
    ----------
    load_ms : float
        From the file to the first result; what Python imports was imported before.
    memory_bytes : int or None
        The most that it held at once; None where the system does not tell.
    before_bytes : int or None
        What it held before the model was read: Python, NumPy, the runtime, the inputs.
    """

    load_ms: float
    memory_bytes: int | None
    before_bytes: int | None


def alone(
    key: str, model: Path, inputs: Mapping[str, Path], threads: int, fallback: str | None = None
) -> Alone:
    """Run a model once in a new process.

    Parameters
    ----------
    key : str
        Of the runtime.
    model : Path
    inputs : mapping of str to Path
        An .npy file for each.
    threads : int
    fallback : str, optional
        As `load` takes it.

    Returns
    -------
    Alone

    Raises
    ------
    AloneError
    """
    asked = {
        "path": sys.path,
        "key": key,
        "model": str(model),
        "inputs": {name: str(path) for name, path in inputs.items()},
        "threads": threads,
        "fallback": fallback,
    }
    # Isolated: a file in the present folder does not stand in for a package.
    command = [sys.executable, "-I", "-c", _CODE, json.dumps(asked)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise AloneError(f"a process of its own took more than {_SECONDS:.0f} s") from None
    except OSError as error:
        raise AloneError(f"no process can be started: {error.strerror}") from error
    if done.returncode < 0:
        raise AloneError(f"a process of its own was ended by signal {-done.returncode}")
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        nothing = f"a process of its own ended with {done.returncode}"
        raise AloneError(said[-1][:_LONGEST] if said else nothing)
    try:
        return Alone(**json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, TypeError, IndexError) as error:
        raise AloneError("a process of its own gave no answer") from error


def answer(asked: Mapping[str, Any]) -> None:
    """Do what `alone` asks for, in this process, and print it."""
    runtime = _runtime(asked["key"], asked["fallback"])
    feeds = {name: np.load(path, allow_pickle=False) for name, path in asked["inputs"].items()}
    importlib.import_module(runtime.module)
    before = _held("VmRSS")
    start = time.perf_counter()
    ready = runtime.load(asked["model"], feeds, asked["threads"])
    load_ms = 1e3 * (time.perf_counter() - start)
    print(json.dumps(asdict(Alone(load_ms, peak_memory(), before))))
    del ready


def _runtime(key: str, fallback: Any) -> Runtime:
    known: Sequence[Runtime] = (engine_runtime(fallback), *RUNTIMES)
    return next(runtime for runtime in known if runtime.key == key)


def peak_memory() -> int | None:
    """Return the most bytes of memory that this process held at once; None where the system does not tell."""
    most = _held("VmHWM")  # not what `getrusage` says on Linux: that is the parent's as well
    if most is not None or platform.system() == "Linux":
        return most
    try:
        import resource
    except ModuleNotFoundError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _held(entry: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    return 1024 * int(values[entry].split()[0]) if entry in values else None
