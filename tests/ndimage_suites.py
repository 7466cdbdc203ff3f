"""How tests run the tests of other packages on `separable.ndimage`, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings it
    import tomli as tomllib

HERE = Path(__file__).resolve().parent


class Report(NamedTuple):
    """What a run of somebody's tests gave."""

    outcomes: dict[str, str]  # of each case: "passed", "skipped", "failed: last line"
    linear: list[str]  # cases that called a linear filter

    @property
    def failed(self) -> dict[str, str]:
        return {case: outcome for case, outcome in self.outcomes.items() if outcome.startswith("failed")}


def run_suite(tests: str, seam: str, folder: Path) -> Report:
    """Run the tests of an installed package through a seam (see ndimage_seams.py)."""
    file = folder / f"{seam}.json"
    settings = folder / "pytest.ini"  # not ours: their tests warn
    settings.write_text("[pytest]\n", encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "SCIPY_ARRAY_API"}
    environment |= {"SEPARABLE_SEAM": seam, "SEPARABLE_SEAM_REPORT": str(file)}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    options = ["-q", "-c", str(settings), "--rootdir", str(folder), "--tb=line"]
    plugins = ["-p", "ndimage_seams", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--pyargs", tests, *options, *plugins],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout[-2000:] + done.stderr[-2000:]
    report = json.loads(file.read_text(encoding="utf-8"))
    return Report(report["outcomes"], report["linear"])


def not_green(seam: str) -> set[str]:
    """Return the cases listed for a seam."""
    listed = tomllib.loads((HERE / "ndimage_not_green.toml").read_text(encoding="utf-8"))
    for entry in listed[seam]:
        assert entry["reason"].strip(), entry
    return {case for entry in listed[seam] for case in entry["cases"]}


def check_against_list(report: Report, seam: str) -> None:
    """Compare the cases that failed with those listed, both ways."""
    listed = not_green(seam)
    assert {case: why for case, why in report.failed.items() if case not in listed} == {}
    assert sorted(listed & set(report.outcomes) - set(report.failed)) == [], "green now: take off the list"
