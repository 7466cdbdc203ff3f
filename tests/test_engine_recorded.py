"""What was computed of lengths, done again for others: the same results, or none."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnx")

from engine_nets import GraphNet

import separable.engine.passes as passes
from separable import _core
from separable.engine.graph.ir import Graph, Node, TensorType
from separable.engine.graph.shapes import table
from separable.engine.network import recordings
from separable.engine.network.compiled import CompiledNetwork
from separable.engine.network.plan import NetworkPlan
from separable.engine.passes import simplified
from separable.engine.program import lower
from separable.engine.program.steps.recorded import RecordedProgram, append_step, core_value, new_program
from separable.engine.program.weights import WeightStore
from separable.engine.recorded.arrays import TapeArray, of_elements, whole_numbers
from separable.engine.recorded.collection import no_collection
from separable.engine.recorded.numbers import TapeNumber, larger
from separable.engine.recorded.tape import DifferentError, Tape, applied

Array = npt.NDArray[Any]

# -- numbers -----------------------------------------------------------------------------------------


def noted(function: Callable[..., Any], *numbers: int) -> Callable[..., Any]:
    """Return what does again what a function did with some numbers."""
    tape = Tape()
    again = tape.again(function(*[tape.length(number) for number in numbers]))
    return lambda *others: again(others)


def convolved(width: int, height: int) -> tuple[Any, ...]:
    """Return what lowering computes of lengths, more or less."""
    made = (width + 2 - 3) // 2 + 1
    right = larger(0, (made - 1) * 2 + 3 - 1 - width)
    blocks = -(-height // 8)
    row = (made + right) * 8
    scale = made / width
    return made, right, row, blocks * row, -made, abs(-row), row % 7, math.floor(height * scale), 3 - made


def test_arithmetic_is_done_again() -> None:
    again = noted(convolved, 17, 30)
    for width in range(1, 40):
        for height in (1, 8, 31, 200):
            assert again(width, height) == convolved(width, height)


def chosen(width: int) -> tuple[int, str]:
    if width > 20:
        return width * 2, "large"
    return (width // 2, "even") if width % 2 == 0 else (width, "odd")


def test_what_numbers_decide_has_to_be_decided_alike() -> None:
    for first in (4, 5, 30):
        again = noted(chosen, first)
        for width in range(40):
            if chosen(width)[1] == chosen(first)[1]:
                assert again(width) == chosen(width)
            else:
                with pytest.raises(DifferentError):
                    again(width)


@pytest.mark.parametrize(
    "ask",
    [
        lambda n: list(range(n))[-1],
        lambda n: {n: 7}[n],
        lambda n: [0] * n,
        lambda n: f"{n}",
        lambda n: f"{n:d}",
        int,
        float,
        lambda n: np.zeros(n),
        lambda n: np.array([n, 2], np.int64),
        lambda n: math.isfinite(n),
        lambda n: n.__index__(),
    ],
)
def test_whoever_asks_for_the_number_holds_it(ask: Callable[[Any], Any]) -> None:
    def function(number: Any) -> Any:
        ask(number)
        return number + 1

    again = noted(function, 5)
    assert again(5) == 6
    with pytest.raises(DifferentError):
        again(6)


def test_equal_constants_of_other_types_stay_apart() -> None:
    """Truth values, whole numbers and floats that are equal, and functions that are called like types."""
    tape = Tape()
    number = tape.length(3)
    assert bool(number)
    again = tape.again((number, False, 0, 0.0, -0.0, True, 1, None))
    results = again([4])
    assert [repr(value) for value in results] == ["4", "False", "0", "0.0", "-0.0", "True", "1", "None"]
    with pytest.raises(DifferentError):
        again([0])


def test_numbers_pass_for_numbers() -> None:
    tape = Tape()
    number = tape.length(3)
    assert isinstance(number, int)
    assert not isinstance(number, str)
    assert isinstance(number / 2, float)
    assert number + 0 is number * 1 is number // 1 is number - 0 is number
    assert number + 2 is number + 2
    assert number != "n"
    assert repr(number) == "<3>"
    with pytest.raises(TypeError):
        number**2
    with pytest.raises(ZeroDivisionError):
        number // 0
    again = noted(lambda n: 12 // n, 3)
    with pytest.raises(ZeroDivisionError):
        again(0)


@pytest.mark.parametrize("ask", [lambda n: n + 1, lambda n: n > 2, int, lambda n: applied(np.zeros, n)])
def test_a_full_tape_notes_nothing(ask: Callable[[Any], Any]) -> None:
    tape = Tape()
    number = tape.length(3)
    tape.again(number)
    with pytest.raises(RuntimeError, match="outlived"):
        ask(number)


# -- arrays ------------------------------------------------------------------------------------------


def test_arrays_of_numbers_are_moved_number_by_number() -> None:
    def function(width: Any) -> Any:
        shape = whole_numbers(1, width, 7)
        assert isinstance(shape, TapeArray)
        assert (shape.shape, shape.dtype, shape.ndim, shape.size) == ((3,), np.int64, 1, 3)
        fixed = of_elements(lambda held: held[0][[0, 2]], [shape])
        assert fixed.tolist() == [1, 7]
        assert isinstance(fixed, np.ndarray)
        twice = of_elements(lambda held: held[0] * 2, [of_elements(lambda held: held[0][1], [shape])])
        assert twice.ndim == 0
        return twice.item(), *shape.tolist(), shape.reshape(-1).tolist()[1], shape

    *results, array = noted(function, 5)(9)
    assert results == [18, 1, 9, 7, 9]
    np.testing.assert_array_equal(array, [1, 9, 7])
    assert array.dtype == np.int64
    assert whole_numbers(1, 2).tolist() == [1, 2]


def test_arrays_of_functions_have_lengths_that_are_numbers() -> None:
    def function(count: Any) -> Any:
        array = applied(np.arange, count)
        assert len(array.shape) == 1
        both = applied(np.add, array, 1)
        return array.shape[0] * 2, both.size, both.nbytes, both, applied(np.ravel, both).reshape(1, -1)

    doubled, size, count, array, row = noted(function, 5)(9)
    assert (doubled, size, count, row.shape) == (18, 9, 72, (1, 9))
    np.testing.assert_array_equal(array, 1 + np.arange(9))


@pytest.mark.parametrize(
    "ask",
    [
        lambda a: np.asarray(a),
        lambda a: a[0],
        lambda a: a + 1,
        lambda a: a == 1,
        lambda a: (a < 1).any(),
        lambda a: bool(a[:1]),
        lambda a: a.tobytes(),
        lambda a: np.abs(a).max(),
        lambda a: a.any(),
        lambda a: a.reshape(1, -1).tolist(),
    ],
)
def test_whoever_asks_for_an_array_holds_it(ask: Callable[[Any], Any]) -> None:
    def function(count: Any) -> Any:
        ask(applied(np.full, 3, count))
        return count

    again = noted(function, 5)
    assert again(5) == 5
    with pytest.raises(DifferentError):
        again(6)


def test_lists_keep_their_length() -> None:
    def function(count: Any) -> Any:
        return tuple(applied(np.arange, count).tolist())

    again = noted(function, 3)
    assert again(3) == (0, 1, 2)
    with pytest.raises(DifferentError):
        again(4)


# -- steps -------------------------------------------------------------------------------------------


def test_steps_are_added_to_other_programs() -> None:
    tape = Tape()
    width = tape.length(4)
    program = new_program(tape, width * 16, [[width], [width]], 1)
    assert isinstance(program, RecordedProgram)
    number = program.constant(np.ones(1, np.float32))
    for to, other in (((0, 16), (1, 0)), ((2, 0), (0, 16))):
        sides = (number, 0), (0,), other, (1,), to, (1,)
        append_step(program, _core.add_elementwise, "add", (width,), *sides, None)
    assert len(program) == 2
    again = tape.again(program.entry)
    for length in (4, 9):
        x, y = np.arange(length, dtype=np.float32), np.zeros(length, np.float32)
        made = again([length])
        made.run([x], [y], 1, None)
        np.testing.assert_array_equal(y, x + 2)
        assert len(made) == 2
    with pytest.raises(ValueError, match="memory"):
        again([1])  # the arena of one element has no sixteenth
    plain = new_program(None, 16, [[4], [4]], 1)
    append_step(plain, _core.add_fill, 0.0, (4,), (2, 0), (1,))
    assert len(plain) == 1
    image = core_value(plain, _core.Image, 0, 0, (1, 1, 1, 4), 1, (4, 4, 4, 1), (0, 0, 0, 0))
    assert isinstance(image, _core.Image)


# -- the arena ---------------------------------------------------------------------------------------


def by_hand(sizes: list[int], firsts: list[int], lasts: list[int]) -> tuple[int, ...]:
    places = [0] * len(sizes)
    taken: list[int] = []
    arena = 0
    for own in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        size = -(-sizes[own] // 16) * 16
        beside = [other for other in taken if firsts[other] <= lasts[own] and firsts[own] <= lasts[other]]
        at = 0
        for start, end in sorted((places[n], places[n] + -(-sizes[n] // 16) * 16) for n in beside):
            if start - at >= size:
                break
            at = max(at, end)
        places[own] = at
        taken.append(own)
        arena = max(arena, at + size)
    return (*places, arena)


def test_places_in_an_arena() -> None:
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 5, 20, 60):
        for _ in range(20):
            sizes = rng.integers(0, 200, count).tolist()
            firsts = rng.integers(0, 30, count)
            lasts = (firsts + rng.integers(0, 8, count)).tolist()
            results = _core.places_in_arena(sizes, firsts.tolist(), lasts)
            assert results == by_hand(sizes, firsts.tolist(), lasts)
    for wrong in (([1], [0], []), ([1], [2], [1]), ([-1], [0], [0]), ([2**60], [0], [0])):
        with pytest.raises(ValueError, match="places_in_arena"):
            _core.places_in_arena(*wrong)


# -- plans -------------------------------------------------------------------------------------------


def network(seed: int = 0) -> Graph:
    """Return a network with what plans of other widths do anew: lengths computed, norms, sums, a product."""
    net = GraphNet(seed, np.float32)
    x = net.input("N", 4, "H", "W")
    y = net.node("Relu", net.conv(x, 4, 16))
    y = net.node("MaxPool", y, kernel_shape=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0), dilations=(1, 1))
    y = net.node("Add", y, net.conv(y, 16, 16))
    shape = net.node("Shape", y)
    batch = net.node("Gather", shape, net.integers(0), axis=0)
    goal = net.node("Concat", batch, net.integers(16), net.integers(-1), axis=0)
    y = net.node("Transpose", net.node("Reshape", y, goal), perm=(0, 2, 1))
    y = net.node("MatMul", y, net.normal(16, 8))
    return net.graph(net.node("Softmax", y, axis=-1), typed=False)


def program_of(graph: Graph, **more: Any) -> CompiledNetwork:
    return CompiledNetwork(graph, simplified(graph), **more)


def sample(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def test_a_new_width_does_nothing_again_but_what_was_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plan step by step, no pass, no rule of types, no lowering and no packing."""
    program = program_of(network())
    for width in (32, 40):
        program(sample(1, 4, 16, width))
    assert (program._recordings.made, program._recordings.used) == (1, 0)

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(NetworkPlan, "__init__", never)
        patch.setattr(passes, "_rewritten", never)
        patch.setattr(table, "output_types", never)
        patch.setattr(lower, "lowered", never)
        patch.setattr(WeightStore, "_get", never)
        results = {width: program(sample(1, 4, 16, width)) for width in (48, 56, 64)}
    assert (program._recordings.made, program._recordings.used) == (1, 3)
    for width, values in results.items():
        np.testing.assert_array_equal(values, program_of(network())(sample(1, 4, 16, width)))


