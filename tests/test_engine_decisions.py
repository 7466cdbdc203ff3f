"""Which inputs decide what is planned: those that shapes and branches need, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import parser  # noqa: E402 (needs onnx)

import separable as sp  # noqa: E402
from separable.engine.graph.decisions import decisions  # noqa: E402
from separable.engine.network.division import ArrayPart  # noqa: E402

Array = npt.NDArray[Any]


def network(inputs: str, outputs: str, held: str, nodes: str) -> Any:
    return parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]> net ({inputs}) => ({outputs}) <{held}> {{ {nodes} }}'
    )


def agree(model: Any, *calls: dict[str, Array]) -> Any:
    """Return the program of a model, each call of which gives what ONNX Runtime gives, of the same types."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    program = sp.engine.load(model, threads=1)
    for feeds in calls:
        made = program(feeds)
        results = made if isinstance(made, dict) else {program.outputs[0]: made}
        for name, expected in zip(program.outputs, session.run(list(program.outputs), feeds), strict=True):
            assert results[name].dtype == expected.dtype
            np.testing.assert_allclose(results[name], expected, rtol=1e-5, atol=1e-6)
    return program


def counted(*times: int, **others: Array) -> list[dict[str, Array]]:
    return [{**others, "t": np.array([t], np.int64)} for t in times]


X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
ONE = "int64[1] one = {1}, int64[1] zero = {0}, int64[1] two = {2}"
TABLE = "float[4, 3] table = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}"


def test_a_counter_is_data() -> None:
    model = network(
        "float[4, 3] x, int64[1] t",
        "float[1, 3] y, float[4, 3] z, int64[1] next",
        f"{ONE}, {TABLE}",
        "row = Gather(x, t)  y = Relu(row)  own = Gather(table, t)  z = Mul(own, x)  next = Add(t, one)",
    )
    program = agree(model, *counted(0, 3, -1, 2, x=X))
    assert not program.depends_on_values
    assert len(program._plans) == 1
    assert "NumPy: " in str(program)


def test_whole_numbers_beyond_those_of_float32_are_exact() -> None:
    model = network(
        "float[4, 3] x, int64[1] t", "float[4, 3] y, int64[1] next", ONE, "y = Relu(x)  next = Add(t, one)"
    )
    program = sp.engine.load(model)
    assert program(counted(2**53 + 1, x=X)[0])["next"] == 2**53 + 2


def test_a_row_that_is_not_there_is_an_error_that_names_the_node() -> None:
    model = network("float[4, 3] x, int64[1] t", "float[1, 3] y", ONE, "y = Gather(x, t)")
    program = sp.engine.load(model)
    with pytest.raises(ValueError, match=r"node `y` \(Gather\) cannot be computed: IndexError"):
        program(counted(4, x=X)[0])


def test_token_numbers_choose_rows_of_a_table() -> None:
    model = network(
        "int64[N, L] tokens", "float[N, L, 3] y", TABLE, "rows = Gather(table, tokens)  y = Tanh(rows)"
    )
    random = np.random.default_rng(1)
    calls = [{"tokens": random.integers(0, 4, (2, length))} for length in (5, 5, 7)]
    program = agree(model, *calls)
    assert len(program._plans) == 2


def test_of_a_condition_the_answer_decides_and_not_the_number() -> None:
    model = network(
        "float[4, 3] x, int64[1] t",
        "float[4, 3] y, int64[1] next",
        ONE,
        """late = Greater(t, two)  which = Squeeze(late)  next = Add(t, one)
        y = If(which) <then_branch = a () => (float[4, 3] p) { p = Relu(x) },
                       else_branch = b () => (float[4, 3] q) { q = Neg(x) }>""",
    )
    program = agree(model, *counted(0, 1, 2, 3, 4, 5, x=X))
    assert program.depends_on_values
    assert len(program._plans) == 2


def test_what_a_branch_captures_decides_if_a_shape_needs_it() -> None:
    model = network(
        "float[4, 3] x, int64[1] t, bool which",
        "float[N, 3] y",
        ONE,
        """y = If(which) <then_branch = a () => (float[N, 3] p) { p = Slice(x, zero, t) },
                          else_branch = b () => (float[N, 3] q) { q = Neg(x) }>""",
    )
    calls = [{**feeds, "which": np.array(which)} for feeds in counted(1, 3, x=X) for which in (True, False)]
    program = agree(model, *calls)
    assert decisions(program._graph).tensors == ("t", "which")


def test_the_end_of_a_slice_decides() -> None:
    model = network(
        "float[4, 3] x, int64[1] t", "float[N, 3] y", ONE, "end = Add(t, one)  y = Slice(x, zero, end)"
    )
    program = agree(model, *counted(0, 1, 3, 1, x=X))
    assert decisions(program._graph).tensors == ("end",)
    assert len(program._plans) == 3
    assert program.profile(repeat=1).steps is not None


def test_lengths_as_an_input_decide() -> None:
    model = network(
        "float[4, 3] x, int64[2] lengths", "float[N, M] y", ONE, "z = Relu(x) y = Reshape(z, lengths)"
    )
    program = agree(model, *({"x": X, "lengths": np.array(shape)} for shape in ((2, 6), (6, 2), (12, 1))))
    assert len(program._plans) == 3


def test_a_length_that_depends_on_a_shape_too_decides_by_the_number() -> None:
    model = network(
        "float[N, 3] x, int64[1] t",
        "float[M, 3] y",
        ONE,
        """shape = Shape(x)  rows = Gather(shape, zero)  end = Min(rows, t)  y = Slice(x, zero, end)""",
    )
    program = agree(model, *counted(1, 9, x=X), *counted(1, 9, x=X[:2]))
    assert decisions(program._graph).tensors == ("t",)
    assert len(program._plans) == 4


def test_a_range_decides_and_what_is_compared_with_it_does_not() -> None:
    model = network(
        "float[4, 3] x, int64 t, int64 n",
        "float[K, 4] y",
        "int64 zero = {0}, int64 one = {1}, int64[1] last = {1}, float[4] ones = {1, 1, 1, 1}",
        """steps = Range(zero, n, one)  old = Less(steps, t)  mask = Cast<to = 1>(old)
        column = Unsqueeze(mask, last)  y = Mul(column, ones)""",
    )
    calls = [{"x": X, "t": np.array(t), "n": np.array(n)} for t in (1, 3, 7) for n in (4, 6)]
    program = agree(model, *calls)
    assert decisions(program._graph).inputs == ("n",)
    assert len(program._plans) == 2


def test_what_reads_whole_numbers_that_are_computed_runs_natively() -> None:
    model = network(
        "float[4, 3] x, int64[1] t",
        "float[4, 3] y",
        "int64[1] none = {0}, int64[3] columns = {1, 2, 5}",
        """nothing = Mul(t, none)  zero = Cast<to = 1>(nothing)  z = Add(x, zero)
        twice = Add(t, t)  near = Less(columns, twice)  low = Neg(z)  y = Where(near, z, low)""",
    )
    program = agree(model, *counted(0, 1, 3, x=X))
    assert len(program._plans) == 1


def test_other_operations_without_steps_are_still_refused() -> None:
    model = network(
        "float[4, 3] x, int64[1] t", "float[4, 3] y, int64[1] next", ONE, "y = Hardmax(x)  next = Add(t, one)"
    )
    with pytest.raises(sp.engine.UnsupportedOperationsError, match=r"run: Hardmax \(`y`\)\."):
        sp.engine.load(model)
    assert ArrayPart.__doc__
