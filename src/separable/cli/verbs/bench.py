"""``separable bench``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer
from rich.text import Text

from ..._base.extras import extra
from ...files.guard import check_readable
from ...report.text.tables import facts
from ..kernel_options import whole_numbers
from ..terminal import as_typed, check_page, one_line, plain_console, progress, say

if TYPE_CHECKING:
    from ...engine.peers.side_by_side import Bench


@dataclass(frozen=True)
class TimingSetting:
    """What is timed, as typed."""

    shapes: Sequence[str]
    batch: int
    threads: str
    runtimes: str | None
    rounds: int
    fallback: Literal["onnxruntime"] | None
    times_only: bool


def run(models: Sequence[Path], setting: TimingSetting, html: Path | None, as_json: bool) -> None:
    """Measure models in the engine and in other runtimes; print one table, and write a page if asked for.

    Raises
    ------
    typer.Exit
        With 1, if there are several models and one could not be measured: it is named, the others are done.
    """
    counts = whole_numbers("--threads", setting.threads)
    runtimes = None if setting.runtimes is None else [word.strip() for word in setting.runtimes.split(",")]
    for model in models:  # before any time is spent on others
        check_readable(model)
    check_page(html, *models)
    with extra("onnx"):
        from ...engine.peers.side_by_side import bench
    with progress(True, remaining=True, lines=True) as show:
        done = bench(
            list(models),
            list(setting.shapes) or None,
            batch=setting.batch,
            threads=counts,
            runtimes=runtimes,
            rounds=setting.rounds,
            fallback=setting.fallback,
            times_only=setting.times_only,
            progress=lambda done, total, step: show(step, done, total),
        )
    if html is not None:
        done.to_html(html)
    if as_json:
        print(json.dumps({"page": None if html is None else str(html), **json.loads(done.to_json())}))
    else:
        _print(done, html)
    for failed in done.failed:
        say(one_line(as_typed(failed.reason)), stderr=True, style="red")
    if done.failed:
        raise typer.Exit(1)


def _print(done: Bench, html: Path | None) -> None:
    from ...report.text.benches import narrow

    console = plain_console()
    text = str(done)
    if max(map(len, text.splitlines())) > console.width:
        text = narrow(done, console.width)
    console.print(Text(text), soft_wrap=True)
    if html is not None:
        console.print(facts([("page", str(html))]))
