"""Tables of times: what is compared before it is timed, what follows from the times, and how they read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

import separable
from benchmarks import integers, masks, running, store, summary, tables, works
from benchmarks.compact import decode, encode
from benchmarks.filters import WrongResultError
from benchmarks.render import pages
from benchmarks.results import Cell, Quantity, Ratio, RatioRecord, Row, TableRecord, not_met
from benchmarks.timing import Effort

FACTS = {
    "cpu": "a processor",
    "caches": {},
    "date": "today",
    "cores": 2,
    "load": "0.00",
    "system": "here",
    "target": "v4",
    "compiler": "one",
    "fma_gflop_s": {"v4": 200.0},
    "stream_gb_s": 30.0,
    "versions": {},
}
ONCE = Effort(rounds=1, seconds=0.0, min_rounds=1)


@pytest.mark.parametrize(("size", "radius"), [(40, 3), (9, 9), (5, 23)])
def test_the_oracle_is_scipys(size: int, radius: int) -> None:
    x = np.random.default_rng(1).random((size, size))
    taps = works.uneven_taps(2 * radius + 1, seed=2)
    expected = ndimage.correlate1d(ndimage.correlate1d(x, taps, axis=0), taps, axis=1)
    found = tables.window_sums(x, taps)
    assert 0 in tables.places(size)
    assert size - 1 in tables.places(size)
    np.testing.assert_allclose(found, tables.at_places(expected), rtol=1e-12)


def _way(out: np.ndarray, value: float | None, apart: float | None = None) -> tables.Way:
    def call() -> None:
        if value is not None:
            out.fill(value)

    return tables.Way("ours", call, lambda: float(np.abs(out - 1).max()) if apart is None else apart, 0.1)


@pytest.mark.parametrize("value", [None, 1.2, np.nan])
def test_other_work_is_not_timed(value: float | None) -> None:
    out = np.ones((3, 3))
    with pytest.raises(WrongResultError, match="ones, ours: "):
        tables.timed("ones", 1, out, [_way(out, value)], ONCE)
    row = tables.timed("ones", 1, out, [_way(out, 1.05)], ONCE)
    (cell,) = row.cells
    assert cell.apart == pytest.approx(0.05)
    assert cell.median > 0


@pytest.mark.parametrize(
    ("measure", "verb"),
    [(integers.measure, "gaussian"), (masks.measure, "gaussian"), (running.boxes, "plan")],
)
def test_each_table_looks_at_what_it_times(
    measure: Callable[[str, bool], TableRecord], verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(kernel: object, shape: object, dtype: object, **_: object) -> object:
        return lambda x, output: output.fill(0.5)

    def gaussian(x: np.ndarray, sigma: object, output: np.ndarray | None = None, **_: object) -> None:
        assert output is not None
        output.fill(0.5)

    monkeypatch.setattr(separable, verb, plan if verb == "plan" else gaussian)
    with pytest.raises(WrongResultError):
        measure("run", True)


def _record(*quantities: Quantity) -> TableRecord:
    slow = [Cell("plain", 2e-3, 1.9e-3, 2.1e-3, 1.0), Cell("masked", 5e-3, 4e-3, 5e-3, 0.99, 1e-7)]
    quick = [Cell("plain", 1e-3, 1e-3, 1e-3, 1.9)]
    rows = [Row("an image", 1, slow), Row("an image", 2, quick)]
    return TableRecord("holes", "Masks", "A table", "run", False, "image", "plain", rows, list(quantities))


def _page(record: TableRecord) -> str:
    return "\n".join(pages(store.EMPTY.merged("run", FACTS, record)).values())


def test_rows_relate_their_columns() -> None:
    slow, quick = _record().rows
    assert slow.over("masked", "plain") == 2.5
    assert quick.over("masked", "plain") is None
    assert slow.spread == pytest.approx(0.2)


def test_tables_read_well() -> None:
    page = _page(_record(Quantity("the slowest", 2.5, 2.0, 2.5, "x", 2.0, "an image")))
    assert "| image | threads | plain | masked | ± |" in page
    assert "| an image | 1 | 2 ms | 5 ms (2.50 x) | 20% |" in page
    assert "| an image | 2 | 1 ms |  | 0% |" in page
    assert "| the slowest | 2.5 x | 2 to 2.5 | ≤ 2: **not met** | an image |" in page
    assert "- A table: the slowest is 2.5 x, asked for at most 2." in page


def test_verdicts_on_tables() -> None:
    kept = Quantity("kept", 0.015, 0.015, 0.015, "levels", 0.02)
    assert not list(not_met(_record(kept, Quantity("free", 9.0, 9.0, 9.0, "x"))))
    assert "| kept | 0.015 levels |  | ≤ 0.02: met |  |" in _page(_record(kept))


def test_a_busy_machine_spoils_a_table() -> None:
    record = _record()
    assert not record.disturbed()
    assert "Other work used" not in _page(record)
    starved = dataclasses.replace(record.rows[0].cells[0], cores=0.5)
    row = dataclasses.replace(record.rows[0], cells=[starved])
    assert "Other work used the machine during `holes`" in _page(dataclasses.replace(record, rows=[row]))


def test_long_double_means_are_plain_sums() -> None:
    volume = np.random.default_rng(3).integers(0, 256, (6, 7, 8), dtype=np.uint8)
    found = integers._long_double(volume, 1.0)
    expected = ndimage.gaussian_filter(volume.astype(np.float64), 1.0)
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=1e-13)


def test_the_first_page_counts_works_where_a_peer_is_faster() -> None:
    rows = [
        Row("small", 1, [Cell("ours", 2e-3, 2e-3, 2e-3, 1.0), Cell("OpenCV", 1e-3, 1e-3, 1e-3, 1.0)]),
        Row("large", 1, [Cell("slow", 9e-3, 9e-3, 9e-3, 1.0), Cell("ours", 3e-3, 3e-3, 3e-3, 1.0)]),
    ]
    rows[1].cells.append(Cell("OpenCV", 6e-3, 6e-3, 6e-3, 1.0))
    record = dataclasses.replace(_record(), base="ours", rows=rows)
    (peer,) = summary.best_peers(record)
    assert (peer.name, peer.threads, peer.faster) == ("OpenCV", 1, 1.25)
    page = summary.summary(store.EMPTY.merged("run", FACTS, record))
    assert "| 1.25x (**0.50x** to 2.00x) OpenCV |" in page
    assert "a processor, 1 thread: **0.50x** OpenCV, the slowest; behind in 1 of 2" in page


def test_ratios_survive_storage_where_some_were_not_measured() -> None:
    ratios = [Ratio("sobel", "uint8", (4, 4), 1, 1.0, 2.0), Ratio("gauss", "float32", (4, 4, 4), 2, 3.0, 4.0)]
    record = RatioRecord("ndimage", "scipy.ndimage", "title", "run", False, ratios, 10, 1.0, 20.0)
    assert decode(json.loads(json.dumps(encode(record)))) == record
