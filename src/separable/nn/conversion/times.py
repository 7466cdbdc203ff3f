"""What a torch network and its layers take, in the runtime that they are made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import torch
from torch import nn

from ..._base.extras import MissingExtraError, extra
from ...conv.conversion.goal import RUNTIMES as OUTSIDE
from ...conv.conversion.goal import ConversionGoal
from ...conv.forms.layer import Replacement
from ...conv.forms.table import is_dense
from ..model.run import Call, seconds_of, tensors_of
from ..model.untouched import map_tensors

if TYPE_CHECKING:
    from ...onnx.conversion.times import LayerTimes
    from .network import TorchNetwork

__all__ = ["RUNTIMES", "WholeTimes", "layer_times", "slow_layers"]

_TORCH: Final = "torch"
RUNTIMES: Final = (*OUTSIDE, _TORCH)

_RUNS: Final = 15  # of each network in torch, after two that warm up


def layer_times(goal: ConversionGoal, threads: int) -> LayerTimes | None:
    """Return what measures layers outside of torch, where that is what was asked for.

    Raises
    ------
    MissingExtraError
        If what it needs is not installed.
    """
    if goal.by != "time" or goal.rank is not None or goal.runtime == _TORCH:
        return None
    with extra("onnx"):
        from ...onnx.conversion.times import LayerTimes, clock_of
    return LayerTimes(clock_of(goal.runtime, threads), goal.batch)


def slow_layers(network: TorchNetwork, replaced: Mapping[int, Replacement]) -> dict[int, str]:
    """Return the layers that take no less time in their new form, and the reason in words."""
    reasons = {}
    for index, new in replaced.items():
        if not is_dense(new.form):
            gain = network.saved_milliseconds(index, new)
            if gain <= 0:
                reasons[index] = f"put back: as {new.form} it is slower here ({-gain:+.3f} ms)"
    return reasons


class WholeTimes:
    """Least milliseconds of whole networks.

    Parameters
    ----------
    network : TorchNetwork
    goal : ConversionGoal
    call : tuple of (arguments, keyword arguments)
        One input.
    threads : int

    Attributes
    ----------
    runtime : str
        As people write it.
    failure : str
        Why nothing was measured; empty where it was.
    """

    def __init__(self, network: TorchNetwork, goal: ConversionGoal, call: Call, threads: int) -> None:
        self._network, self._goal, self._threads = network, goal, threads
        self._call = _repeated(call, goal.batch)
        self.runtime = _TORCH
        self.failure = ""

    def of(self, models: Sequence[nn.Module]) -> list[float] | None:
        """Return those of some networks, run in turn; None where that fails."""
        return self._measured(models, at_one_pace=False)

    def _measured(self, models: Sequence[nn.Module], at_one_pace: bool) -> list[float] | None:
        try:
            if self._goal.runtime == _TORCH:
                return _in_torch(models, self._call)
            with extra("compile"):
                from ...onnx.conversion.times import clock_of
                from ...onnx.model.files import read_model
                from ..programs.compile import exported

            clock = clock_of(self._goal.runtime, self._threads)
            self.runtime = clock.name
            pairs = [exported(model, self._call) for model in models]
            timed = clock.at_one_pace if at_one_pace else clock.together
            return timed([read_model(proto) for proto, _ in pairs], pairs[0][1])
        except (ValueError, MissingExtraError) as error:
            self.failure = f"the network as a whole was not timed: {error}"
            return None

    @property
    def is_asked(self) -> bool:
        """Whether a conversion is by time."""
        return self._goal.by == "time" and self._goal.rank is None

    def beside_layers(self) -> float:
        """Return what the network takes beside its layers; 0 where that is not known."""
        whole = self._measured([self._network.model], at_one_pace=True)
        layers = range(len(self._network.layers))
        known = sum(self._network.milliseconds(index, None) for index in layers)
        return 0.0 if whole is None else max(whole[0] - known, 0.0)


def _repeated(call: Call, batch: int) -> Call:
    """Return the same call with as many inputs, where all tensors hold one."""
    tensors = tensors_of(call)
    if batch == 1 or any(not tensor.dim() or len(tensor) != 1 for tensor in tensors):
        return call
    repeated: Call = map_tensors(call, lambda tensor: torch.cat([tensor] * batch))
    return repeated


def _in_torch(models: Sequence[nn.Module], call: Call) -> list[float]:
    taken = [[seconds_of(model, call) for model in models] for _ in range(2 + _RUNS)][2:]
    return [1e3 * min(times) for times in zip(*taken, strict=True)]
