"""``separable demo``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ... import files
from ..._base.words.quantities import percent
from ...demo import images as filtering
from ...demo import network as converting
from ...files.target import check_target
from ...report.pictures import images as pictures
from ...report.pictures import mosaics
from ...report.text import tables
from ...report.text.conversions import count
from .. import model_tables, network_tables
from ..terminal import plain_console, progress
from . import factor as factoring


@dataclass(frozen=True)
class DemoRun:
    """The results of the demo: on pictures and volumes, and on a network."""

    filtered: filtering.Demo
    converted: converting.Converted


def run(out: Path, as_json: bool) -> None:
    """Run the demo, write its pictures, pages and results into `out`, print its tables."""
    pictures.check_available()
    filtering.check_available()
    converting.check_available()
    _make_directory(out)
    with progress(True, lines=True) as show:
        done = DemoRun(filtering.run(show), converting.run(show))
        show("drawing", 0, 0)
        written = _write(done.filtered, out) + _write_network(done.converted, out)
    if as_json:
        print(json.dumps(_facts(done, written)))
    else:
        console = plain_console()
        _print_filters(console, done.filtered)
        _print_network(console, done.converted)
        console.print("", tables.facts([("written" if not n else "", str(p)) for n, p in enumerate(written)]))


def _make_directory(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.FileError(f"`--out {out}` cannot be made: {error.strerror}.") from error


def _write(done: filtering.Demo, out: Path) -> list[Path]:
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


def _write_network(done: converting.Converted, out: Path) -> list[Path]:
    """Write the network before and after, its two pages, and the picture of what it sees."""
    before, after = out / "textures.onnx", out / "textures-separable.onnx"
    audit, conversion, picture = out / "audit.html", out / "conversion.html", out / "textures.png"
    for path in (before, after, audit, conversion, picture):
        check_target(path)
    with files.replacing(before) as beside:
        beside.write_bytes(converting.trained_bytes())
    done.separation.save(after)
    done.audit.to_html(audit)
    done.separation.report.to_html(conversion)
    maps = {"where they are": done.truth}
    for name, version in done.versions.items():
        caption = f"{name}: {percent(version.accuracy)} right, {count(version.macs)} MACs"
        maps[caption] = version.labels
    with files.replacing(picture) as beside:
        mosaics.mosaic_page(beside, done.mosaic, maps, converting.CLASSES)
    return [picture, audit, conversion, before, after]


def _print_filters(console: Console, done: filtering.Demo) -> None:
    for study in done.studies:
        console.print(tables.factorisation(study), "")
    versions = ", ".join(f"{name} {number}" for name, number in done.versions.items())
    fine_print = (
        f"{versions}. Medians of interleaved runs into arrays made before. 2x: twice the time of "
        f"{filtering.OWN}. Last: the largest difference from {filtering.REFERENCE}, samples in 0..1."
    )
    console.print(
        Text("Side by side, one thread each", style="bold"),
        tables.comparison(done.comparisons, filtering.REFERENCE, filtering.OWN, console.width),
        Text(fine_print, style="dim"),
        "",
        sep="\n",
    )


def _print_network(console: Console, done: converting.Converted) -> None:
    budget = done.separation.report.budget
    assert budget is not None
    fine_print = (
        f"right: of {done.squares} squares from parts of the photographs that training never saw. "
        "data-free SVD: each layer the nearest single term by its weights. separable: to "
        f"{budget:.2g} of the time, fitted to {converting.CALIBRATION} squares without labels, not "
        f"trained. ms: {converting.BATCH} squares in "
        "ONNX Runtime, one thread, median."
    )
    console.print(
        Text("A network that tells brick, grass and gravel apart", style="bold"),
        model_tables.versions(
            {
                name: (version.accuracy, version.macs, version.params, version.seconds)
                for name, version in done.versions.items()
            }
        ),
        Text(fine_print, style="dim"),
        "",
        sep="\n",
    )
    macs = {form: done.versions[form].macs for form in done.times}
    console.print(
        Text("The same network run whole, one thread", style="bold"),
        network_tables.runtimes(done.times, macs),
        Text(
            f"ms: {converting.BATCH} squares, the least of {converting.ROUNDS} runs in turn. MACs: of one "
            "square. engine: separable.engine.",
            style="dim",
        ),
        sep="\n",
    )


def _facts(done: DemoRun, written: list[Path]) -> dict[str, Any]:
    filtered, converted = done.filtered, done.converted
    return {
        "kernels": [factoring.facts(item) for item in filtered.studies],
        "comparisons": [asdict(item) for item in filtered.comparisons],
        "versions": dict(filtered.versions),
        "network": _network_facts(converted.versions),
        "squares": converted.squares,
        "runtimes": converted.times,
        "output_change": converted.separation.report.output_change,
        "threads": 1,
        "written": [str(path) for path in written],
    }


def _network_facts(versions: Mapping[str, converting.Version]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "accuracy": version.accuracy,
            "macs": version.macs,
            "params": version.params,
            "seconds": version.seconds,
        }
        for name, version in versions.items()
    }
