"""``separable factor``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final, Literal

from rich.console import Console

from separable import SeparableKernel, files
from separable._extras import MissingExtraError
from separable.files.target import check_target, replacing
from separable.report import anatomy as parts
from separable.report import anatomy_picture, tables
from separable.report.values import Study, study

from . import by_name
from .terminal import naming, same_file

_FORMATS: Final = (".png", ".svg", ".pdf")


def run(
    kernel: str, tol: str | None, rank: int | None, *, plot: bool, out: Path | None, as_json: bool
) -> None:
    """Factor a kernel, print what came of it, and draw it where that is wanted."""
    target = _target(kernel, plot, out)
    with naming(Path(kernel)):
        weights = by_name.read(kernel)
        done = study(kernel, weights, _tolerance(tol), rank)
        taken = parts.anatomy(weights) if plot or out else None
    if taken and target:
        with replacing(target) as beside:
            anatomy_picture.anatomy_page(beside, done, taken, target.suffix.lower()[1:])
    if as_json:
        print(json.dumps(facts(done) | (_more_facts(taken, target) if taken else {})))
        return
    console = Console()
    console.print(tables.factorisation(done))
    if taken:
        console.print(parts.tables(taken, done.found))
    if target:
        console.print(f"wrote {target}", markup=False, highlight=False, soft_wrap=True)


def _tolerance(tol: str | None) -> float | Literal["noise"] | None:
    if tol is None:
        return None
    if tol == "noise":
        return "noise"
    try:
        return float(tol)
    except ValueError:
        raise ValueError(f"`tol` is {tol!r}; expected a number, or noise.") from None


def _target(kernel: str, plot: bool, out: Path | None) -> Path | None:
    """Return where the picture goes; None where none is wanted, or nothing can draw the one that is."""
    if out is None:
        if not plot:
            return None
        try:
            anatomy_picture.check_available()
        except MissingExtraError as missing:
            Console(stderr=True).print(f"no picture: {missing}", style="yellow", markup=False, soft_wrap=True)
            return None
        called = re.match(r"\s*(\w+)", kernel)
        name = Path(kernel).stem if Path(kernel).exists() or called is None else called[1]
        out = Path(f"{name}-factors.png")
    anatomy_picture.check_available()
    if out.suffix.lower() not in _FORMATS:
        raise files.FileError(f"`--out {out}`: expected a name that ends with {', '.join(_FORMATS)}.")
    check_target(out)
    if same_file(out, Path(kernel)):
        raise files.FileError(f"`--out {out}` is the kernel's own place; give the picture another name.")
    return out


def facts(done: Study) -> dict[str, Any]:
    """Return a factorisation as plain values."""
    found = done.found
    return {
        "kernel": done.name,
        "shape": found.shape,
        "dtype": done.weights.dtype.name,
        "separable": done.separates,
        "dense_macs": found.size,
        **_cost_and_error(found),
        "noise": found.noise,
        "terms": [[taps.tolist() for taps in term] for term in found.terms],
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
