"""``separable bench``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..._base.extras import extra
from ...files.guard import check_readable
from .. import network_tables
from ..kernel_options import whole_numbers
from ..terminal import naming_model, plain_console, progress

if TYPE_CHECKING:
    from ...onnx.audits.side_by_side import ModelTimes


@dataclass(frozen=True)
class TimingSetting:
    """What is timed, as typed."""

    shapes: Sequence[str]
    batch: int
    threads: str
    rounds: int
    fallback: Literal["onnxruntime"] | None


def run(models: Sequence[Path], setting: TimingSetting, as_json: bool) -> None:
    """Time models in the engine and in other runtimes, and print one table."""
    counts = whole_numbers("--threads", setting.threads)
    for model in models:  # before any time is spent on others
        check_readable(model)
    with extra("onnx"):
        from ...onnx.audits.side_by_side import compare
    done: list[tuple[Path, ModelTimes]] = []
    with progress(not as_json, remaining=True, lines=True) as show:
        for model in models:
            for threads in counts:
                phase = f"timing {model.name}"
                show(phase, 0, 0)
                with naming_model(model):
                    times = compare(
                        model,
                        list(setting.shapes) or None,
                        batch=setting.batch,
                        threads=threads,
                        rounds=setting.rounds,
                        fallback=setting.fallback,
                        progress=lambda round, rounds, phase=phase: show(phase, round, rounds),  # type: ignore[misc]
                    )
                done.append((model, times))
    if as_json:
        print(json.dumps({"models": [_facts(model, times) for model, times in done]}))
        return
    console = plain_console()
    named = [(str(model), times) for model, times in done]
    console.print(network_tables.side_by_side(named, console.width))
    console.print(network_tables.facts(network_tables.side_by_side_notes(named)))


def _facts(model: Path, times: ModelTimes) -> dict[str, Any]:
    return {
        "model": str(model),
        **asdict(times),
        "times": [
            {**asdict(timed), "of_peak": times.of_peak(timed), "over_ours": times.over_ours(timed)}
            for timed in times.times
        ],
    }
