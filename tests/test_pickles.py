"""Pickles of an earlier version load: they name modules, classes and functions where these were then.

`old_pickles.json` holds what the version before modules were put into rooms made of these values.
"""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sp
from separable._base.moved import MOVED

OLD = json.loads((Path(__file__).with_name("old_pickles.json")).read_text(encoding="utf-8"))
X = np.random.default_rng(0).random((40, 50)).astype(np.float32)


def old(name: str) -> Any:
    return pickle.loads(base64.b64decode(OLD[name]))


def test_kernels() -> None:
    kernel, again = old("kernel"), sp.families.gaussian(2)
    assert (kernel.shape, kernel.rank) == (again.shape, again.rank)
    # Exponentials differ in their last bit from processor to processor.
    np.testing.assert_allclose(kernel.dense(), again.dense(), rtol=1e-14)
    assert old("off").error == old("error")
    assert isinstance(old("error"), sp.KernelError)


def test_plans_run_as_they_did() -> None:
    kernel = sp.families.gaussian(2)
    np.testing.assert_array_equal(old("plan")(X), sp.plan(kernel, X.shape)(X))
    np.testing.assert_array_equal(old("adjoint")(X), sp.plan(kernel, X.shape).adjoint()(X))
    both = [kernel, sp.families.gaussian(2, order=(0, 1))]
    np.testing.assert_array_equal(old("bank")(X), sp.plan(both, X.shape)(X))


@pytest.mark.parametrize(
    ("name", "kernel"), [("disk", sp.families.disk(9)), ("rec", sp.families.gaussian(60))]
)
def test_plans_run_by_what_was_chosen_then(name: str, kernel: Any) -> None:
    plan = old(name)
    x = np.random.default_rng(1).random(plan.shape).astype(plan.dtype)
    again = sp.plan(kernel, plan.shape, tol=1e-2, method=plan.method)
    np.testing.assert_allclose(plan(x), again(x), atol=1e-5)
    assert plan.method in str(plan.explain())
    assert pickle.loads(pickle.dumps(plan)).method == plan.method


def test_words() -> None:
    assert old("explain").method in str(old("explain"))


@pytest.mark.parametrize("name", ["report", "audit", "state"])
def test_networks(name: str) -> None:
    pytest.importorskip("torch")
    value = old(name)
    assert str(value)
    if name == "state":
        assert isinstance(value, sp.nn.DepthwiseSeparableConv2d)


@pytest.mark.parametrize("name", MOVED)
def test_old_names_are_imported_by_whoever_comes_first(name: str) -> None:
    if name.startswith(("nn", "report", "conv.machine", "conv.separability")):
        pytest.importorskip("torch")
    code = f"import importlib, separable; print(importlib.import_module('separable.{name}').__doc__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert MOVED[name] in done.stdout
