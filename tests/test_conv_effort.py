"""What a conversion does, decided before it begins."""

from __future__ import annotations

import numpy as np
import pytest

from separable.conv import ConvLayer
from separable.conv.conversion.effort import MEASURING, ConversionEffort, Steps, about, unknowns
from separable.conv.conversion.moments import bytes_of_sums


def layer(channels: int, size: int, calls: int = 1) -> ConvLayer:
    weights = np.ones((channels, channels, 3, 3))
    return ConvLayer(f"{channels}", weights, padding=((1, 1), (1, 1)), sizes=(size, size), calls=calls)


SMALL = [layer(8, 8), layer(16, 8)]
LARGE = [layer(64, 112), layer(64, 56), layer(256, 14), layer(512, 7)]


def test_small_networks_see_everything() -> None:
    effort = ConversionEffort(SMALL, 256, 1024)
    assert all(effort.inputs(index) >= 1024 for index in range(2))
    assert [effort.measured_positions(index) for index in range(2)] == [32, 32]
    assert effort.attempts == 6
    assert effort.probes >= 128
    assert effort.blocks() == [[0, 1]]


def test_large_networks_see_as_many_patches_as_there_are_unknowns_to_tell() -> None:
    effort = ConversionEffort(LARGE, 256, 256)
    for index, one in enumerate(LARGE):
        patches = effort.inputs(index) * effort.positions(index)
        assert patches >= 20 * unknowns(one)
    assert effort.inputs(1) < 256 < effort.inputs(3)
    assert effort.measured_inputs(2) < effort.inputs(2)
    for index, one in enumerate(LARGE):
        inputs, places = min(effort.measured_inputs(index), 256), effort.measured_positions(index)
        wanted = min(6 * unknowns(one), inputs * effort.positions(index))
        assert wanted <= inputs * places <= max(1.3 * wanted, 32 * inputs)
    assert effort.positions(3) == 49
    assert effort.attempts == 1
    assert 4 <= effort.probes < 128
    blocks = effort.blocks()
    assert [index for block in blocks for index in block] == [0, 1, 2, 3]
    sums = [sum(2 * bytes_of_sums(unknowns(LARGE[index])) for index in block) for block in blocks]
    assert all(size <= 1 << 29 for size in sums)


def test_there_is_one_attempt_or_several() -> None:
    counts = [
        ConversionEffort([layer(c, s)] * 8, 256, 256).attempts for c in (8, 32, 64, 96) for s in (8, 32, 96)
    ]
    assert {1, 6} <= set(counts)
    assert 2 not in counts


def test_an_excerpt_is_bounded() -> None:
    effort = ConversionEffort(LARGE, 256, 256)
    for index, one in enumerate(LARGE):
        rows = effort.excerpt(index) / (4 * (unknowns(one) + 2 * one.c_out))
        assert rows == pytest.approx(max(2 * unknowns(one), 5e9 / (unknowns(one) * one.c_out)), rel=0.01) or (
            rows <= max(8192, 8 * unknowns(one))
        )


def test_steps_are_a_share_of_what_is_expected_and_their_total_stays() -> None:
    told: list[tuple[int, int, str]] = []
    steps = Steps([1.0, 1.0, 10.0], [8, 8, 8], MEASURING + about(1, 4), lambda *seen: told.append(seen))
    for inputs in (4, 4, 4):  # one batch more than was thought
        for index, one in enumerate(LARGE[:3]):
            steps.say("measuring", one)
            steps.did_pass(index, inputs)
    for index in range(3):
        steps.did(index, MEASURING)
    steps.expect(1)
    for index, one in enumerate(LARGE[:3]):
        steps.say("fitting", one)
        steps.did(index)
    steps.expect(0)
    steps.end()
    done, total, _ = zip(*told, strict=True)
    assert set(total) == {34}  # measured, and two attempts, of twelve steps each
    assert done[:9] == (0, 0, 0, 2, 2, 2, 4, 4, 4)  # half of measuring
    assert done[9:] == (9, 15, 17, 34)  # measured, and one attempt


def test_steps_wait_where_more_is_left_than_was_thought() -> None:
    told: list[tuple[int, int, str]] = []
    steps = Steps([1.0], [8], 2, lambda *seen: told.append(seen))
    for rounds in (4, 3, 2, 1, 0, 0):  # the last one was not expected at all
        steps.did(0)
        steps.expect(rounds)
        steps.say("fitting", LARGE[0])
    steps.end()
    done, total, _ = zip(*told, strict=True)
    assert set(total) == {8}
    assert done == (3, 3, 4, 6, 7, 7, 8)


def test_what_is_expected_is_wrong_by_the_same_factor_either_way() -> None:
    assert about(1, 4) == 2
    assert about(3, 3) == 3
    assert about(0, 0) == 0
