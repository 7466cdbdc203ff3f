"""What notebooks and `plot` show: the facts that are printed, escaped, without scripts, small."""

from __future__ import annotations

import dataclasses
import html
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

import separable as sp
from separable._base.words import html as _html
from separable.conv.audits.records import Layer, Refused
from separable.conv.conversion.records import ConvertedLayer
from separable.report.audits import Audit
from separable.report.conversions import SeparationReport

HOSTILE = "<script>alert('[/x]')</script>\x1b[31m&amp;"
ELEMENTS = {"div", "table", "thead", "tbody", "tr", "th", "td", "svg", "g", "rect", "path"}
VOID = {"rect", "path"}


class Shown(HTMLParser):
    """Reads HTML strictly: known elements, closed in order; keeps the text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        assert tag in ELEMENTS
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attributes)
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.texts.append(text)

    @property
    def words(self) -> set[str]:
        return set(re.findall(r"[^\s,;:]+", " ".join(self.texts)))


def words(text: str) -> set[str]:
    """The words of a printed value, without its rules and marks."""
    return {word for word in re.findall(r"[^\s,;:]+", text) if set(word) - set("-*")}


def layer(name: str) -> Layer:
    shape = (1, 3, 8, 8)
    return Layer(
        name, "conv", "Conv", (f"{name}.weight",), (3, 3), (1, 1), (1, 1), 1, "float32",
        (shape,), shape, 1, 1000, 2000, 81, 4096, 0.1, None,
    )  # fmt: skip


def audit(name: str, layers: int = 2) -> Audit:
    found = tuple(layer(f"{name}{n}") for n in range(layers))
    return Audit(
        name,
        "(1, 3, 8, 8)",
        found,
        162,
        None,
        None,
        ("Exotic",),
        "run once",
        (),
        (Refused(name, "Conv", name),),
    )


def report(name: str) -> SeparationReport:
    layers = (
        ConvertedLayer(name, "dw-pw", 2, 10_000, 2_000, 900, 300, 0.01),
        ConvertedLayer(name, "dense", 0, 5_000, 5_000, 400, 400, 0.0, f"too little: {name}"),
    )
    return SeparationReport("macs", 0.5, layers, 0.02, held_out=3)


KERNELS = {
    "one term": sp.families.gaussian((2.0, 3.0), order=(0, 1)),
    "several": sp.factor(sp.families.disk(9), rank=3),
    "a line": sp.families.gaussian(5, order=2, ndim=1),
    "a volume": sp.families.gaussian((1, 2, 1.5)),
    "zeros": sp.SeparableKernel([[[0.0, 0.0, 0.0], [0.0]]]),
    "one tap": sp.SeparableKernel([[[2.0]]]),
    "huge": sp.SeparableKernel([[np.ones(2001), np.ones(3001)]]),
    "tiny values": sp.SeparableKernel([[[1e-200, 3e-200], [1.0, -1.0]]]),
    "noise": sp.SeparableKernel([[[1.0, 2.0]]], error=sp.KernelError(0.1, 0.033, 0.04), noise=0.02),
}
PLAN = sp.plan(sp.families.gaussian(2.0), (48, 64, 3), "u1", channel_axis=-1)
PRINTED: dict[str, Any] = {
    "plan": PLAN,
    "plan of noise": sp.plan(np.random.default_rng(0).random((5, 5)), (20, 30)),
    "bank": sp.plan([sp.families.gaussian(2, order=(1, 0)), np.ones((3, 3))], (64, 64)),
    "explanation": PLAN.explain(),
    "audit": audit("net"),
    "report": report("conv"),
}


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_kernels(kernel: sp.SeparableKernel) -> None:
    text = kernel._repr_html_()
    assert len(text) < 60_000
    shown = Shown(text)
    assert {str(kernel.rank), str(kernel.macs), str(kernel.size)} <= shown.words
    assert "nan" not in text
    assert text.count("<svg") == kernel.ndim + (kernel.ndim > 1 and kernel.size <= 1 << 20)


@pytest.mark.parametrize("value", PRINTED.values(), ids=PRINTED)
def test_pages_hold_what_is_printed(value: Any) -> None:
    shown = Shown(value._repr_html_())
    assert words(str(value)) <= shown.words
    assert len(value._repr_html_()) < 20_000


@pytest.mark.parametrize("value", [audit(HOSTILE), report(HOSTILE)], ids=["audit", "report"])
def test_names_are_never_markup(value: Any) -> None:
    text = value._repr_html_()
    Shown(text)
    assert "<script" not in text
    assert "\x1b" not in text
    assert html.escape("<script>alert('[/x]')</script>") in text


def test_escaping_of_each_part() -> None:
    parts = [
        _html.block(HOSTILE),
        _html.lines([HOSTILE]),
        _html.facts([(HOSTILE, HOSTILE)]),
        _html.table([HOSTILE, ""], [[HOSTILE], ["1", HOSTILE]], [False, True], [0]),
        _html.side_by_side([(HOSTILE, "")]),
    ]
    for part in parts:
        assert "<script" not in part
        Shown(part)


def test_long_tables_scroll() -> None:
    assert "max-height" in audit("net", 40)._repr_html_()
    assert "max-height" not in audit("net", 4)._repr_html_()


def test_a_plane_is_drawn_by_its_signs() -> None:
    text = _html.plane(np.array([[1.0, -0.5], [0.0, 0.25]]))
    blue, orange = re.findall(r'<g fill="(#\w+)">(.*?)</g>', text)
    assert re.findall(r'x="(\d)" y="(\d)".*?fill-opacity="([.\d]+)"', blue[1]) == [
        ("0", "0", "1"),
        ("1", "1", "0.25"),
    ]
    assert re.findall(r'x="(\d)" y="(\d)".*?fill-opacity="([.\d]+)"', orange[1]) == [("1", "0", "0.5")]


# -- plot -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["one term", "several", "a line", "a volume", "zeros", "noise"])
def test_plot_draws_the_kernel_and_its_taps(name: str) -> None:
    figures = pytest.importorskip("matplotlib.figure")
    kernel = KERNELS[name]
    own = figures.Figure(layout="constrained")
    figure = kernel.plot(own)
    assert figure is own
    lines = [axes for axes in figure.axes if axes.get_title().startswith("taps along axis")]
    assert len(lines) == kernel.ndim
    for axis, axes in enumerate(lines):
        drawn = axes.get_lines()[: kernel.rank]
        for line, term in zip(drawn, kernel.terms, strict=False):
            np.testing.assert_array_equal(line.get_ydata(), term[axis])
            np.testing.assert_array_equal(
                line.get_xdata(), np.arange(kernel.shape[axis]) - kernel.shape[axis] // 2
            )
    images = [image for axes in figure.axes for image in axes.get_images()]
    if kernel.ndim > 1:
        plane = kernel.dense() if kernel.ndim == 2 else kernel.dense()[kernel.shape[0] // 2]
        np.testing.assert_array_equal(images[0].get_array(), plane)
    assert f"{kernel.macs} MACs" in figure.get_suptitle()
    figure.canvas.draw()


def test_plot_makes_its_own_figure() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure = KERNELS["one term"].plot()
    assert plt.fignum_exists(figure.number)
    plt.close(figure)


def test_dataclasses_keep_their_fields() -> None:
    assert "_repr_html_" not in {each.name for each in dataclasses.fields(Audit)}
