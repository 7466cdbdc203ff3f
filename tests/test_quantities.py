"""Counts, sizes, times and shares in words."""

from __future__ import annotations

import pytest

from separable._base.words.quantities import by, in_bytes, in_seconds, percent, plural, tenths, times


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (plural(1, "term"), "1 term"),
        (plural(0, "term"), "0 terms"),
        (by((31, 16384)), "31 x 16384"),
        (by((1, 3, 224), "x"), "1x3x224"),
        (by((0.25, 1.23456)), "0.25 x 1.235"),
        (in_seconds(2.5e-6), "2.5 us"),
        (in_seconds(9.996e-4), "1 ms"),
        (in_seconds(61.0), "61 s"),
        (in_bytes(999), "999 B"),
        (in_bytes(1 << 20), "1 MiB"),
        (percent(0.1234), "12.3 %"),
        (percent(1e-5), "1e-05"),
        (percent(float("inf")), "inf"),
        (tenths(0.12345), "12.3 %"),
        (times(8.46), "8.46x"),
        (times(123.4), "123x"),
    ],
)
def test_quantities(words: str, expected: str) -> None:
    assert words == expected
