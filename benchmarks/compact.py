"""Records as small tables for JSON and back: a line of field names, then a line of values for each row."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from benchmarks.engine_results import NetworkRecord, NetworkTime
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

DIGITS = 6  # significant ones that are kept: tables show three
_RECORDS = (FilterRecord, ConvRecord, QuantityRecord, RatioRecord, TableRecord, NetworkRecord)
KINDS = {kind.__name__: kind for kind in _RECORDS}
LISTS: dict[str, type] = {
    "measurements": Measurement,
    "dense": Measurement,
    "targets": Target,
    "quantities": Quantity,
    "times": NetworkTime,
}

_Item = TypeVar("_Item")
_Table = list[list[Any]]


def encode(record: Record) -> dict[str, Any]:
    """Return `record` as plain data, numbers rounded to `DIGITS`."""
    data = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    for name in LISTS.keys() & data.keys():
        data[name] = _table(LISTS[name], data[name])
    if isinstance(record, RatioRecord):
        data["ratios"] = _ratio_table(record.ratios)
    if isinstance(record, TableRecord):
        data["rows"] = _cell_table(record.rows)
    rounded: dict[str, Any] = _rounded(data)
    return {"kind": type(record).__name__, **rounded}


def decode(data: dict[str, Any]) -> Record:
    """Return the record that `encode` wrote."""
    fields = {name: value for name, value in data.items() if name != "kind"}
    for name in LISTS.keys() & fields.keys():
        fields[name] = _items(LISTS[name], fields[name])
    if data["kind"] == RatioRecord.__name__:
        fields["ratios"] = _ratios(fields["ratios"])
    if data["kind"] == TableRecord.__name__:
        fields["rows"] = _rows(fields["rows"])
    record: Record = KINDS[data["kind"]](**fields)
    return record


def _table(kind: type, items: Iterable[Any]) -> _Table:
    names = [field.name for field in dataclasses.fields(kind)]
    return [names, *([getattr(item, name) for name in names] for item in items)]


def _items(kind: type[_Item], table: _Table) -> list[_Item]:
    names, *rows = table
    return [kind(**dict(zip(names, row, strict=True))) for row in rows]


def _cell_table(rows: Sequence[Row]) -> _Table:
    names = [field.name for field in dataclasses.fields(Cell)]
    cells = ((row, cell) for row in rows for cell in row.cells)
    lines = ([row.label, row.threads, *(getattr(cell, name) for name in names)] for row, cell in cells)
    return [["label", "threads", *names], *lines]


def _rows(table: _Table) -> list[Row]:
    (_, _, *names), *lines = table
    rows: dict[tuple[str, int], list[Cell]] = {}
    for label, threads, *values in lines:
        rows.setdefault((label, threads), []).append(Cell(**dict(zip(names, values, strict=True))))
    return [Row(label, threads, cells) for (label, threads), cells in rows.items()]


def _ratio_table(ratios: Sequence[Ratio]) -> _Table:
    """Return a line for each function and dtype: at each size and number of threads our time and theirs."""
    places = list(dict.fromkeys((ratio.shape, ratio.threads) for ratio in ratios))
    calls = {(r.function, r.dtype, (r.shape, r.threads)): [r.ours, r.theirs] for r in ratios}
    head = ["function", "dtype", *([list(shape), threads] for shape, threads in places)]
    lines = ([*call, *(calls.get((*call, place)) for place in places)] for call in _calls(ratios))
    return [head, *lines]


def _calls(ratios: Iterable[Ratio]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((ratio.function, ratio.dtype) for ratio in ratios))


def _ratios(table: _Table) -> list[Ratio]:
    (_, _, *places), *lines = table
    return [
        Ratio(function, dtype, tuple(shape), threads, *times)
        for function, dtype, *cells in lines
        for (shape, threads), times in zip(places, cells, strict=True)
        if times is not None
    ]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value
