"""How sure a mean over few inputs is: Student's interval."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["CONFIDENCE", "jackknife", "student"]

CONFIDENCE: Final = 0.95

# Of Student's t, the quantile that leaves 2.5 % above it, for 1, 2, ... 30 degrees of freedom (Fisher and
# Yates, Statistical Tables, 1938). Beyond, the first two terms of its series in 1/n are off by less than
# 4e-3.
_QUANTILES: Final = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_NORMAL: Final = 1.959964


def student(residuals: npt.NDArray[np.float64]) -> float:
    """Return half the width of the 95 % interval of a mean, from how far each input is from it.

    Parameters
    ----------
    residuals : ndarray, shape ``(inputs,)``
        Of two inputs or more.

    Returns
    -------
    float
        Infinity for fewer: one input tells nothing of others.
    """
    count = len(residuals)
    if count < 2:
        return math.inf
    spread = float(np.square(residuals - residuals.mean()).sum())
    return _quantile(count - 1) * math.sqrt(spread / (count * (count - 1)))


def jackknife(left_out: npt.NDArray[np.float64]) -> float:
    """Return half the width of the 95 % interval of a statistic, from its values without one group each.

    Parameters
    ----------
    left_out : ndarray, shape ``(groups,)``
        Of two groups or more, as equal as can be.

    Returns
    -------
    float

    References
    ----------
    Tukey, "Bias and confidence in not quite large samples", Annals of Mathematical Statistics 29, 1958.
    """
    count = len(left_out)
    if count < 2:
        return math.inf
    spread = float(np.square(left_out - left_out.mean()).sum())
    return _quantile(count - 1) * math.sqrt(spread * (count - 1) / count)


def _quantile(freedom: int) -> float:
    if freedom <= len(_QUANTILES):
        return _QUANTILES[freedom - 1]
    return _NORMAL + (_NORMAL**3 + _NORMAL) / (4 * freedom)
