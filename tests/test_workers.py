"""Threads for linear algebra: ours side by side, those of BLAS left out."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from separable._base.workers import Workers, _controls, blas_alone, return_memory


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_order(threads: int) -> None:
    workers = Workers(threads)
    seen = set()

    def square(n: int) -> int:
        seen.add(threading.current_thread().name)
        return n * n

    assert workers.map(square, range(20)) == [n * n for n in range(20)]
    assert len(seen) <= threads
    nested = workers.map(lambda n: workers.map(square, range(n)), [3, 4])
    assert nested == [[0, 1, 4], [0, 1, 4, 9]]
    workers.close()
    with pytest.raises(ZeroDivisionError):
        Workers().map(lambda n: 1 // n, [0])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="BLAS is looked for where Linux lists it")
def test_blas_works_alone_inside_and_as_before_outside() -> None:
    controls = _controls()
    if not controls:
        pytest.skip("a BLAS that is not known")
    before = [int(get()) for get, _ in controls]
    matrix = np.ones((300, 300))
    with blas_alone():
        with blas_alone():
            assert [int(get()) for get, _ in controls] == [1] * len(controls)
        assert [int(get()) for get, _ in controls] == [1] * len(controls)
        assert (matrix @ matrix)[0, 0] == 300
    assert [int(get()) for get, _ in controls] == before


def test_memory_can_be_returned_at_any_time() -> None:
    held = np.ones(1000)
    return_memory()
    assert held.sum() == 1000
