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
import separable as sp
from separable.nn.model.interception import Interception

class Names(Interception):
    seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))

with Names():
    torch.ones(3) + 1
layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3), torch.nn.Conv2d(8, 8, 3)]
model, x = torch.nn.Sequential(*layers).eval(), torch.randn(32, 3, 12, 12)
sp.nn.separate(model, x, 0.5, by="macs", progress=False)
print(Names.seen, "torch._dynamo" in sys.modules)
"""


def test_operators_are_seen_and_a_small_network_converted_without_the_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["['aten.ones.default',", "'aten.add.Tensor']", "False"]


def test_control_flow_may_be_run() -> None:
    assert Interception.supports_higher_order_operators
