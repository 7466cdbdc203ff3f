"""SciPy's own tests of its filters, run on ours through two seams, and not green only where listed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from ndimage_suites import check_against_list, run_suite

TESTS = "scipy.ndimage.tests.test_filters"

pytest.importorskip("scipy")
if importlib.util.find_spec("scipy.ndimage.tests") is None:
    pytest.skip("this SciPy was installed without its tests", allow_module_level=True)


@pytest.mark.parametrize(("seam", "least"), [("public", 1500), ("private", 1500)])
def test_scipys_own_tests(seam: str, least: int, tmp_path: Path) -> None:
    report = run_suite(TESTS, seam, tmp_path)
    check_against_list(report, seam)
    assert len(report.linear) > least
    assert len(report.failed) <= 0.01 * len(report.linear)
    assert set(report.failed) <= set(report.linear)
