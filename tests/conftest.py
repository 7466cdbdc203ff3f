"""What all tests share: how hypothesis runs, no measured rates of this machine, and the command line."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Done, Run
from hypothesis import settings

# A machine under load is no reason for a property to fail.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# The workers of a run share the cores: threads of BLAS that spin while they wait would take them away. Torch
# takes as many as OpenMP; its compiler would start a process with all of torch in it for every core.
for library in ("OPENBLAS", "MKL", "OMP"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

# Plans choose by the rates that come with the package, here and in processes that tests start.
os.environ["SEPARABLE_CACHE_DIR"] = os.devnull

from separable import _core  # noqa: E402 (it reads what is set above)

# What these make once is dear: each stays on one worker.
TOGETHER = (
    "tests/test_demo.py",
    "tests/test_docs_site.py",
    "tests/test_nn_distill.py",
    "tests/test_wheel.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Spread single tests over the workers, but for the files of `TOGETHER`."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((path for path in TOGETHER if nodeid.startswith(path)), nodeid)

    return Scheduling(config, log) if config.getoption("dist") == "load" else None


@pytest.fixture(autouse=True)
def small_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing but the library were loaded: what tests leave in memory counts in plans of streams."""
    monkeypatch.setattr("separable.stream.slabs.resident", lambda: 100 << 20)


@pytest.fixture(params=_core.core_info()["targets"])
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on each instruction set that this machine has."""
    _core.force(request.param)
    yield request.param
    _core.force(None)


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run the command, given a list of arguments, in an empty directory and a terminal of 80 columns."""
    from separable.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    # On a machine under load no run is short enough to be silent about its phases.
    monkeypatch.setattr("separable.cli.terminal._SILENCE", 1e6)
    handler = signal.getsignal(signal.SIGTERM)

    def call(arguments: list[str]) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(arguments)
        out, err = capsys.readouterr()
        return Done(int(left.value.code or 0), out, err)

    yield call
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def run(command: Run) -> Run:
    """Run the command, given its arguments, in an empty directory and a terminal of 80 columns."""
    return lambda *arguments: command([str(argument) for argument in arguments])
