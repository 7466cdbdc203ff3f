"""Every study runs at small size, its verdicts follow from its numbers, and its page is what is stored."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

for package in ("torch", "matplotlib", "onnxruntime", "onnxscript", "skimage"):
    pytest.importorskip(package)

from docs.drawings.ink import DARK, LIGHT  # noqa: E402 (they need the packages)
from studies import __main__ as command  # noqa: E402
from studies import pages, processes, progress, store  # noqa: E402
from studies.studies import STUDIES  # noqa: E402
from studies.study import Study, judged  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGES = ROOT / "studies" / "results", ROOT / "docs" / "studies"
QUIET = pytest.mark.filterwarnings("default")  # torch's exporter warns of what it is built of


def stored(name: str) -> dict[str, Any]:
    """The numbers of the newest run."""
    runs = store.load(RESULTS / f"{name}.json")
    return copy.deepcopy(list(runs.values())[-1].numbers)


@QUIET
@pytest.mark.parametrize("name", STUDIES)
def test_each_study_runs_at_small_size(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([name, "--small", "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    study = STUDIES[name]
    (run,) = store.load(tmp_path / "results" / f"{name}.json").values()
    assert run.small
    verdicts = study.judge(run.numbers)
    for verdict in verdicts:
        assert f"claim:   {verdict.claim}" in out
        assert f"number:  {verdict.number}" in out
        assert f"verdict: {verdict}" in out
    page = (tmp_path / f"{name}.md").read_text(encoding="utf-8")
    assert page.split("\n\n")[1].startswith("For those who ")
    assert verdicts[0].number in page.split("\n\n")[1]
    for ink in (LIGHT, DARK):
        assert "<svg" in (tmp_path / "pictures" / f"{name}-{ink.name}.svg").read_text(encoding="utf-8")


def _set(numbers: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    for step in path[:-1]:
        numbers = numbers[step]
    numbers[path[-1]] = value


def everywhere(key: str, value: Any) -> Callable[[Any], None]:
    """Return what puts a value under every key of that name."""

    def change(numbers: Any) -> None:
        items = (
            numbers.items()
            if isinstance(numbers, dict)
            else enumerate(numbers)
            if isinstance(numbers, list)
            else ()
        )
        for name, item in list(items):
            if name == key:
                numbers[name] = value
            else:
                change(item)

    return change


def at(*path: Any, value: Any) -> Callable[[Any], None]:
    return lambda numbers: _set(numbers, path, value)


def dense_learns_as_fast(numbers: Any) -> None:
    for row in numbers["tasks"].values():
        row["accuracy"]["dense"] = row["accuracy"]["separable"]


def separable_always_learns(numbers: Any) -> None:
    for row in numbers["tasks"].values():
        row["accuracy"]["separable"] = [[row["ceiling"]] for _ in numbers["counts"]]
        row["accuracy"]["dense"] = [[0.1] for _ in numbers["counts"]]


def losses_grow_with_depth(numbers: Any) -> None:
    for rows in (rows for runs in numbers["nets"].values() for rows in runs):
        for place, layer in enumerate(rows):
            layer.update({"by its weights": place, "fitted to data": place})


def nothing_is_lost(numbers: Any) -> None:
    for net in numbers["nets"].values():
        net["from the weights"] = [[dense] * len(numbers["ranks"]) for (dense,) in net["dense"]]


def everything_is_lost(numbers: Any) -> None:
    for net in numbers["nets"].values():
        net["fitted to data"] = [[0.0] * len(numbers["ranks"]) for _ in net["dense"]]


def eight_bits_break_what_separates(numbers: Any) -> None:
    for label, row in numbers["rows"].items():
        fine = label.endswith("float32") or label.startswith("dense")
        row["accuracy"] = [99.0 if fine else 1.8]


def dense_network_is_slow(numbers: Any) -> None:
    for network in numbers["networks"].values():
        for row in network["rows"]:
            row.update(
                lost=0.1, seconds=dict.fromkeys(row["seconds"], 3.0 if row["kind"] == "dense" else 1.0)
            )


def nothing_is_faster(numbers: Any) -> None:
    for network in numbers["networks"].values():
        for row in network["rows"]:
            row["seconds"] = dict.fromkeys(row["seconds"], 1.0 if row["kind"] == "dense" else 2.0)


def separable_already(seconds: float, changed: int, speedup: float) -> Callable[[Any], None]:
    """Return what makes up the answer to a network that is separable already."""
    answer = {"name": "MobileNet", "inputs": 8, "processor_seconds": seconds, "layers": 9}
    return at("separable already", value={**answer, "changed": changed, "speedup": speedup})


# What is made up, which claim it is about, and what then has to come out.
MADE_UP: list[tuple[str, Callable[[Any], None], int, str]] = [
    ("kernels", everywhere("macs", 10**6), 0, "fails here"),
    ("kernels", everywhere("distance", 0.0), 1, "holds"),
    ("kernels", everywhere("distance", 0.5), 1, "fails here"),
    ("kernels", everywhere("macs", 1), 2, "holds"),
    ("formulas", everywhere("dense parameters", 0), 0, "holds when"),
    ("formulas", everywhere("distinct_ratios", 2), 1, "holds when"),
    ("formulas", at("speedups", "3", value={"8": 4.0, "16": 5.0}), 2, "fails here"),
    ("formulas", everywhere("agree", 0), 3, "fails here"),
    ("equivalence", everywhere("plain", 1.0), 0, "holds when"),
    ("equivalence", everywhere("khatri_rao", 1.0), 1, "holds when"),
    ("equivalence", everywhere("scaled", 1.0), 2, "fails here"),
    ("equivalence", everywhere("free", 1), 3, "fails here"),
    ("speedup", everywhere("realised", {"separable": 99.0, "torch, two calls": 99.0,
        "ONNX Runtime, two nodes": 99.0, "fused (this package)": 99.0}), 0, "holds"),
    ("speedup", everywhere("realised", {"separable": 1.0, "torch, two calls": 1.0,
        "ONNX Runtime, two nodes": 1.0, "fused (this package)": 1.0}), 2, "fails here"),
    ("limits", everywhere("trained", 0.0), 0, "fails here"),
    ("limits", everywhere("trained", 0.5), 2, "holds"),
    ("limits", everywhere("bound", 0.0), 3, "holds when"),
    ("samples", dense_learns_as_fast, 0, "fails here"),
    ("samples", separable_always_learns, 1, "holds"),
    ("depth", losses_grow_with_depth, 0, "holds"),
    ("depth", everywhere("fitted to data", 0.1), 1, "fails here"),
    ("rank", nothing_is_lost, 0, "holds"),
    ("rank", everything_is_lost, 1, "fails here"),
    ("order", everywhere("pw-dw", [99.9] * 3), 0, "holds"),
    ("order", everywhere("pw-dw", [0.1] * 3), 0, "fails here"),
    ("order", everywhere("pointwise", 2.0), 1, "fails here"),
    ("quantisation", eight_bits_break_what_separates, 0, "holds"),
    ("quantisation", everywhere("change", [1e-3]), 1, "fails here"),
    ("real-networks", dense_network_is_slow, 0, "holds"),
    ("real-networks", everywhere("lost", 0.6), 0, "fails here"),
    ("real-networks", nothing_is_faster, 2, "fails here"),
    ("real-networks", everywhere("lost", 0.6), 3, "fails here"),
    ("real-networks", separable_already(29.0, 0, 1.0), 4, "holds"),
    ("real-networks", separable_already(31.0, 3, 1.5), 4, "holds when"),
    ("real-networks", separable_already(31.0, 3, 1.0), 4, "fails here"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "claim", "outcome"), MADE_UP)
def test_made_up_numbers_give_the_verdict_that_follows_from_them(
    name: str, change: Callable[[Any], None], claim: int, outcome: str
) -> None:
    numbers = stored(name)
    change(numbers)
    if name == "order" and claim == 0:  # counts are not accuracies
        numbers["strided"] = stored(name)["strided"]
    assert STUDIES[name].judge(numbers)[claim].outcome == outcome


def test_every_claim_has_a_made_up_result() -> None:
    claims = {(name, number) for name in STUDIES for number in range(len(STUDIES[name].judge(stored(name))))}
    # Claims that one rule judges for several ways of running are tried for two of them.
    assert claims - {(name, claim) for name, _, claim, _ in MADE_UP} <= {
        ("speedup", 1), ("speedup", 3), ("limits", 1), ("rank", 2), ("real-networks", 1),
    }  # fmt: skip


def test_the_rule_of_all_verdicts() -> None:
    def outcome(cases: dict[str, bool], stated: str | None = None) -> str:
        return str(judged("c", "s", "n", "r", cases, stated))

    assert outcome({"a": True, "b": True}) == "holds"
    assert outcome({"a": False, "b": False}) == "fails here"
    assert outcome({"a": True, "b": False, "c": True}) == "holds when: 2 of 3: a, c; not b"
    assert outcome({"a": True, "b": False}, "b") == "fails as stated (b), holds for a"
    with pytest.raises(ValueError, match="no case was measured"):
        outcome({})


@pytest.mark.parametrize("study", STUDIES.values(), ids=list(STUDIES))
def test_pages_are_what_is_stored(study: Study) -> None:
    runs = store.load(RESULTS / f"{study.name}.json")
    assert runs, "make studies keeps what it measures"
    assert not any(run.small for run in runs.values())
    assert (PAGES / f"{study.name}.md").read_text(encoding="utf-8") == pages.page(study, runs), (
        "python -m studies --render"
    )


def test_the_index_lists_all_verdicts() -> None:
    found = [(study, store.load(RESULTS / f"{name}.json")) for name, study in STUDIES.items()]
    assert (PAGES / "index.md").read_text(encoding="utf-8") == pages.index(found)


def test_pictures_are_drawn_and_small() -> None:
    names = {f"{name}-{ink.name}.svg" for name in STUDIES for ink in (LIGHT, DARK)}
    files = {file.name: file for file in (PAGES / "pictures").iterdir()}
    assert set(files) == names
    assert max(file.stat().st_size for file in files.values()) < 180_000  # ten panels
    for file in files.values():
        drawn = set(
            re.findall(r"fill: (#[0-9a-f]{6})|stroke: (#[0-9a-f]{6})", file.read_text(encoding="utf-8"))
        )
        assert drawn, file


def test_runs_are_kept_for_each_machine(tmp_path: Path) -> None:
    file = tmp_path / "kernels.json"
    run = next(iter(store.load(RESULTS / "kernels.json").values()))
    other = store.Run(**{**vars(run), "cpu": "Another (family 1, model 2)", "date": "1999-01-01 00:00 +0000"})
    store.save(file, {run.machine: run, other.machine: other})
    again = store.load(file)
    assert list(again) == ["another-1-2", run.machine]  # the newest last
    assert again[run.machine] == run
    file.write_text(json.dumps({"schema": 0, "runs": []}), encoding="utf-8")
    with pytest.raises(ValueError, match="schema 0, expected 1"):
        store.load(file)


def test_what_the_readme_says_of_real_networks_is_what_was_measured() -> None:
    told = re.search(r"\| real network,.*?\n\n", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert told
    told_rows = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in told[0].splitlines()[2:-1]]
    numbers = store.load(RESULTS / "real-networks.json")["amd-epyc-25-1"].numbers
    *converted, refused = told_rows
    assert len(converted) == len(numbers["networks"])
    for name, fewer, faster, lost in converted:
        (rows,) = [
            of["rows"] for key, of in numbers["networks"].items() if key.split()[0] == name.split(",")[0]
        ]
        dense = next(row for row in rows if row["kind"] == "dense")
        ours = next(row for row in rows if row["kind"] == "fitted to data")
        assert float(fewer.strip("x")) == pytest.approx(dense["macs"] / ours["macs"], abs=0.06)
        ratios = [float(word.strip("* ")) for word in faster.split("/")]
        measured = [dense["seconds"][where] / ours["seconds"][where] for where in ("engine", "ONNX Runtime")]
        assert ratios == pytest.approx(measured, abs=0.06)
        assert [float(word) for word in lost.split("±")] == pytest.approx(
            [ours["lost"], ours["lost_half"]], abs=0.06
        )
    assert refused[0].startswith("MobileNetV2")
    said = re.search(r"(\d+) s", refused[2])
    assert said
    assert float(said[1]) == pytest.approx(numbers["separable already"]["processor_seconds"], abs=1)


def test_wrong_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["speed"]) == 2
    assert "nothing is named 'speed'; expected one of kernels" in capsys.readouterr().err
    assert command.main(["--list"]) == 0
    assert capsys.readouterr().out.count("\n") == len(STUDIES)


def test_small_runs_are_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(command, "PAGES", tmp_path / "pages")
    assert command.main(["equivalence", "--small"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_studies_side_by_side_measure_what_they_do_alone() -> None:
    names = ["formulas", "equivalence"]
    before = dict(os.environ)
    together = dict(processes.measured_together(names, True, 2))
    assert dict(os.environ) == before
    assert list(together) == names
    for name in names:
        assert together[name].numbers == processes.measured(name, True).numbers


def test_only_times_are_measured_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def together(names: list[str], small: bool, count: int) -> Iterator[tuple[str, str]]:
        asked.append((names, small, count))
        yield from ((name, "together") for name in names)

    monkeypatch.setattr(command, "measured", lambda name, small: "alone")
    monkeypatch.setattr(command, "measured_together", together)
    monkeypatch.setattr(command.machine, "usable_cores", lambda: 2)
    runs = dict(command._runs(["kernels", "speedup", "formulas"], False))
    assert runs == {"speedup": "alone", "kernels": "together", "formulas": "together"}
    assert asked == [(["formulas", "kernels"], False, 2)]  # what took longest first
    monkeypatch.setattr(command.machine, "usable_cores", lambda: 1)
    assert set(dict(command._runs(["kernels", "speedup", "formulas"], False)).values()) == {"alone"}


def test_progress_without_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 0.0, 1.0, 14.0, 15.0, 15.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    shown = progress.ShownProgress()
    for text in ("one: begun", "one: still at it", "", "one: nearly there", "two: begun"):
        shown(text)
    assert capsys.readouterr().err == "one: begun\ntwo: begun\n"
