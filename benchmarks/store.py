"""``results.json``: load, merge what was measured again, save in one step."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.results import (
    Cell,
    ConvRecord,
    FilterRecord,
    Measurement,
    Quantity,
    QuantityRecord,
    Ratio,
    RatioRecord,
    Record,
    Row,
    TableRecord,
    Target,
)

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Store:
    """All records by name, and the facts of the runs they came from by run id."""

    records: dict[str, Record]
    runs: dict[str, dict[str, Any]]

    def merged(self, run_id: str, run: dict[str, Any], record: Record) -> Store:
        """Return a store in which `record` replaces its namesake; runs nobody refers to are dropped."""
        merged = {**self.records, record.name: record}
        used = {record.run for record in merged.values()}
        runs = {key: facts for key, facts in {**self.runs, run_id: run}.items() if key in used}
        return Store(merged, runs)

    def ordered(self, names: list[str]) -> Store:
        """Return the store with its records in the order of `names`; those not in it are dropped."""
        return Store({name: self.records[name] for name in names if name in self.records}, self.runs)


EMPTY = Store({}, {})


def load(path: Path) -> Store:
    """Read a store; a file that is not there yet is an empty one."""
    if not path.exists():
        return EMPTY
    data = json.loads(path.read_text(encoding="utf-8"))
    if data.get("schema") != SCHEMA:
        raise ValueError(
            f"{path}: schema {data.get('schema')!r}, expected {SCHEMA}; delete it and measure anew"
        )
    return Store({item["name"]: _record(item) for item in data["records"]}, data["runs"])


def save(path: Path, store: Store) -> None:
    """Write `store` beside `path` and rename it into place."""
    records = [
        {"kind": type(record).__name__, **dataclasses.asdict(record)} for record in store.records.values()
    ]
    data = {"schema": SCHEMA, "runs": store.runs, "records": records}
    replace_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write `text` to a new file beside `path`, then rename it, so that `path` is never half-written."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _record(item: dict[str, Any]) -> Record:
    fields = {key: value for key, value in item.items() if key != "kind"}
    if item["kind"] == QuantityRecord.__name__:
        fields["quantities"] = [Quantity(**q) for q in item["quantities"]]
        return QuantityRecord(**fields)
    if item["kind"] == RatioRecord.__name__:
        ratios = [Ratio(**{**ratio, "shape": tuple(ratio["shape"])}) for ratio in item["ratios"]]
        return RatioRecord(**{**fields, "ratios": ratios})
    if item["kind"] == TableRecord.__name__:
        fields["rows"] = [Row(**{**r, "cells": [Cell(**c) for c in r["cells"]]}) for r in item["rows"]]
        fields["quantities"] = [Quantity(**q) for q in item["quantities"]]
        return TableRecord(**fields)
    fields["measurements"] = [Measurement(**m) for m in item["measurements"]]
    fields["targets"] = [Target(**t) for t in item["targets"]]
    if item["kind"] == ConvRecord.__name__:
        fields["dense"] = [Measurement(**m) for m in item["dense"]]
        return ConvRecord(**fields)
    return FilterRecord(**fields)
