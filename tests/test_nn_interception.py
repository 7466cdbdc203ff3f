"""Modes that look at operators: what they cost before the first one is seen."""

from __future__ import annotations

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from separable.nn.model.interception import Interception  # noqa: E402

WATCHED = """
import sys
import torch
from separable.nn.model.interception import Interception

class Names(Interception):
    seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))

with Names():
    torch.ones(3) + 1
print(Names.seen, "torch._dynamo" in sys.modules)
"""


def test_operators_are_seen_and_no_compiler_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["['aten.ones.default',", "'aten.add.Tensor']", "False"]


def test_control_flow_may_be_run() -> None:
    assert Interception.supports_higher_order_operators
