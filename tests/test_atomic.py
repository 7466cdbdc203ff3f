"""Writing a file in one step: what is left when the process is killed, or the disk is full."""

from __future__ import annotations

import errno
import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from separable._base import atomic as _atomic
from separable._base.atomic import WriteError, replacing

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals, permissions and limits as POSIX has them")
PROC = pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="unnamed files as Linux has them")


@pytest.fixture(params=["unnamed", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to write: where the system has unnamed files, and where it has none."""
    if request.param == "named":
        monkeypatch.setattr(_atomic, "_unnamed", lambda folder: None)
    return str(request.param)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(path: Path, failure: BaseException) -> None:
    with replacing(path) as draft:
        draft.write_text("half")
        raise failure


# -- what a block leaves -----------------------------------------------------------------------------


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ["a.npy", "x" * 255, "Größe [red].tif"])
def test_a_file_appears_whole_and_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for text in ("first", "the second, which is longer", "3"):
        with replacing(path) as draft:
            assert not path.exists() or path.read_text() != text
            draft.write_text(text)
        assert path.read_text() == text
        assert names(tmp_path) == [name]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt(), SystemExit(143), MemoryError()])
@pytest.mark.parametrize("before", ["before", None])
def test_a_block_that_fails_changes_nothing(
    tmp_path: Path, failure: BaseException, before: str | None
) -> None:
    path = tmp_path / "a.npy"
    if before:
        path.write_text(before)
    with pytest.raises(type(failure)):
        write_half(path, failure)
    assert names(tmp_path) == (["a.npy"] if before else [])
    assert not before or path.read_text() == before


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_step_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a.npy"
    path.write_text("before")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, call, interrupt)
    with pytest.raises(KeyboardInterrupt), replacing(path) as draft:
        draft.write_text("whole")
    assert names(tmp_path) == ["a.npy"]
    assert path.read_text() == "before"


@pytest.mark.usefixtures("way")
def test_a_writer_that_takes_another_name_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(RuntimeError, match=r"nothing was written.*a\.npz"), replacing(path):
        pass
    assert names(tmp_path) == []


@pytest.mark.usefixtures("way")
def test_the_file_is_on_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    sync, rename = os.fsync, os.replace

    def recorded_sync(handle: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    def recorded_rename(source: Path, target: Path) -> None:
        steps.append("name")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(os, "replace", recorded_rename)
    with replacing(tmp_path / "a.npy") as draft:
        draft.write_text("whole")
    assert steps == (["file", "name", "folder"] if os.name == "posix" else ["file", "name"])


@POSIX
@pytest.mark.usefixtures("way")
def test_permissions_are_kept_and_new_ones_are_the_usual(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        for path, mode in ((tmp_path / "old", 0o604), (tmp_path / "new", None)):
            if mode is not None:
                path.touch()
                path.chmod(mode)
            with replacing(path) as draft:
                draft.write_text("whole")
            assert path.stat().st_mode & 0o7777 == (0o640 if mode is None else mode)
    finally:
        os.umask(umask)


@POSIX
@pytest.mark.usefixtures("way")
def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link, real = tmp_path / "link", tmp_path / "real" / "a.npy"
    link.symlink_to(real)
    for text in ("made", "replaced"):  # through a link that leads nowhere yet, and to a file
        with replacing(link) as draft:
            draft.write_text(text)
        assert link.is_symlink()
        assert real.read_text() == text
    assert names(tmp_path / "real") == ["a.npy"]


@pytest.mark.usefixtures("way")
def test_a_folder_that_is_missing_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "no" / "a.npy"):
        pytest.fail("the block ran")


@PROC
def test_where_an_unnamed_file_gets_no_name_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a.npy"
    path.touch(mode=0o604)
    path.chmod(0o604)
    with replacing(path) as draft:
        draft.write_text("whole")
    assert path.read_text() == "whole"
    assert path.stat().st_mode & 0o777 == 0o604
    assert names(tmp_path) == ["a.npy"]


# -- processes that are killed -----------------------------------------------------------------------

_WRITER = """
import sys, time
from pathlib import Path
from separable._base import atomic as _atomic
if sys.argv[2] == "named":
    _atomic._unnamed = lambda folder: None
with _atomic.replacing(Path(sys.argv[1])) as draft, draft.open("wb") as file:
    file.write(b"half" * 100_000)
    file.flush()
    print("ready", flush=True)
    time.sleep(60)
"""


class Writer:
    """A process in the middle of a write."""

    def __init__(self, path: Path, way: str) -> None:
        command = [sys.executable, "-c", _WRITER, str(path), way]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def writers() -> Iterator[list[Writer]]:
    started: list[Writer] = []
    yield started
    for writer in started:
        if writer.process.poll() is None:
            writer.kill()


@PROC
@pytest.mark.parametrize("before", ["before", None])
def test_a_killed_process_leaves_nothing(tmp_path: Path, writers: list[Writer], before: str | None) -> None:
    path = tmp_path / "a.npy"
    if before:
        path.write_text(before)
    writers.append(Writer(path, "unnamed"))
    assert names(tmp_path) == (["a.npy"] if before else [])
    writers[0].kill()
    assert names(tmp_path) == (["a.npy"] if before else [])
    assert not before or path.read_text() == before


@POSIX
def test_drafts_of_the_dead_are_removed_and_named_those_of_the_living_stay(
    tmp_path: Path, writers: list[Writer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_atomic, "_unnamed", lambda folder: None)
    writers += [Writer(tmp_path / name, "named") for name in ("dead.npy", "alive.npy")]
    writers[0].kill()
    alien = tmp_path / ".separable-notes.part"
    alien.write_text("another's")
    before = set(names(tmp_path))
    with caplog.at_level(logging.WARNING, "separable"), replacing(tmp_path / "new.npy") as draft:
        draft.write_text("whole")
    gone = before - set(names(tmp_path))
    assert len(gone) == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"removed `{tmp_path / gone.pop()}`: a process that was killed had left it behind."
    ]
    assert alien.exists()
    writers[1].kill()  # it was alive
    assert (tmp_path / "new.npy").read_text() == "whole"


@POSIX
def test_a_link_that_looks_like_a_draft_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_atomic, "_unnamed", lambda folder: None)
    other = tmp_path / "other"
    other.write_text("another's")
    (tmp_path / ".separable-0123456789abcdef.part").symlink_to(other)
    with replacing(tmp_path / "a.npy") as draft:
        draft.write_text("whole")
    assert len(names(tmp_path)) == 3
    assert other.read_text() == "another's"


# -- disks that are full -----------------------------------------------------------------------------


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("number", "reason"), [("ENOSPC", "the disk is full"), ("EDQUOT", "quota is used up"), ("EIO", "reports")]
)
@pytest.mark.parametrize("masked", [False, True])
def test_the_error_of_a_disk_names_the_file(tmp_path: Path, number: str, reason: str, masked: bool) -> None:
    path = tmp_path / "a.npy"
    code = getattr(errno, number)
    failure: Exception = OSError(code, os.strerror(code))
    if masked:  # as an encoder in C++ does it
        failure, failure.__context__ = RuntimeError("failed writing file"), failure
    with pytest.raises(WriteError, match=rf"`.*a\.npy` cannot be written: .*{reason}") as caught:
        write_half(path, failure)
    assert caught.value.errno == code
    assert "Errno" not in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.usefixtures("way")
def test_the_innermost_file_is_named(tmp_path: Path) -> None:
    outer, inner = tmp_path / "model", tmp_path / "model.data"

    def write_both() -> None:
        with replacing(outer) as draft:
            draft.write_text("whole")
            write_half(inner, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    with pytest.raises(WriteError, match=r"model\.data` cannot"):
        write_both()
    assert names(tmp_path) == []


def test_errors_of_other_files_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.npy"):
        (tmp_path / "no.npy").read_bytes()
    with pytest.raises(OSError, match=r"^came out short$"):  # but the disk has room
        write_half(tmp_path / "a.npy", OSError("came out short"))


_LIMITED = """
import importlib.util, resource, sys
from pathlib import Path
import numpy as np
from separable import files
from separable._base import atomic as _atomic
folder = Path(sys.argv[1])
noise = np.random.default_rng(0).integers(0, 255, (3, 200, 100)).astype(np.uint8)
images = {name: files.Image(noise, "ZYX", (None,) * 3) for name in ("a.npy", "a.tif", "a.nii", "a.nii.gz")}
images |= {name: files.Image(noise.reshape(300, 200), "YX", (None,) * 2) for name in ("a.png", "a.jpg")}

def attempt(name, write):
    (folder / name).write_text("before")
    try:
        write(folder / name)
    except _atomic.WriteError as error:
        print(error)
    else:
        print(name, "was written")

def checkpoint(path):
    with _atomic.replacing(path) as draft, draft.open("wb") as stream:
        torch.save({"x": torch.zeros(100_000)}, stream)

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
for name, image in images.items():
    attempt(name, lambda path: files.write(path, image))
if importlib.util.find_spec("torch"):
    import torch
    attempt("checkpoint", checkpoint)
"""


@POSIX
def test_every_writer_names_the_file_that_found_no_room(tmp_path: Path) -> None:
    for module in ("tifffile", "nibabel", "PIL"):
        pytest.importorskip(module)
    command = [sys.executable, "-c", _LIMITED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(names(tmp_path))
    for name in names(tmp_path):
        assert any(f"{name}` cannot be written: the file would be larger than" in line for line in lines)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"before"}