def test_lengths_beyond_a_threshold_are_noted_anew() -> None:
    program = program_of(network())
    for width in (20, 24, 28, 4000, 4004, 4008, 30, 25, 27):
        x = sample(1, 4, 16, width)
        np.testing.assert_array_equal(program(x), program_of(network())(x))
    assert program._recordings.made < 5
    assert program._recordings.used >= 4


def test_all_lengths_may_differ_by_turns() -> None:
    program = program_of(network())
    for shape in ((1, 10, 20), (1, 10, 24), (1, 12, 24), (2, 12, 24), (3, 14, 40), (1, 16, 20), (5, 18, 36)):
        x = sample(shape[0], 4, *shape[1:])
        np.testing.assert_array_equal(program(x), program_of(network())(x))
    assert program._recordings.used >= 2


def test_plans_that_were_made_again_tell_what_others_tell() -> None:
    program, alone = program_of(network()), program_of(network())
    for width in (32, 40, 48):
        program(sample(1, 4, 16, width))
    assert program._recordings.used == 1
    shapes = {"x": (1, 4, 16, 48)}
    assert program.steps(shapes) == alone.steps(shapes)
    assert program.memory(shapes) == alone.memory(shapes)
    assert str(program.plan(shapes).graph) == str(alone.plan(shapes).graph)
    assert program.plan(shapes).outputs == alone.plan(shapes).outputs
    assert program.plan(shapes).inputs == alone.plan(shapes).inputs
    assert len(program.measured(repeat=1).steps) == len(alone.steps(shapes))


