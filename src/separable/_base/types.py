"""Type aliases for arrays."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
FloatArray: TypeAlias = npt.NDArray[np.float64]
# float64, or float32 where what is large is worked on in single precision.
RealArray: TypeAlias = npt.NDArray[np.floating[Any]]
