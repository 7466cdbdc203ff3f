"""Results of studies: one file a study, with the newest run of each kind of processor."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import libraries, machine
from benchmarks.store import machine_key, replace_text
from studies.study import Numbers

SCHEMA: Final = 1
VERSIONS: Final = ("Python", "separable", "NumPy", "torch", "ONNX Runtime")


@dataclass(frozen=True)
class Run:
    """One run of a study: when, where, for how long, and what it measured.

    `load` is the load average when it began: other work spoils times. `seconds` are those of the wall clock,
    `processor_seconds` those of all threads.
    """

    date: str
    cpu: str
    cores: int
    versions: dict[str, str]
    seconds: float
    small: bool
    numbers: Numbers
    load: str = "not recorded"
    processor_seconds: float | None = None

    @property
    def machine(self) -> str:
        """The short name of the processor."""
        return machine_key(self.cpu)


@dataclass(frozen=True)
class Watch:
    """Both clocks, and the load, when a run began."""

    wall: float
    processor: float
    load: str

    @classmethod
    def begun(cls) -> Watch:
        """Return what they say now."""
        return cls(time.monotonic(), time.process_time(), machine.load())


def run_of(numbers: Numbers, watch: Watch, small: bool) -> Run:
    """Return a run on this machine, now."""
    versions = libraries.versions()
    return Run(
        time.strftime("%Y-%m-%d %H:%M %z"),
        machine.cpu_model(),
        machine.usable_cores(),
        {name: versions[name] for name in VERSIONS},
        round(time.monotonic() - watch.wall, 1),
        small,
        as_stored(numbers),
        watch.load,
        round(time.process_time() - watch.processor, 1),
    )


def as_stored(value: Any) -> Any:
    """Return numbers as the file will give them back: floats of six digits, which is more than they mean."""
    if isinstance(value, dict):
        return {str(name): as_stored(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_stored(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def load(file: Path) -> dict[str, Run]:
    """Return the runs in a file by machine, the newest last; none where there is no file."""
    if not file.exists():
        return {}
    data = json.loads(file.read_text(encoding="utf-8"))
    if data.get("schema") != SCHEMA:
        raise ValueError(
            f"{file}: schema {data.get('schema')!r}, expected {SCHEMA}; delete it, and run it anew"
        )
    runs = [Run(**run) for run in data["runs"]]
    return {run.machine: run for run in sorted(runs, key=lambda run: run.date)}


def save(file: Path, runs: dict[str, Run]) -> None:
    """Write the runs of a study."""
    texts = [json.dumps(vars(run), ensure_ascii=False, allow_nan=False, indent=1) for run in runs.values()]
    replace_text(file, f'{{"schema": {SCHEMA}, "runs": [\n' + ",\n".join(texts) + "\n]}\n")
