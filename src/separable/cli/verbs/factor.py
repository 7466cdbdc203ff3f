"""``separable factor``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from ... import SeparableKernel, files
from ..._base.extras import MissingExtraError
from ...factor.effort import Report
from ...files.formats.terms import SUFFIXES
from ...files.target import check_target, replacing
from ...report.pictures import anatomy as anatomy_picture
from ...report.text import anatomy as parts
from ...report.text import tables
from ...report.values import Study, study
from .. import kernel_argument as by_name
from ..terminal import Show, naming, plain_console, progress, same_file, say

_FORMATS: Final = (".png", ".svg", ".pdf")


def run(
    kernel: str,
    tol: str | None,
    rank: int | None,
    effort: float,
    *,
    plot: bool,
    out: Sequence[Path],
    as_json: bool,
) -> None:
    """Factor a kernel, print the result, and write its terms and its picture where wanted."""
    kept, target = _targets(kernel, plot, out)
    with progress(not as_json, lines=True) as show, naming(kernel):
        given = by_name.read(kernel)
        weights = given.dense() if isinstance(given, SeparableKernel) else given
        done = study(kernel, weights, _tolerance(tol), rank, effort=effort, report=_shown_by(show))
        anatomy = parts.anatomy(weights) if plot or target else None
    if kept:
        files.write_terms(kept, done.found)
    if anatomy and target:
        with replacing(target) as beside:
            anatomy_picture.anatomy_page(beside, done, anatomy, target.suffix.lower()[1:])
    if as_json:
        written = {"terms_file": str(kept) if kept else None}
        print(json.dumps(facts(done) | (_more_facts(anatomy, target) if anatomy else {}) | written))
        return
    plain_console().print(tables.factorisation(done))
    if done.ended is not None:
        say(
            f"note: the search ended after {done.ended:g} multiplications, before it came within --tol; "
            f"--effort {10 * done.ended:g} looks further.",
            stderr=True,
        )
    if anatomy:
        plain_console().print(parts.tables(anatomy, done.found))
    for path in filter(None, (kept, target)):
        say(f"wrote {path}")


def _shown_by(show: Show) -> Callable[[int], Report]:
    """Return the progress report of each search: the spent share of its effort."""

    def search(number: int) -> Report:
        phase = "looking for terms" if number == 1 else "and for other numbers of terms"
        return lambda share: show(phase, round(100 * share), 100)

    return search


def _tolerance(tol: str | None) -> float | Literal["noise"] | None:
    if tol is None:
        return None
    if tol == "noise":
        return "noise"
    try:
        return float(tol)
    except ValueError:
        raise ValueError(f"`tol` is {tol!r}; expected a number, or noise.") from None


def _targets(kernel: str, plot: bool, out: Sequence[Path]) -> tuple[Path | None, Path | None]:
    """Return the targets of terms and picture; None where one is not wanted."""
    terms = [path for path in out if path.suffix.lower() in SUFFIXES]
    pictures = [path for path in out if path not in terms]
    for targets in (terms, pictures):
        if len(targets) > 1:
            raise files.FileError(
                f"`--out {targets[1]}`: `--out {targets[0]}` is its place already; leave one out."
            )
    for path in out:
        if path.suffix.lower() not in (*SUFFIXES, *_FORMATS):
            raise files.FileError(
                f"`--out {path}`: expected a name that ends with {', '.join((*SUFFIXES, *_FORMATS))}."
            )
    picture = _picture(kernel, plot, pictures[0] if pictures else None)
    for path in filter(None, (*terms, picture)):
        check_target(path)
        if same_file(path, Path(kernel)):
            raise files.FileError(f"`--out {path}` is the kernel's own place; give the result another name.")
    return (terms[0] if terms else None), picture


def _picture(kernel: str, plot: bool, out: Path | None) -> Path | None:
    """Return where the picture goes; None where none is wanted, or nothing can draw the one that is."""
    if out is not None:
        anatomy_picture.check_available()
        return out
    if not plot:
        return None
    try:
        anatomy_picture.check_available()
    except MissingExtraError as missing:
        say(f"no picture: {missing}", stderr=True, style="yellow")
        return None
    called = re.match(r"\s*(\w+)", kernel)
    name = Path(kernel).stem if Path(kernel).exists() or called is None else called[1]
    return Path(f"{name}-factors.png")


def facts(done: Study) -> dict[str, Any]:
    """Return a factorisation as plain values."""
    factored = done.found
    return {
        "kernel": done.name,
        "shape": factored.shape,
        "dtype": done.weights.dtype.name,
        "separable": done.separates,
        "dense_macs": factored.size,
        **_cost_and_error(factored),
        "noise": factored.noise,
        "effort_ended": done.ended is not None,
        "terms": [[taps.tolist() for taps in term] for term in factored.terms],
        "offers": [_cost_and_error(kernel) for kernel in done.offers],
    }


def _more_facts(taken: parts.Anatomy, target: Path | None) -> dict[str, Any]:
    return {
        "singular_values": [values.tolist() for values in taken.spectra],
        "curve": [_cost_and_error(kernel) for kernel in taken.curve],
        "picture": str(target) if target else None,
    }


def _cost_and_error(kernel: SeparableKernel) -> dict[str, Any]:
    return {
        "rank": kernel.rank,
        "macs": kernel.macs,
        "l1": kernel.error.l1,
        "relative_l1": kernel.error.relative_l1,
        "relative_l2": kernel.error.relative_l2,
    }
