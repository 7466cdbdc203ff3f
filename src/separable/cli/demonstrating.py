"""``separable demo``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from separable import demo, files
from separable.report import pictures, tables

from . import factoring
from .terminal import progress


def run(out: Path, as_json: bool) -> None:
    """Run the demo, write its picture and results into `out`, print its tables."""
    pictures.check_available()
    demo.check_available()
    _make_directory(out)
    with progress(True) as show:
        done = demo.run(show)
        show("drawing", 0, 0)
        written = _write(done, out)
    if as_json:
        print(json.dumps(_facts(done, written)))
    else:
        _print(done, written)


def _make_directory(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.FileError(f"`--out {out}` cannot be made: {error.strerror}.") from error


def _write(done: demo.Demo, out: Path) -> list[Path]:
    """Write the page and the filtered files; return their paths, the page first."""
    page, photo, volume = out / "demo.png", out / "astronaut-smooth.png", out / "anatomical-smooth.nii"
    for path in (page, photo, volume):
        files.check_target(path)
    files.write(photo, done.smooth_photo)
    files.write(volume, done.smooth_volume)
    with files.replacing(page) as beside:
        pictures.demo_page(
            beside,
            {caption: image.data for caption, image in done.photos.items()},
            {caption: image.data for caption, image in done.volumes.items()},
            done.studies,
            done.comparisons,
        )
    return [page, photo, volume]


def _print(done: demo.Demo, written: list[Path]) -> None:
    console = Console()
    for study in done.studies:
        console.print(tables.factorisation(study), "")
    versions = ", ".join(f"{name} {number}" for name, number in done.versions.items())
    fine_print = (
        f"{versions}. Medians of interleaved runs into arrays made before. 2x: twice the time of {demo.OWN}. "
        f"Last: the largest difference from {demo.REFERENCE}, samples in 0..1."
    )
    console.print(
        Text("Side by side, one thread each", style="bold"),
        tables.comparison(done.comparisons, demo.REFERENCE, demo.OWN, console.width),
        Text(fine_print, style="dim"),
        "",
        tables.facts([("picture" if not n else "", str(path)) for n, path in enumerate(written)]),
        sep="\n",
    )


def _facts(done: demo.Demo, written: list[Path]) -> dict[str, Any]:
    return {
        "kernels": [factoring.facts(each) for each in done.studies],
        "comparisons": [asdict(each) for each in done.comparisons],
        "versions": dict(done.versions),
        "threads": 1,
        "written": [str(path) for path in written],
    }