def test_errors_are_those_of_plans_step_by_step() -> None:
    program = program_of(network())
    for width in (32, 40, 48):
        program(sample(1, 4, 16, width))
    with pytest.raises(ValueError, match="a window of 2 pixels") as alone:
        program_of(network())(sample(1, 4, 16, 1))
    with pytest.raises(ValueError, match="a window of 2 pixels") as among:
        program(sample(1, 4, 16, 1))
    assert str(among.value) == str(alone.value)
    np.testing.assert_array_equal(program(sample(1, 4, 16, 40)), program_of(network())(sample(1, 4, 16, 40)))


def test_noting_is_given_up_where_it_never_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_of(network())
    tried: list[Any] = []
    true = recordings._Recording.__init__

    def counted(self: Any, *more: Any) -> None:
        tried.append(more)
        true(self, *more)

    monkeypatch.setattr(recordings._Recording, "__init__", counted)
    monkeypatch.setattr(recordings._Recording, "plan", lambda *_: None)
    for width in range(20, 60, 2):
        program(sample(1, 4, 16, width))
    assert len(tried) == recordings._FREE


def test_recordings_are_no_more_than_plans_and_go_with_their_weights() -> None:
    program = program_of(network(), plans=1)
    for width in (20, 24, 4000, 4004, 28, 32):
        program(sample(1, 4, 16, width))
        assert len(program._recordings._kept) <= 1
    held = program._recordings._kept[0]
    program._store.keep(frozenset())
    program(sample(1, 4, 16, 36))
    assert held not in program._recordings._kept


