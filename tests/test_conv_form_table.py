"""What every form answers, each answer held against another; and that all lists of forms are the table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_loss import Chain

import separable
import separable.report.pages
from separable.conv import ConvLayer, convert, fit
from separable.conv.audits.separability import separability
from separable.conv.conversion.goal import goal_of
from separable.conv.forms.form import ConvPart, balanced, sequence
from separable.conv.forms.layer import Replacement
from separable.conv.forms.low_rank import LOW_RANK
from separable.conv.forms.table import BASELINE, CHEAPER, FORMS, MULTIPLIED, UNCHANGED, form_of, is_dense
from tests.conv_layers import layers

Names = st.sampled_from(tuple(FORMS))


@given(layer=layers(), name=Names, rank=st.integers(1, 30))
@settings(max_examples=120, deadline=None)
def test_a_cost_is_that_of_the_convolutions(layer: ConvLayer, name: str, rank: int) -> None:
    form = FORMS[name]
    assert form.applies(layer) == (form.full_rank(layer) > 0)
    if not form.applies(layer):
        return
    parts, convs = form.parts(layer, rank), form.convs(layer, rank, layer.weights, layer.bias)
    assert tuple(part.name for part in parts) == form.names(len(parts))
    assert [part.shape(layer) for part in parts] == [conv.weights.shape for conv in convs]
    # Counted here once more, from arrays.
    counted = [conv.sizes if conv.transposed else conv.out_sizes for conv in convs]
    macs = sum(
        conv.weights.size * int(np.prod(sizes)) * conv.calls
        for conv, sizes in zip(convs, counted, strict=True)
    )
    biases = layer.c_out if form.ranked or layer.bias is not None else 0
    cost = form.cost(layer, rank)
    assert (cost.macs, cost.params) == (macs, sum(conv.weights.size for conv in convs) + biases)
    assert convs[-1].out_sizes == layer.out_sizes


@given(layer=layers(), name=Names, more=st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_the_full_rank_says_all_and_more_is_no_more(layer: ConvLayer, name: str, more: int) -> None:
    form = FORMS[name]
    most = form.full_rank(layer)
    if not most:
        return
    convs = form.convs(layer, most + more, layer.weights, layer.bias)
    scale = float(np.abs(layer.weights).max())
    dense = form.composed(layer, most, convs)
    np.testing.assert_allclose(dense, layer.weights, atol=1e-9 * scale)
    assert form.cost(layer, most + more) == form.cost(layer, most)


@given(layer=layers(), name=Names, rank=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_chains_add_up_to_the_convolutions(layer: ConvLayer, name: str, rank: int) -> None:
    form = FORMS[name]
    if not form.applies(layer):
        return
    count = form.limited(layer, rank)
    convs = form.convs(layer, count, layer.weights, layer.bias)
    chains = form.chains(convs, count)
    assert len(chains) == (count if form.multiplies else 1)
    x = np.random.default_rng(0).standard_normal((2, layer.c_in, *layer.sizes))
    whole = Replacement(name, count, convs, 0.0)(x)
    terms = [Replacement(name, 1, chain, 0.0)(x) for chain in chains]
    np.testing.assert_allclose(sum(terms), whole, atol=1e-9 * float(np.abs(whole).max() + 1))


@given(layer=layers(), name=st.sampled_from(CHEAPER))
@settings(max_examples=60, deadline=None)
def test_cuts_have_the_rank_of_the_form(layer: ConvLayer, name: str) -> None:
    form = FORMS[name]
    if not form.applies(layer):
        return
    made = form.composed(layer, 1, form.convs(layer, 1, layer.weights, layer.bias))
    for cut in form.cuts(layer, made):
        assert np.linalg.matrix_rank(cut, tol=1e-8 * float(np.abs(made).max() + 1)).max() <= 1


# -- the lists -----------------------------------------------------------------------------------------------


def test_what_follows_from_the_table() -> None:
    assert [form.name for form in FORMS.values()] == list(FORMS)
    assert [UNCHANGED, *CHEAPER] == list(FORMS)
    assert {BASELINE, *MULTIPLIED} <= set(CHEAPER)
    assert is_dense(UNCHANGED)
    assert not any(map(is_dense, CHEAPER))
    with pytest.raises(ValueError, match=", ".join(map(repr, FORMS))):
        form_of("none")


def forms_said(function: Any, parameter: str) -> set[str]:
    """Return the names in quotes that a docstring has for a parameter."""
    text = re.search(rf"^    {parameter} : (.*?)(?=^    \S)", function.__doc__, re.MULTILINE | re.DOTALL)
    assert text is not None
    return set(re.findall(r'"([\w-]+)"', text[1]))


def test_docstrings_name_all_forms_and_no_other() -> None:
    assert forms_said(fit, "form") == set(FORMS)
    assert forms_said(goal_of, "forms") == set(FORMS)
    assert forms_said(Replacement, "form") == set(FORMS)
    for framework in ("torch", "onnx"):
        pytest.importorskip(framework)
        package = getattr(separable, {"torch": "nn", "onnx": "onnx"}[framework])
        assert forms_said(package.separate, "forms") - {UNCHANGED} == set(CHEAPER)


def test_the_command_line_and_the_pages_know_all_forms() -> None:
    pytest.importorskip("typer")
    options = Path(separable.__path__[0], "cli", "options.py").read_text(encoding="utf-8")
    assert f"Of {', '.join(CHEAPER)}." in options
    style = Path(separable.report.pages.__path__[0], "page.css").read_text(encoding="utf-8")
    for name in FORMS:
        assert style.count(f"--{name}: #") == 2, name  # by day and by night
        assert f".{name} {{ --mark: var(--{name}); }}" in style


# -- a new one -----------------------------------------------------------------------------------------------


class Halved(type(LOW_RANK)):  # type: ignore[misc]
    """The bottleneck with names of its own: what someone would write who adds a form."""

    name = "halved"

    def names(self, count: int) -> tuple[str, ...]:
        return "in", "out"

    def parts(self, layer: ConvLayer, rank: Any) -> tuple[ConvPart, ...]:
        first, last = super().parts(layer, rank)
        return first, last

    def convs(self, layer: ConvLayer, rank: Any, weights: Any, bias: Any) -> tuple[ConvLayer, ...]:
        (flat,) = self.cuts(layer, weights)
        last, first = balanced(flat, self.limited(layer, rank))
        return sequence(layer, self.parts(layer, rank), (first, last), bias)

    def gains(self, layer: ConvLayer, problem: Any) -> None:
        """Of this one nothing is known: it is fitted."""


def test_a_new_form_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMS, "halved", Halved())
    network = Chain()
    report = convert(network, 0.6, forms=("halved",)).report
    assert {row.form for row in report.layers} == {UNCHANGED, "halved"} or report.layers[0].form == "halved"
    assert report.macs_after <= 0.6 * report.macs_before
    assert "halved" in str(report)
    new = fit(network.layers[0], form="halved", rank=2)
    assert [conv.name for conv in new.convs] == ["c0/in", "c0/out"]
    judged = separability(network.layers[0])
    assert judged is not None


@pytest.mark.parametrize("framework", ["torch", "onnx"])
def test_a_new_form_is_written_by_both_frameworks(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(framework)
    separate = separable.nn.separate if framework == "torch" else separable.onnx.separate  # with its defaults
    monkeypatch.setitem(FORMS, "halved", Halved())
    images = np.random.default_rng(0).standard_normal((24, 3, 12, 12)).astype(np.float32)
    if framework == "torch":
        import torch
        from torch import nn

        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3)).eval()
        done = separate(net, torch.from_numpy(images), rank=2, forms=("halved",))
        names = {name for name, _ in done.model.named_modules()}
        assert {"2.conv_0", "2.conv_1"} <= names
    else:
        models = pytest.importorskip("onnx_models")
        model = models.vgg()
        result = separate(model, images, rank=2, forms=("halved",))
        names = {node.name.rpartition("/")[2] for node in result.model.graph.node}
        assert {"in", "out"} <= names


def test_matrices_of_low_rank_are_split_as_by_their_whole_svd() -> None:
    rng = np.random.default_rng(0)
    low = rng.standard_normal((2, 90, 5)) @ rng.standard_normal((2, 5, 120))
    full = low + 1e-3 * rng.standard_normal(low.shape)
    small_beside_large = np.stack([1e9 * low[0], full[1]])
    for matrices in (low, full, small_beside_large, np.zeros_like(low)):
        left, right = balanced(matrices, 5)
        u, values, v = np.linalg.svd(matrices, full_matrices=False)
        wanted = (u[..., :5] * values[:, np.newaxis, :5]) @ v[:, :5]
        size = np.linalg.norm(matrices, axis=(1, 2))
        assert (np.linalg.norm(left @ right - wanted, axis=(1, 2)) <= 2e-6 * size).all()
        assert np.allclose(np.linalg.norm(left, axis=(1, 2)), np.linalg.norm(right, axis=(1, 2)))
