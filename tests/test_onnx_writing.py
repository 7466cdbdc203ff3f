"""A model and its data are exchanged as a pair: whenever writing stops, the name stands for a whole model."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models as models  # noqa: E402 (needs onnx and onnxruntime)
from onnx import numpy_helper  # noqa: E402

from separable.onnx.model.files import Stored, read_model, write_model  # noqa: E402

NAME = "m.onnx"


def stored(value: float, external: bool = True) -> Stored:
    """Return a model whose large weights are all one number."""
    net = models.Net()
    x = net.input("x", ["N", 8, 6, 6])
    net.constant("conv.w", np.full((8, 8, 3, 3), value, np.float32))
    net.constant("next.w", np.full((8, 8, 3, 3), value, np.float32))
    model = net.model(net.node("Conv", [net.node("Conv", [x, "conv.w"]), "next.w"]), name=f"of {value}")
    read = read_model(model)
    return Stored(read.proto, read.tensors, external)


def value_of(path: Path) -> float:
    """Return the number that a model's weights are, as onnx reads it; and check that all belong together."""
    model = onnx.load(path)
    onnx.checker.check_model(path)
    numbers = {
        float(each) for tensor in model.graph.initializer for each in numpy_helper.to_array(tensor).flat
    }
    (value,) = numbers
    assert model.graph.name == f"of {value}"
    return value


def files(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


class Stopped(BaseException):
    """Stands for whatever may end a process."""


def stop_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int, after: bool) -> None:
    """Let the n-th call of a function of `os` be the last thing that happens, done or not."""
    function: Callable[..., Any] = getattr(os, name)
    calls = iter(range(1000))

    def stopping(*args: Any, **kwargs: Any) -> Any:
        last = next(calls) == call
        if last and not after:
            raise Stopped
        done = function(*args, **kwargs)
        if last:
            raise Stopped
        return done

    monkeypatch.setattr(os, name, stopping)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("name", "call"), [("replace", 0), ("replace", 1), ("open", 0), ("open", 1), ("unlink", 0)]
)
def test_wherever_it_stops_model_and_data_belong_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int, after: bool
) -> None:
    path = tmp_path / NAME
    write_model(stored(1.0), path)
    with monkeypatch.context() as patch:
        stop_at(patch, name, call, after)
        with contextlib.suppress(Stopped):
            write_model(stored(2.0), path)
    assert value_of(path) in (1.0, 2.0)
    write_model(stored(3.0), path)  # what is left of it is in nobody's way
    assert value_of(path) == 3.0


KILLED = """
import os, sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_onnx_writing import stored
from separable.onnx.model.files import write_model
replace, calls = os.replace, []
def last(*args):
    calls.append(args)
    if {after}:
        replace(*args)
    if len(calls) == {call}:
        os.kill(os.getpid(), 9)
    if not {after}:
        replace(*args)
os.replace = last
write_model(stored(2.0), Path({target!r}))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no process is killed so here")
@pytest.mark.parametrize(("call", "after"), [(1, True), (2, False)])
def test_a_process_that_is_killed_leaves_a_pair(tmp_path: Path, call: int, after: bool) -> None:
    path = tmp_path / NAME
    write_model(stored(1.0), path)
    code = KILLED.format(
        path=[str(Path(__file__).parent), *sys.path], call=call, after=after, target=str(path)
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert value_of(path) == 1.0


def test_data_have_one_of_two_names_and_only_those_of_the_model_stay(tmp_path: Path) -> None:
    path = tmp_path / NAME
    for number, data in ((1.0, f"{NAME}.data"), (2.0, f"{NAME}.2.data"), (3.0, f"{NAME}.data")):
        write_model(stored(number), path)
        assert value_of(path) == number
        assert files(tmp_path) == sorted([NAME, data])
    write_model(stored(4.0, external=False), path)
    assert value_of(path) == 4.0
    assert files(tmp_path) == [NAME]


def test_data_of_others_are_left_alone(tmp_path: Path) -> None:
    """A file that happens to be called so, and the data of a model that was renamed."""
    path = tmp_path / NAME
    (tmp_path / f"{NAME}.data").write_bytes(b"precious")
    write_model(stored(1.0), path)
    assert (tmp_path / f"{NAME}.data").read_bytes() == b"precious"
    path.rename(tmp_path / "kept.onnx")
    path.write_bytes(b"no model")
    write_model(stored(2.0), path)
    assert (value_of(tmp_path / "kept.onnx"), value_of(path)) == (1.0, 2.0)
    assert (tmp_path / f"{NAME}.data").read_bytes() == b"precious"


@pytest.mark.skipif(os.name != "posix", reason="modes as POSIX has them")
def test_modes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / NAME
    write_model(stored(1.0), path)
    path.chmod(0o640)
    (tmp_path / f"{NAME}.data").chmod(0o600)
    write_model(stored(2.0), path)
    assert path.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / f"{NAME}.2.data").stat().st_mode & 0o777 == 0o600


def test_what_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / NAME
    write_model(stored(1.0), path)
    before = files(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("separable.onnx.model.files._write_tensor", full)
    with pytest.raises(OSError, match="space"):
        write_model(stored(2.0), path)
    assert files(tmp_path) == before
    assert value_of(path) == 1.0


def test_small_tensors_alone_need_no_file_of_data(tmp_path: Path) -> None:
    """A model may have kept them in one; there is nothing to put beside it."""
    net = models.Net()
    net.constant("w", np.ones((2, 2, 1, 1), np.float32))
    model = net.model(net.node("Conv", [net.input("x", ["N", 2, 4, 4]), "w"]))
    onnx.save(model, tmp_path / NAME, save_as_external_data=True, location="w.data", size_threshold=0)
    read = read_model(tmp_path / NAME)
    assert read.external
    assert not read.tensors
    write_model(read, tmp_path / "new.onnx")
    assert files(tmp_path) == [NAME, "new.onnx", "w.data"]
    (tensor,) = onnx.load(tmp_path / "new.onnx").graph.initializer
    assert np.array_equal(numpy_helper.to_array(tensor), np.ones((2, 2, 1, 1)))
