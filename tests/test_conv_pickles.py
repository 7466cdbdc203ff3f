"""Pickles of earlier versions name modules that have moved: what they hold is found all the same."""

from __future__ import annotations

import importlib
import pickle

import pytest

import separable
from separable._base.moved import MOVED
from separable.conv import ConversionReport, ConvertedLayer, Option

# What pickles of results name, and the extra that it takes to load that.
PICKLED = [
    ("separable.conv.records", "ConvertedLayer", None),
    ("separable.conv.records", "Option", None),
    ("separable.conv.machine", "Machine", None),
    ("separable.conv.separability", "Separability", None),
    ("separable.report.audits", "Audit", None),
    ("separable.report.audits", "Layer", None),
    ("separable.report.audits", "Refused", None),
    ("separable.report.conversions", "SeparationReport", None),
    ("separable.nn._assembly", "SelectChannels", "torch"),
    ("separable.nn.layers", "DepthwiseSeparableConv2d", "torch"),
    ("separable.nn.layers", "SpatiallySeparableConv3d", "torch"),
]


@pytest.mark.parametrize(("module", "name", "needed"), PICKLED)
def test_old_names_lead_to_the_classes(module: str, name: str, needed: str | None) -> None:
    if needed:
        pytest.importorskip(needed)
    found = pickle.loads(f"c{module}\n{name}\n.".encode())
    assert isinstance(found, type)
    assert found.__name__ == name
    assert found.__module__.startswith("separable.")


def test_a_report_survives_under_its_old_names() -> None:
    layer = ConvertedLayer("a", "dw-pw", 2, 10, 5, 4, 3, 0.1, options=(Option("dw-pw", 2, 5, 0.1, 0.1),))
    report = ConversionReport("macs", 0.5, (layer,), 0.1)
    old = pickle.dumps(report, 0).replace(b"separable.conv.conversion.records", b"separable.conv.records")
    assert b"separable.conv.records" in old
    assert pickle.loads(old) == report


def test_every_module_that_moved_is_there() -> None:
    assert separable.__name__ == "separable"
    for new in MOVED.values():
        if not new.startswith("nn."):
            importlib.import_module(f"separable.{new}")
