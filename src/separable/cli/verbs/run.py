"""``separable run``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ... import files
from ..._base.extras import extra
from ..._base.types import Array
from ...arrays import arguments
from ...files.target import check_target, replacing
from .. import network_tables
from ..networks.network_inputs import GivenFiles
from ..terminal import check_page, naming_model, plain_console, progress, same_file

if TYPE_CHECKING:
    from ...engine.loader import Profile, Program


@dataclass(frozen=True)
class NetworkSetting:
    """How the network is read, as typed."""

    shapes: Sequence[str]
    threads: int | None
    fallback: Literal["onnxruntime"] | None
    precision: Literal["float32", "int8", "bf16"] = "float32"
    calibration: GivenFiles | None = None


def run(
    model: Path,
    given: GivenFiles,
    setting: NetworkSetting,
    out: Path | None,
    *,
    profile: bool,
    html: Path | None,
    as_json: bool,
) -> None:
    """Run a model on files, write or print what it gives, and where the time goes if that is asked for."""
    if setting.threads is not None:
        arguments.thread_count(setting.threads)
    _check_precision(setting)
    paths = (*given.paths, *(() if setting.calibration is None else setting.calibration.paths))
    _check_out(out, (model, *paths))
    check_page(html, model, *paths, *([] if out is None else [out]))
    with progress(True) as show, naming_model(model):
        show("reading", 0, 0)
        program, said = _loaded(model, setting)
        calls = given.calls(model, program.inputs, said)
        show("running", 0, 0)
        results = _results(program, calls.feeds)
        if out is not None:
            _write(out, results)
        profiled = program.profile(calls.feeds[0]) if profile else None
    if html is not None:
        program.to_html(html)
    if as_json:
        facts = _facts(model, given, out, html, results, profiled) | {"beside": calls.said}
        record = program.precision
        print(json.dumps(facts if record is None else facts | {"precision": asdict(record)}))
    else:
        _print(out, html, results, profiled, [*_said_of(program), *(("beside", line) for line in calls.said)])


def _check_precision(setting: NetworkSetting) -> None:
    if setting.precision != "float32" and setting.calibration is None:
        is_int8 = setting.precision == "int8"
        what = "the ranges of its levels are taken" if is_int8 else "its error is known"
        raise files.FileError(
            f"`--precision {setting.precision}` needs `--calibration`: files that are read as the inputs "
            f"are, from which {what}."
        )
    if setting.precision == "float32" and setting.calibration is not None:
        raise files.FileError("`--calibration` belongs to `--precision int8` or `bf16`.")


def _loaded(model: Path, setting: NetworkSetting) -> tuple[Program, dict[str, tuple[int, ...]] | None]:
    """Return the program, and the shapes of its inputs where some were said."""
    with extra("onnx"):
        from ...engine.loader import load
    shapes = list(setting.shapes) or None
    program = load(model, shapes, threads=setting.threads, fallback=setting.fallback)
    kinds = {} if shapes is None else program.plan().inputs
    said = {name: tuple(map(int, kind.shape)) for name, kind in kinds.items()} or None
    if setting.calibration is None:
        return program, said
    calls = setting.calibration.calls(model, program.inputs, said)
    program = load(
        model,
        shapes,
        threads=setting.threads,
        fallback=setting.fallback,
        precision=setting.precision,
        calibration=calls.feeds,
    )
    return program, said


def _said_of(program: Program) -> list[tuple[str, str]]:
    """Return what ran in fewer bits, and its error, as rows of facts."""
    if program.precision is None:
        return []
    from ...report.text.programs import precision_lines

    return [("precision", line.strip()) for line in precision_lines(program.precision)]


def _check_out(out: Path | None, inputs: Sequence[Path]) -> None:
    if out is None:
        return
    if out.suffix not in (".npy", ".npz"):
        raise files.FileError(f"`--out {out}`: expected .npy, or .npz for several outputs.")
    if any(same_file(out, path) for path in inputs):
        raise files.FileError(f"`--out {out}` is an input; give the result another name.")
    check_target(out)


def _results(program: Program, calls: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """Return the outputs by name; those of several calls one after the other along the first axis."""
    given = [program(feeds) for feeds in calls]
    results = [one if isinstance(one, dict) else {program.outputs[0]: one} for one in given]
    if len(results) == 1:
        return results[0]
    return {name: np.concatenate([np.atleast_1d(one[name]) for one in results]) for name in program.outputs}


def _write(out: Path, results: dict[str, Array]) -> None:
    if out.suffix == ".npy" and len(results) > 1:
        names = ", ".join(f"`{name}`" for name in results)
        raise files.FileError(
            f"`--out {out}` holds one array, and the network gives {names}; pass a .npz file."
        )
    with replacing(out) as draft, draft.open("wb") as file:
        if out.suffix == ".npz":
            arrays: dict[str, Any] = dict(results)
            np.savez(file, **arrays)
        else:
            np.lib.format.write_array(file, next(iter(results.values())), allow_pickle=False)


def _print(
    out: Path | None,
    html: Path | None,
    results: dict[str, Array],
    profile: Profile | None,
    said: Sequence[tuple[str, str]],
) -> None:
    console = plain_console()
    rows = list(said)
    rows += network_tables.output_rows(results)
    rows += [("out", str(out))] if out is not None else []
    rows += [("page", str(html))] if html is not None else []
    console.print(network_tables.facts(rows))
    if out is None:
        for name, array in results.items():
            table = network_tables.largest(name, array)
            if table is not None:
                console.print("", table, sep="\n")
    if profile is not None:
        console.print("", network_tables.profiled(profile, console.width), sep="\n")


def _facts(
    model: Path,
    given: GivenFiles,
    out: Path | None,
    html: Path | None,
    results: dict[str, Array],
    profile: Profile | None,
) -> dict[str, Any]:
    return {
        "model": str(model),
        "inputs": [str(path) for path in given.paths],
        "output": None if out is None else str(out),
        "page": None if html is None else str(html),
        "outputs": {name: network_tables.output_facts(array) for name, array in results.items()},
        **({} if profile is None else {"profile": asdict(profile)}),
    }
