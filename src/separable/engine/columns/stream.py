"""A network that is given the new columns of a sliding window, and answers for the whole window."""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from ..graph.ir import TensorType
from ..network.arrays import Targets, feeds_of, shown
from ..network.compiled import CompiledNetwork
from .plan import HopPlan, LayerColumns
from .rings import Rings, columns_of

__all__ = ["ColumnStream"]

_CHECKED: Final = 3  # hops that are compared with whole windows when a stream is made
_TOLERANCE: Final = 1e-4  # of the largest number of an output
_SEED: Final = 0


class ColumnStream:
    """What `separable.engine.Stream` is, without its table.

    Parameters
    ----------
    plan : HopPlan
    difference : float, optional
        From whole windows, if that was measured; by default it is now.
    """

    def __init__(self, plan: HopPlan, difference: float | None = None) -> None:
        self._plan = plan
        self._rings = Rings(plan.body, plan.steps)
        self._lock = threading.Lock()
        self._started = False
        self._frames = plan.frames
        self._outputs = [
            (name, tuple(int(length) for length in kind.shape), kind.dtype)
            for name, kind in plan.whole.outputs.items()
        ]
        self.difference: float = self._measured() if difference is None else difference

    # -- running -----------------------------------------------------------------------------------------

    def start(self, window: Any = None, *, out: Any = None) -> Any:
        """Begin with a whole window.

        Parameters
        ----------
        window : array_like, optional
            As the program takes it; zeros by default.
        out : ndarray, or sequence or mapping of ndarray, optional
            As for the program.

        Returns
        -------
        ndarray or dict of str to ndarray
            ``program(window)``.

        Raises
        ------
        TypeError, ValueError
            If the window is not what the program takes.
        """
        plan = self._plan
        array = self._checked(
            np.zeros(plan.shape, np.float32) if window is None else window, "window", plan.shape
        )
        with self._lock:
            self._started = False
            result = plan.network(array, out=out)
            kinds = plan.body.view.graph.types
            tensors = {
                name: np.empty(tuple(int(n) for n in kinds[name].shape), kinds[name].dtype)
                for name in plan.fill.outputs
            }
            plan.fill.run([array], list(tensors.values()), plan.network.threads)
            self._rings.fill(array, tensors.__getitem__)
            self._started = True
        return result

    def __call__(self, frames: Any, *, out: Any = None) -> Any:
        """Take the new columns, and return what the program returns for the window that ends with them.

        Parameters
        ----------
        frames : array_like
            Of the shape `frames_shape`: `hop` columns.
        out : ndarray, or sequence or mapping of ndarray, optional
            As for the program.

        Returns
        -------
        ndarray or dict of str to ndarray
            As the program's: new arrays, or those of `out`.

        Raises
        ------
        RuntimeError
            Before `start`.
        TypeError, ValueError
            If the columns are not what is expected. The stream stays as it was.
        """
        if type(frames) is not np.ndarray or frames.dtype != np.float32 or frames.shape != self._frames:
            frames = self._checked(frames, "frames", self._frames)
        plan = self._plan
        targets = None if out is None else Targets(plan.whole.outputs, out, [])
        if targets is None:
            results = {name: np.empty(shape, dtype) for name, shape, dtype in self._outputs}
        else:
            results = targets.written
        with self._lock:
            if not self._started:
                raise RuntimeError(
                    "the stream has no window yet; call `start(window)` with the first one, or `start()` to "
                    "begin with zeros."
                )
            reads, writes = self._rings.enter(frames)
            plan.part.run(reads, [*results.values(), *writes], plan.network.threads)
            self._rings.leave()
        if targets is not None:
            results = targets.finish()
        return next(iter(results.values())) if len(results) == 1 else results

    def reset(self) -> None:
        """Forget the window: `start` comes next."""
        with self._lock:
            self._started = False

    def another(self) -> ColumnStream:
        """Return a stream of the same kind, for another source: nothing is planned or measured again."""
        return type(self)(self._plan, self.difference)

    def _checked(self, given: Any, name: str, shape: tuple[int, ...]) -> Array:
        plan = self._plan
        (array,) = feeds_of({plan.source: TensorType(np.dtype(np.float32), shape)}, given)
        if array.shape != shape:
            what = f"the {plan.hop} newest columns" if name == "frames" else f"{plan.window} columns"
            raise ValueError(
                f"`{name}` has shape {array.shape}; expected {shown(shape)}, {what} along axis {plan.axis}."
            )
        return array

    def _measured(self) -> float:
        """Return the largest difference from whole windows of noise, over the largest number of an output."""
        plan, axis = self._plan, self._plan.axis
        random = np.random.default_rng(_SEED)
        window = random.standard_normal(plan.shape).astype(np.float32)
        worst = 0.0
        self.start(window)
        for _ in range(_CHECKED):
            frames = random.standard_normal(plan.frames).astype(np.float32)
            kept = columns_of(window, axis, plan.hop, plan.window)
            window = np.concatenate([kept, frames], axis)
            worst = max(worst, _apart(self(frames), plan.network(window)))
        self.reset()
        if worst > _TOLERANCE:
            raise RuntimeError(
                f"the stream differs from whole windows by {worst:.2g} of the largest; please report it"
            )
        return worst

    # -- what it does ------------------------------------------------------------------------------------

    @property
    def network(self) -> CompiledNetwork:
        """The program."""
        return self._plan.network

    @property
    def hop(self) -> int:
        """Columns that are new with each call."""
        return self._plan.hop

    @property
    def window(self) -> int:
        """Columns of a window."""
        return self._plan.window

    @property
    def axis(self) -> int:
        """Axis of time, in the input."""
        return self._plan.axis

    @property
    def frames_shape(self) -> tuple[int, ...]:
        """Shape of what a call takes."""
        return self._frames

    @property
    def plan(self) -> HopPlan:
        """What a hop computes."""
        return self._plan

    @property
    def macs(self) -> int:
        """Multiply-adds of a call."""
        return self._plan.macs

    @property
    def window_macs(self) -> int:
        """Multiply-adds of the program, for a whole window."""
        return self._plan.window_macs

    @property
    def layers(self) -> tuple[LayerColumns, ...]:
        """The layers that are computed column by column, with how many of their columns."""
        return self._plan.layers

    @property
    def nbytes(self) -> int:
        """Bytes of the columns that are kept, without the memory of a call."""
        return self._rings.nbytes


def _apart(got: Any, wanted: Any) -> float:
    """Return the largest difference of outputs, each over its largest number."""
    pairs = zip(got.values(), wanted.values(), strict=True) if isinstance(got, dict) else [(got, wanted)]
    worst = 0.0
    for one, other in pairs:
        if one.tobytes() == other.tobytes():
            continue
        scale = float(np.abs(np.nan_to_num(other)).max()) or 1.0
        off = np.nan_to_num(one.astype(np.float64)) - np.nan_to_num(other.astype(np.float64))
        worst = max(worst, float(np.abs(off).max()) / scale)
    return worst
