"""Random networks through the engine: the float64 reference, any number of threads, every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnx")

from engine_random import random_graph

from separable import _core
from separable.engine.graph.ir import Graph
from separable.engine.graph.reference import evaluate
from separable.engine.network.compiled import CompiledNetwork
from separable.engine.passes import simplified

Array = npt.NDArray[Any]

COUNT, PARTS = 300, 10
TARGETS = _core.core_info()["targets"]


def outputs(program: CompiledNetwork, x: Array) -> dict[str, Array]:
    found = program(x)
    return found if isinstance(found, dict) else {program.outputs[0]: found}


def check(graph: Graph, seed: int) -> None:
    """Compare batches of one and of three with the reference, and one thread with two, bit by bit."""
    programs = [CompiledNetwork(graph, simplified(graph), threads=threads) for threads in (1, 2)]
    for batch in (1, 3):
        shape = (batch, *graph.inputs["x"].shape[1:])
        x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
        wanted = evaluate(graph, {"x": x.astype(np.float64)})
        found, again = (outputs(program, x) for program in programs)
        for name, values in wanted.items():
            assert found[name].shape == values.shape
            assert found[name].dtype == np.float32
            np.testing.assert_array_equal(found[name], again[name])
            np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-4 * np.abs(values).max())


@pytest.mark.parametrize("part", range(PARTS))
def test_networks_agree_with_the_reference(part: int) -> None:
    for seed in range(part, COUNT, PARTS):
        try:
            check(random_graph(seed), seed)
        except Exception as error:
            raise AssertionError(f"network {seed}: {error}") from error


@pytest.mark.parametrize("part", range(4))
def test_networks_of_volumes_agree_with_the_reference(part: int) -> None:
    before = _core.core_info()["caches"]
    _core.assume_caches(1 << 12, 1 << 14 if part % 2 else before["l2"], 1 << 20)
    try:
        for seed in range(3000 + part, 3080, 4):
            try:
                check(random_graph(seed, axes=3), seed)
            except Exception as error:
                raise AssertionError(f"network {seed}: {error}") from error
    finally:
        _core.assume_caches(**before)


@pytest.mark.parametrize("target", TARGETS[:-1])
def test_every_instruction_set(target: str) -> None:
    _core.force(target)
    try:
        for seed in range(1000, 1030):
            check(random_graph(seed), seed)
    finally:
        _core.force(None)


@pytest.mark.parametrize("l2", [1 << 12, 1 << 14])
def test_small_caches(l2: int) -> None:
    """Where little fits into a cache, convolutions march through their rows together."""
    before = _core.core_info()["caches"]
    _core.assume_caches(1 << 12, l2, 1 << 20)
    try:
        kinds = set()
        for seed in range(2000, 2100):
            graph = random_graph(seed)
            check(graph, seed)
            program = CompiledNetwork(graph, simplified(graph))
            shape = (1, *graph.inputs["x"].shape[1:])
            kinds.update(operation.kind for operation in program.plan_for(shape).operations)
        assert any(">" in kind for kind in kinds)
    finally:
        _core.assume_caches(**before)


def test_weights_are_packed_anew_for_another_instruction_set() -> None:
    graph = random_graph(3)
    program = CompiledNetwork(graph, simplified(graph))
    x = np.random.default_rng(0).standard_normal((1, *graph.inputs["x"].shape[1:])).astype(np.float32)
    wanted = outputs(program, x)
    try:
        for target in TARGETS:
            _core.force(target)
            for name, values in outputs(program, x).items():
                np.testing.assert_allclose(values, wanted[name], rtol=0, atol=1e-4 * np.abs(values).max())
    finally:
        _core.force(None)
    for name, values in outputs(program, x).items():
        np.testing.assert_array_equal(values, wanted[name])
