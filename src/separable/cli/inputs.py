"""Inputs and targets of `filter`: one file into another, or any number of them into a directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import files
from .terminal import same_file


@dataclass(frozen=True)
class FileJob:
    """One file and the target of its result."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Work:
    """All jobs of one call.

    Attributes
    ----------
    jobs : tuple of FileJob
    directory : Path, optional
        Where the results of several files go.
    """

    jobs: tuple[FileJob, ...]
    directory: Path | None = None

    @property
    def several(self) -> bool:
        """Whether the results go into a directory, however many there are."""
        return self.directory is not None

    def make_directory(self) -> None:
        """Make the directory if it is missing.

        Raises
        ------
        FileError
        """
        if self.directory is None:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.FileError(f"`--out {self.directory}` cannot be made: {error.strerror}.") from error
        for job in self.jobs:
            files.check_target(job.target)


def jobs(paths: Sequence[Path], out: Path | None) -> Work:
    """Return the files with their targets, each checked before any work is done.

    Without `out` the paths are IN and OUT. With it they are all inputs, and `out` is a directory, or, for one
    input, a file if its suffix names a format and it is no directory.

    Raises
    ------
    ValueError
        If the paths are not one IN and one OUT.
    FileError
        If a target cannot be written, if two inputs have one target, or if a target is an input.
    """
    if out is None:
        if len(paths) != 2:
            raise ValueError(
                "OUT is missing; expected IN OUT, or -o DIR."
                if len(paths) < 2
                else f"{len(paths)} files without -o; expected IN OUT, or -o DIR for several files."
            )
        files.check_target(paths[1])
        return Work((FileJob(*paths),))
    if len(paths) == 1 and not out.is_dir() and files.has_format(out):
        files.check_target(out)
        return Work((FileJob(paths[0], out),))
    file_jobs = tuple(FileJob(path, out / path.name) for path in paths)
    _check_names(file_jobs)
    if out.is_dir():
        for job in file_jobs:
            files.check_target(job.target)
    elif out.exists():
        raise files.FileError(f"`--out {out}` is no directory; several files go into one.")
    else:
        for job in file_jobs:
            files.check_suffix(job.target)
    return Work(file_jobs, out)


def _check_names(file_jobs: Sequence[FileJob]) -> None:
    first: dict[str, FileJob] = {}
    for job in file_jobs:
        # Names that differ in case alone are one file on many systems.
        other = first.setdefault(job.target.name.casefold(), job)
        if other is not job:
            raise files.FileError(
                f"`{other.source}` and `{job.source}` would both be written as `{job.target}`; "
                "filter them into two directories."
            )
        if not job.target.exists():
            continue
        over = next((item.source for item in file_jobs if same_file(job.target, item.source)), None)
        if over is not None:
            raise files.FileError(
                f"`{over}` is an input and would be overwritten; give --out another directory."
            )
