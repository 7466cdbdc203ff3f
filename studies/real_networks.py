"""Networks that others trained or that one would train: what conversion takes, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from matplotlib.figure import Figure

from benchmarks import libraries
from benchmarks.timing import Effort
from docs.drawings.ink import Ink, curves
from studies.real import classifying, detecting, forms, reading, refusing, trained
from studies.real.forms import DECOUPLED, DENSE, ENGINE, OURS, RUNTIME, WEIGHTS
from studies.real.subject import Subject
from studies.study import Numbers, Progress, Study, Verdict, judged, table

MISSION: Final = "the goal of this package"
FASTER, LOST = 1.5, 0.5  # times; points
CLOCK: Final = 1.03  # times of equal networks differ by no more here
MARKS: Final = {DENSE: "o", OURS: "s", WEIGHTS: "^", DECOUPLED: "D"}
# Seconds until a network that is not worth converting is said to be none; times as fast as would be worth it.
PATIENCE, WORTH = 30.0, 1.1
# With the pictures that calibrate, and those that judge.
SUBJECTS: Final[tuple[tuple[Callable[[int, int], Subject], int, int], ...]] = (
    (reading.subject, 64, 200),
    (detecting.subject, 32, 100),
    (classifying.subject, 16, 64),
    (trained.residual, 64, 200),
    (trained.unet, 64, 200),
)
# Those that need no download, and are small where few pictures are asked for.
QUICK: Final = tuple((make, 16, 20) for make, *_ in SUBJECTS[3:])


def measure(small: bool, progress: Progress) -> Numbers:
    """Convert each network in all ways, on one thread."""
    effort = Effort(3, 0.1) if small else Effort(12, 3.0)
    networks = {}
    with libraries.threads_restored():
        libraries.set_torch_threads(1)
        for make, calibration, held_out in QUICK if small else SUBJECTS:
            subject = make(calibration, held_out)
            networks[subject.name] = forms.compared(subject, effort, progress)
        answer = refusing.answered(small, progress)
    return {"networks": networks, "separable already": answer}


def _of(network: Numbers, kind: str) -> list[Numbers]:
    return [row for row in network["rows"] if row["kind"] == kind]


def _speedup(network: Numbers, row: Numbers, runtime: str) -> float:
    (dense,) = _of(network, DENSE)
    return float(dense["seconds"][runtime] / row["seconds"][runtime])


def _best(network: Numbers, runtime: str) -> Numbers:
    """Return the fastest row of ours that loses no more than is allowed, the dense one where none does."""
    good = [row for row in _of(network, OURS) if row["lost"] <= LOST]
    return min([*_of(network, DENSE), *good], key=lambda row: float(row["seconds"][runtime]))


def judge(numbers: Numbers) -> list[Verdict]:
    """Judge each runtime's speed-up at what may be lost, that none is slower, and what data are worth."""
    networks = numbers["networks"]
    verdicts = []
    for runtime in (ENGINE, RUNTIME):
        best = {name: _best(network, runtime) for name, network in networks.items()}
        gains = {name: _speedup(networks[name], row, runtime) for name, row in best.items()}
        verdicts.append(
            judged(
                f"without labels or training a real network becomes {FASTER} times as fast in "
                f"{_named(runtime)} for {LOST} points",
                MISSION,
                "; ".join(
                    f"{name} {gains[name]:.2f} times for {row['lost']:.2f} ± {row['lost_half']:.2f} points"
                    if row["kind"] == OURS
                    else f"{name}: no form keeps to it and is faster"
                    for name, row in best.items()
                ),
                f"one of the budgets is {FASTER} times as fast and loses at most {LOST} points on held-out "
                "inputs.",
                {name: gain >= FASTER for name, gain in gains.items()},
            )
        )
    if any(_of(network, OURS) for network in networks.values()):
        verdicts += [_never_slower(networks), _data_are_worth_it(networks)]
    if "separable already" in numbers:  # runs of before had no such network
        verdicts.append(_refused_soon(numbers["separable already"]))
    return verdicts


def _named(runtime: str) -> str:
    return f"the {runtime}" if runtime == ENGINE else runtime


def _never_slower(networks: Numbers) -> Verdict:
    rows = {
        f"{name} {row['label']}": _speedup(network, row, ENGINE)
        for name, network in networks.items()
        for row in _of(network, OURS)
    }
    return judged(
        "what is converted by time is never slower in the engine",
        MISSION,
        f"{min(rows.values()):.2f} to {max(rows.values()):.2f} times as fast",
        f"it takes at most {CLOCK:.0%} of the dense network's time.",
        {name: gain >= 1 / CLOCK for name, gain in rows.items()},
    )


def _data_are_worth_it(networks: Numbers) -> Verdict:
    pairs = {
        f"{name} {row['label']}": (row["lost"], other["lost"])
        for name, network in networks.items()
        for row in _of(network, OURS)
        for other in _of(network, WEIGHTS)
        if row["label"] == other["label"]
    }
    return judged(
        "fitted to unlabelled data, a network loses less than by its weights alone, in the same forms",
        MISSION,
        "; ".join(f"{name}: {own:.2f} and {other:.2f} points" for name, (own, other) in pairs.items()),
        "fewer points are lost on held-out inputs.",
        {name: own < other for name, (own, other) in pairs.items()},
    )


