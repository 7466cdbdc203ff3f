"""scikit-image's tests of its filters, run inside `installed()`, and not green only where listed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from ndimage_suites import check_against_list, not_green, run_suite

TESTS = "skimage.filters.tests"

pytest.importorskip("skimage")
if importlib.util.find_spec(TESTS) is None:
    pytest.skip("this scikit-image (0.26 or newer) comes without its tests", allow_module_level=True)


def test_scikit_images_own_tests(tmp_path: Path) -> None:
    report = run_suite(TESTS, "installed", tmp_path)
    assert len(report.linear) > 200
    if set(report.failed) - not_green("skimage"):
        # Cases that need files from the network fail without us too.
        plain = run_suite(TESTS, "none", tmp_path)
        kept = {case: why for case, why in report.outcomes.items() if case not in plain.failed}
        report = report._replace(outcomes=kept)
    check_against_list(report, "skimage")
