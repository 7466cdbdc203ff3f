"""The folder of results: one file a benchmark, with the newest run of each machine, and one a machine.

A machine is a kind of processor: where the same one runs again, its newer figures replace the older.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.compact import decode, encode
from benchmarks.results import Record

SCHEMA = 2
MACHINES = "machines"
PROCESSOR = ("cpu", "caches")  # facts of the machine; all others are of a run on it


@dataclasses.dataclass(frozen=True)
class Machine:
    """A kind of processor, and the runs on it that results come from."""

    cpu: str
    caches: dict[str, str]
    runs: dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Store:
    """All records by name and machine, and the machines."""

    records: dict[str, dict[str, Record]]
    machines: dict[str, Machine]

    def merged(self, run: str, facts: dict[str, Any], record: Record) -> Store:
        """Return a store in which `record` replaces its namesake of the same machine.

        Runs that nothing comes from any more are dropped.
        """
        key = machine_key(facts["cpu"])
        of_run = {name: value for name, value in facts.items() if name not in PROCESSOR}
        before = self.machines[key].runs if key in self.machines else {}
        machine = Machine(facts["cpu"], facts["caches"], {**before, run: of_run})
        kept = decode(encode(record))  # as a file will give it back
        records = {**self.records, record.name: {**self.records.get(record.name, {}), key: kept}}
        return _used(Store(records, {**self.machines, key: machine}))

    def ordered(self, names: list[str]) -> Store:
        """Return the store with its records in the order of `names`; those not in it are dropped."""
        return _used(
            Store({name: self.records[name] for name in names if name in self.records}, self.machines)
        )

    def of(self, machine: str) -> list[Record]:
        """Return the records of one machine."""
        return [runs[machine] for runs in self.records.values() if machine in runs]


EMPTY = Store({}, {})


def machine_key(cpu: str) -> str:
    """Return a short name for files: ``amd-epyc-25-17`` for ``AMD EPYC (family 25, model 17)``."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"\((r|tm)\)", " ", cpu.lower()))
    return "-".join(word for word in words if word not in ("family", "model", "processor", "cpu"))


def load(folder: Path, names: list[str]) -> Store:
    """Read the results of the benchmarks `names`; what is not there yet has none."""
    paths = (folder / f"{name}.json" for name in names)
    records = {path.stem: _records(path) for path in paths if path.exists()}
    machines = {path.stem: _machine(path) for path in sorted((folder / MACHINES).glob("*.json"))}
    return Store(records, machines)


def save(folder: Path, store: Store) -> None:
    """Write each file anew and rename it into place; files of benchmarks that are no more are removed."""
    texts = {f"{name}.json": _records_text(name, runs) for name, runs in store.records.items()}
    texts |= {f"{MACHINES}/{key}.json": _machine_text(machine) for key, machine in store.machines.items()}
    for name, text in texts.items():
        replace_text(folder / name, text)
    for path in folder.rglob("*.json"):
        if path.relative_to(folder).as_posix() not in texts:
            path.unlink()


def replace_text(path: Path, text: str) -> None:
    """Write `text` to a new file beside `path`, then rename it, so that `path` is never half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _used(store: Store) -> Store:
    """Return the store without runs, and machines, that no record comes from."""
    used = {(key, record.run) for runs in store.records.values() for key, record in runs.items()}
    machines = {}
    for key, machine in store.machines.items():
        runs = {run: facts for run, facts in machine.runs.items() if (key, run) in used}
        if runs:
            machines[key] = dataclasses.replace(machine, runs=runs)
    return Store(store.records, machines)


def _records(path: Path) -> dict[str, Record]:
    return {run.pop("machine"): decode({"name": path.stem, **run}) for run in _read(path)["runs"]}


def _machine(path: Path) -> Machine:
    data = _read(path)
    return Machine(data["cpu"], data["caches"], data["runs"])


def _read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if data.get("schema") != SCHEMA:
        raise ValueError(
            f"{path}: schema {data.get('schema')!r}, expected {SCHEMA}; delete it and measure anew"
        )
    return data


def _records_text(name: str, runs: dict[str, Record]) -> str:
    texts = (_object({"machine": key, **_nameless(record)}) for key, record in sorted(runs.items()))
    return f'{{"schema": {SCHEMA}, "runs": [\n' + ",\n".join(texts) + "\n]}\n"


def _nameless(record: Record) -> dict[str, Any]:
    return {key: value for key, value in encode(record).items() if key != "name"}


def _machine_text(machine: Machine) -> str:
    runs = (f"{_line(run)}: {_line(facts)}" for run, facts in machine.runs.items())
    head = f'"schema": {SCHEMA}, "cpu": {_line(machine.cpu)}, "caches": {_line(machine.caches)}, "runs": '
    return f"{{{head}{{\n" + ",\n".join(runs) + "\n}}\n"


def _object(fields: dict[str, Any]) -> str:
    """Return JSON with a field a line, and of tables a row a line."""
    return "{\n" + ",\n".join(f"{_line(name)}: {_table(value)}" for name, value in fields.items()) + "\n}"


def _table(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "[\n" + ",\n".join(map(_line, value)) + "\n]"
    return _line(value)


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