def _refused_soon(answer: Numbers) -> Verdict:
    took = answer["processor_seconds"]
    return judged(
        "what is not worth converting is left as it is, and that is said soon",
        MISSION,
        f"{answer['name']}: {answer['changed']} of {answer['layers']} layers converted, "
        f"{answer['speedup']:.2f} times as fast, after {took:.0f} seconds of one processor",
        f"no layer is converted, or the whole is {WORTH} times as fast; the answer takes "
        f"{PATIENCE:.0f} seconds at most.",
        {
            "it is said soon": took <= PATIENCE,
            "it is left as it is": not answer["changed"] or answer["speedup"] >= WORTH,
        },
    )


def tables(numbers: Numbers) -> str:
    """Return a table for each network, and what its conversion took."""
    pieces = []
    for name, network in numbers["networks"].items():
        (dense,) = _of(network, DENSE)
        heads = ["form", "MACs", "ms, engine", "ms, ONNX Runtime", f"{network['score']}, %", "points lost"]
        rows = [
            [
                ", ".join(filter(None, (row["kind"], row["label"]))),
                f"{row['macs'] / dense['macs']:.2f}",
                *(f"{1e3 * row['seconds'][runtime]:.2f}" for runtime in (ENGINE, RUNTIME)),
                f"{row['score']:.1f} ± {row['score_half']:.1f}",
                "" if row is dense else f"{row['lost']:.2f} ± {row['lost_half']:.2f}",
            ]
            for row in network["rows"]
        ]
        pieces.append(f"## {name}\n\n{_told(network)}\n\n{table(heads, rows)}")
    if "separable already" in numbers:
        pieces.append(_answered(numbers["separable already"]))
    return "\n\n".join(pieces)


def _answered(answer: Numbers) -> str:
    """Return what was said of a network that is separable already."""
    rows = [[reason, str(count)] for reason, count in answer["reasons"].items()]
    return (
        f"## {answer['name']}\n\nIt is made of depthwise separable convolutions; its weights and its "
        f"{answer['inputs']} inputs are random. Asked for the default, the least time at which the outputs "
        f"change by 0.005 of their variance, conversion answers after {answer['processor_seconds']:.0f} "
        f"seconds of one processor: {answer['changed']} of {answer['layers']} layers are converted, the "
        f"whole is {answer['speedup']:.2f} times as fast, and the outputs change by "
        f"{answer['change']:.2g}.\n\n" + table(["why layers stay as they are", "layers"], rows)
    )


def _told(network: Numbers) -> str:
    (dense,) = _of(network, DENSE)
    left_out = "".join(
        f" No network for {left['budget']:g} of the time: {left['reason']}." for left in network["left_out"]
    )
    return (
        f"From {network['source']}; {dense['macs'] / 1e6:.0f} million MACs. Fitted to "
        f"{network['calibration']} inputs without labels, all budgets together in "
        f"{network['processor_seconds']:.0f} seconds of one processor; scored on {network['held_out']} "
        f"others.{left_out}"
    )


def draw(ink: Ink, numbers: Numbers) -> Figure:
    """Draw what is lost over how many times as fast, for both runtimes."""
    networks = numbers["networks"]
    figure = Figure(figsize=(6.4, 2.2 * len(networks) + 0.4), layout="constrained")
    grid = figure.add_gridspec(len(networks), 2)
    for line, (name, network) in enumerate(networks.items()):
        for column, runtime in enumerate((ENGINE, RUNTIME)):
            axes = curves(
                figure, ink, f"ms in {_named(runtime)}", f"{network['score']}, %", grid[line, column]
            )
            for (kind, marker), colour in zip(MARKS.items(), (ink.text, *ink.others), strict=False):
                rows = _of(network, kind)
                axes.errorbar(
                    [1e3 * row["seconds"][runtime] for row in rows],
                    [row["score"] for row in rows],
                    [row["lost_half"] if kind != DENSE else 0.0 for row in rows],
                    fmt=marker, color=colour, markersize=5, linewidth=1, label=kind,
                )  # fmt: skip
            axes.set_xlim(left=0)
            axes.set_title(name, color=ink.text, fontsize=8)
    axes = figure.axes[0]
    marks = axes.get_legend_handles_labels()
    figure.legend(*marks, frameon=False, labelcolor=ink.text, ncols=4, loc="outside lower center")
    return figure


STUDY = Study(
    "real-networks",
    "Real networks: accuracy over milliseconds",
    "have a trained network, and want to know whether conversion pays for it",
    "networks that others trained and networks trained by examples/train, as they are, converted by time to "
    "a few budgets, and by their weights alone; the least times of one input and one thread, in turn in one "
    "process, and scores on held-out inputs.",
    measure,
    judge,
    tables,
    draw,
    "Held-out scores over milliseconds of each network in each form, in both runtimes; bars: 95 % intervals "
    "of what is lost",
    timed=True,
)