def test_nothing_of_a_tape_is_left_in_what_plans_share() -> None:
    graph = simplified(network())
    program = CompiledNetwork(graph, graph)
    for width in (32, 40, 48):
        program(sample(1, 4, 16, width))
    shared = [(node.attributes, node.notes) for node in graph.nodes]
    shared += [(program._store._packed.keys(), program._store._made.keys()), (program._memory, graph.notes)]
    kept = program._plans.latest()
    assert kept is not None
    shared.append((kept.inputs, kept.outputs))
    assert not any(isinstance(value, TapeNumber) and type(value) is TapeNumber for value in _parts(shared))


def _parts(value: Any) -> list[Any]:
    """Return a value and all that it is made of."""
    if isinstance(value, dict):
        inner: list[Any] = [*value, *value.values()]
    elif isinstance(value, (Node, TensorType)):
        inner = [getattr(value, name) for name in value.__slots__]
    elif isinstance(value, (str, bytes, int, float, np.ndarray, np.dtype, type(None))):
        return [value]
    else:
        try:
            inner = list(value)
        except TypeError:
            inner = [getattr(value, name) for name in getattr(value, "__slots__", ())]
    return [value, *(part for one in inner for part in _parts(one))]


# -- garbage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_afterwards_as_before(enabled: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with no_collection():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
        with pytest.raises(ZeroDivisionError), no_collection():
            divmod(1, 0)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
