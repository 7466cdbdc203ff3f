"""What a conversion may be asked for: anything else is refused before any data are read, in every face."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sp
from separable.conv import convert
from separable.conv.conversion.goal import goal_of

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"budget": 25}, ValueError, r"`budget=25` is not a fraction .* 25 percent is 0.25"),
    (
        {"budget": 1.0001},
        ValueError,
        r"`budget=1.0001` is not a fraction of the cost; expected above 0",
    ),
    ({"budget": 0}, ValueError, "`budget=0` is not a fraction"),
    ({"budget": -0.5}, ValueError, "`budget=-0.5` is not a fraction"),
    ({"budget": math.nan}, ValueError, "`budget=nan` is not a fraction"),
    ({"budget": math.inf}, ValueError, "`budget=inf` is not a fraction"),
    ({"budget": "0.5"}, TypeError, "`budget='0.5'` is not a number"),
    ({"budget": True}, TypeError, "`budget=True` is not a number"),
    ({"max_loss": 0}, ValueError, "`max_loss=0` is no loss that can be allowed; expected above 0"),
    ({"max_loss": -1}, ValueError, "`max_loss=-1` is no loss"),
    ({"max_loss": math.inf}, ValueError, "`max_loss=inf` is no loss"),
    ({"max_loss": math.nan}, ValueError, "`max_loss=nan` is no loss"),
    ({"max_loss": "0.1"}, TypeError, "`max_loss='0.1'` is not a number"),
    ({"max_loss": True}, TypeError, "`max_loss=True` is not a number"),
    ({"max_loss": 0.1, "budget": 0.5}, ValueError, "two goals; pass one"),
    ({"by": "flops"}, ValueError, "`by='flops'` is unknown"),
    ({"forms": "dw-pw"}, TypeError, r"expected a sequence, such as \('dw-pw',\)"),
    ({"forms": 3}, TypeError, "`forms=3` is no sequence"),
    ({"forms": ("cp",)}, ValueError, "`forms` holds 'cp'"),
    ({"forms": ()}, ValueError, r"`forms=\(\)` leaves every layer as it is"),
    ({"forms": ("dense",)}, ValueError, "leaves every layer as it is"),
    ({"rank": 0}, ValueError, "`rank=0` is too small"),
    ({"rank": -2}, ValueError, "`rank=-2` is too small"),
    ({"rank": 1.5}, TypeError, "`rank=1.5` is not a whole number"),
    ({"rank": True}, TypeError, "`rank=True` is not a whole number"),
    ({"rank": "half"}, ValueError, "`rank='half'` is unknown; expected an int or 'full'"),
]
MORE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"skip": "stem.*"}, TypeError, r"`skip='stem.\*'` is no sequence of names"),
    ({"skip": [3]}, TypeError, "`skip` holds 3"),
    ({"runtime": "tensorrt"}, ValueError, "`runtime='tensorrt'` is unknown; expected one of 'engine'"),
    ({"batch": 0}, ValueError, "`batch=0` is too small"),
    ({"batch": 1.5}, TypeError, "`batch=1.5` is not a whole number"),
    ({"memory": -1}, ValueError, "`memory=-1` is too small"),
    ({"memory": 1e9}, TypeError, "`memory=1000000000.0` is not a whole number"),
]


class Unread:
    """Data that nobody may look at."""

    def __iter__(self) -> Any:
        raise AssertionError("the data were read")

    layers = property(__iter__)


@pytest.mark.parametrize(("options", "error", "message"), WRONG)
def test_goals_are_refused_at_once(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        convert(Unread(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["positions", "rounds", "other_macs", "other_params"])
def test_counts_are_whole_numbers(name: str) -> None:
    for value, error in ((-1, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match=f"`{name}="):
            convert(Unread(), **{name: value})  # type: ignore[arg-type]


def test_numbers_of_every_kind_are_taken() -> None:
    for budget in (1, 1.0, np.float32(0.5), np.array(0.25), 1e-9):
        assert goal_of(budget, "macs", forms=["dw-pw"]).budget == float(budget)
    for rank in (1, np.int64(3), np.array(2), "full", None):
        goal_of(0.5, "params", forms={"dw-pw", "dense"}, rank=rank)


def test_goals_that_are_not_said_follow_from_the_others() -> None:
    by_default = goal_of()
    assert (by_default.by, by_default.runtime, by_default.max_loss) == ("time", "engine", 0.005)
    assert goal_of(0.5).max_loss is None
    assert (goal_of(0.5, rank=2).budget, goal_of(rank="full").max_loss) == (None, None)
    older = goal_of(0.5, "latency")
    assert (older.by, older.runtime) == ("time", "onnxruntime")
    assert goal_of(0.5, "latency", runtime="engine").runtime == "engine"


@pytest.mark.parametrize(("options", "error", "message"), [*WRONG, *MORE])
def test_torch_refuses_them_before_it_reads(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(error, match=message):
        sp.nn.separate(torch.nn.Conv2d(3, 8, 3), Unread(), **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        *WRONG,
        *MORE,
        ({"batch_size": 0}, ValueError, "`batch_size=0` is too small"),
        ({"batch_size": 2.0}, TypeError, "`batch_size=2.0` is not a whole number"),
        ({"threads": 0}, ValueError, "`threads=0` is too few"),
        ({"threads": 1.5}, TypeError, "`threads=1.5` is not a whole number"),
    ],
)
def test_onnx_refuses_them_before_it_reads(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(error, match=message):
        sp.onnx.separate("no such file.onnx", Unread(), **options)


def test_audits_refuse_numbers_that_are_none() -> None:
    torch, onnx = pytest.importorskip("torch"), pytest.importorskip("onnx")
    del onnx
    for runs in (0, 1.5, True):
        with pytest.raises((ValueError, TypeError), match="`runs="):
            sp.nn.audit(torch.nn.Conv2d(3, 8, 3), (1, 3, 8, 8), runs=runs)
    with pytest.raises(ValueError, match="`threads=0` is too few"):
        sp.onnx.audit("no such file.onnx", threads=0)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--budget 25", "`--budget 25.0` is not a fraction of the cost"),
        ("--budget 0", "`--budget 0.0` is not a fraction of the cost"),
        ("--budget nan", "`--budget nan` is not a fraction of the cost"),
        ("--batch-size 0", "`--batch-size 0` is too small"),
        ("--threads 0", "`--threads 0` is too few"),
        ("--forms dense", "leaves every layer as it is"),
        ("--forms dw,pw", "`--forms` holds 'dw'"),
        ("--rank 0", "`--rank 0` is no rank"),
    ],
)
def test_the_command_line_refuses_them_before_it_reads(
    option: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    pytest.importorskip("typer")
    from separable.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "separable.onnx.conversion.separate", None)  # not even loaded
    line = f"separate no.onnx --calibration no.npz -o out.onnx {option}"
    with pytest.raises(SystemExit) as left:
        main(line.split())
    assert left.value.code == 2
    assert message in capsys.readouterr().err
