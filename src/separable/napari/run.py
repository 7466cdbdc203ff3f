"""A filter of a whole layer, in steps between which it may be cancelled."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np

from .job import FilterJob, is_lazy, levels_of
from .recipe import SMOOTHERS
from .slices import Look, limits_of, sight


class LayerResult(NamedTuple):
    """The result of a filter.

    Attributes
    ----------
    data : array or list of arrays
        In memory or of Dask; of a layer with several scales the list of its levels.
    limits : (float, float) or None
        Of the contrast; None where it is that of the source, or unknown.
    """

    data: Any
    limits: tuple[float, float] | None


def steps(look: Look) -> Generator[float, None, LayerResult]:
    """Filter a layer; yield which share of it is done, and return the outcome.

    Parameters
    ----------
    look : Look
        What is asked for, and the slice whose contrast stands for that of results that are not computed yet.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As the verbs.
    """
    recipe, x = look.recipe, look.levels[0]
    job = FilterJob(recipe, x.shape, np.dtype(x.dtype))
    several = len(look.levels) > 1
    if not several and not is_lazy(x, job.dtype):
        result = np.empty(x.shape, job.dtype)
        yield from job.steps(x, result)
        return LayerResult(result, None if recipe.kind in SMOOTHERS else limits_of(result))
    data = levels_of(recipe, look.levels) if several else job.lazily(x)
    values = None if recipe.kind in SMOOTHERS else sight(look._replace(previews=True)).values
    limits = None if values is None else limits_of(values)
    yield 1.0
    return LayerResult(data, limits)
