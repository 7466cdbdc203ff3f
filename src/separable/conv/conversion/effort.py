"""How much a conversion does, decided before it begins: inputs and positions looked at, attempts, steps.

Everything is counted in multiply-accumulates, not in seconds, so that the result does not depend on the
machine. Small networks are not limited by any of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

from ..forms.layer import ConvLayer
from .moments import bytes_of_sums
from .network import Progress

__all__ = ["MEASURING", "TIMING", "ConversionEffort", "Steps", "about", "unknowns"]

# Patches per unknown of a least-squares problem that a fit asks for, where a network has that many; and that
# forms and ranks are compared on.
_PATCHES: Final = 20
_PATCHES_MEASURED: Final = 6

# Inputs where their number is not known.
_INPUTS: Final = 256

# Positions of an input that are looked at in any case.
_FEW_POSITIONS: Final = 32

# A pass over so many multiply-accumulates costs less than a second: no input is saved for less.
_CHEAP_PASS: Final = 2e10

# Patches of the excerpt that a rectified fit goes through in each round: so many, or so many per unknown;
# and patches times unknowns, times outputs, from which on it has no more than two per unknown.
_EXCERPT: Final = 8192
_EXCERPT_PATCHES: Final = 8
_EXCERPT_WORK: Final = 5e9

# Multiply-accumulates of all passes that tell what an error of a layer is worth, and inputs of one at least.
_PROBES: Final = 5e11
_PROBE_INPUTS: Final = 4

# Multiply-accumulates of all attempts together; attempts at most, and at least where there is more than one:
# a second one by itself takes a third of the whole time and is seldom better (YOLOv8n: 0.0086 for 0.0064 of
# the variance one time, 0.070 for 0.074 another; PP-OCRv4: never). Rounds of a rectified fit, about.
_ATTEMPTS: Final = 1.5e12
_MOST_ATTEMPTS: Final = 6
_FEWEST_ATTEMPTS: Final = 3
_ROUNDS: Final = 9

# Steps of progress of a layer, of all in the mean.
_STEPS_A_LAYER: Final = 4

# Work of measuring a layer, and of timing its forms, for one of fitting it, about (measured: PP-OCRv4 0.8 and
# 0.25, YOLOv8n 1 and 0.7, ResNet-18 0.7); of measuring, the pass over the inputs.
MEASURING: Final = 0.8
TIMING: Final = 0.45
_PASS: Final = 0.4

# Bytes of the sums over patches of the layers that are measured in one pass.
_SUMS: Final = 1 << 29

# Bytes of a fit beside which there is no other; and matrices of the size of a layer's sums that a fit holds
# at a time, about (measured: 4,608 unknowns).
_FITS: Final = 1 << 29
_MATRICES: Final = 6


def unknowns(layer: ConvLayer) -> int:
    """Return the entries of a patch of one group: the rows of a least-squares problem."""
    return layer.c_in // layer.groups * layer.taps


class ConversionEffort:
    """What is done for each layer of a network, and how often.

    Parameters
    ----------
    layers : sequence of ConvLayer
        In running order.
    positions : int
        Output positions of each input that are looked at, at most.
    inputs : int or None
        Calibration inputs that may be fitted to; None: not known.

    Attributes
    ----------
    available : int
        The same, or about as many as there usually are.
    """

    def __init__(self, layers: Sequence[ConvLayer], positions: int, inputs: int | None = None) -> None:
        self._layers, self._positions = layers, positions
        self._ends = list(itertools.accumulate(layer.macs for layer in layers))
        self._available = inputs
        self.available = inputs or _INPUTS

    def inputs(self, index: int) -> int:
        """Return how many calibration inputs a layer needs to see to be fitted; there may be fewer."""
        return self._inputs(index, _PATCHES)

    def measured_inputs(self, index: int) -> int:
        """Return how many it needs to see for its forms and ranks to be compared."""
        return self._inputs(index, _PATCHES_MEASURED)

    def _inputs(self, index: int, patches: int) -> int:
        enough = math.ceil(patches * unknowns(self._layers[index]) / self.positions(index))
        return max(enough, int(_CHEAP_PASS / max(self._ends[index], 1)))

    def positions(self, index: int) -> int:
        """Return how many output positions of each input are looked at, of all calls together."""
        layer = self._layers[index]
        return min(self._positions, math.prod(layer.out_sizes)) * layer.calls

    def seen(self) -> list[int]:
        """Return how many inputs each layer sees where its forms and ranks are compared, of all calls."""
        return [
            min(self.measured_inputs(index), self.available) * layer.calls
            for index, layer in enumerate(self._layers)
        ]

    def measured_positions(self, index: int) -> int:
        """Return the same for its forms and ranks to be compared: many inputs tell more than many places."""
        inputs = min(self.measured_inputs(index), self._available or math.inf)
        enough = math.ceil(_PATCHES_MEASURED * unknowns(self._layers[index]) / inputs)
        return min(max(enough, _FEW_POSITIONS), self.positions(index))

    def excerpt(self, index: int) -> int:
        """Return the bytes of patches and outputs that are kept as they come."""
        layer = self._layers[index]
        return int(4 * self._excerpt_rows(layer) * (layer.c_in * layer.taps + 2 * layer.c_out))

    def _excerpt_rows(self, layer: ConvLayer) -> float:
        size = unknowns(layer)
        rows: float = max(_EXCERPT, _EXCERPT_PATCHES * size)
        return max(min(rows, _EXCERPT_WORK / (size * layer.c_out)), 2 * size)

    @property
    def probes(self) -> int:
        """Return how many held-out inputs tell what an error of one layer is worth."""
        return max(int(_PROBES / (2 * len(self._layers) * max(self._ends[-1], 1))), _PROBE_INPUTS)

    @property
    def attempts(self) -> int:
        """Return how often the whole network may be converted."""
        fits = sum(map(self._rounds_work, self._layers))
        some = int(min(_ATTEMPTS / max(sum(self.work) + fits, 1), _MOST_ATTEMPTS))
        return some if some >= _FEWEST_ATTEMPTS else 1

    def _rounds_work(self, layer: ConvLayer) -> float:
        """Return about the multiply-accumulates of all rounds of a layer's rectified fit."""
        return 2.0 * _ROUNDS * self._excerpt_rows(layer) * unknowns(layer) * layer.c_out

    @property
    def work(self) -> list[float]:
        """Return about the multiply-accumulates that measuring a layer takes, or fitting it, of each."""
        return [self._work_of(index) for index in range(len(self._layers))]

    def _work_of(self, index: int) -> float:
        layer, size = self._layers[index], unknowns(self._layers[index])
        inputs = min(self.inputs(index), self.available)
        patches = inputs * self.positions(index)
        solving = 3 * size**3 + 4 * size**2 * layer.c_out // layer.groups
        return inputs * layer.macs + layer.groups * (patches * size**2 / 2 + solving)

    def fills_memory(self, index: int, share: float = 1.0) -> bool:
        """Return whether a fit of a layer takes all the memory that there is for one, or a share of it."""
        return bytes_of_sums(unknowns(self._layers[index])) * _MATRICES > share * _FITS

    def blocks(self) -> list[list[int]]:
        """Return the layers in runs that can be measured in one pass: their sums fit into memory."""
        blocks: list[list[int]] = []
        room = 0.0
        for index, layer in enumerate(self._layers):
            needed = 2.0 * layer.groups * bytes_of_sums(unknowns(layer))
            if not blocks or needed > room:
                blocks.append([])
                room = _SUMS
            blocks[-1].append(index)
            room -= needed
        return blocks


class Steps:
    """How far a conversion is, in steps of a total that stays the same.

    How many attempts there will be is not known before the last one. So the steps done are a share of the
    total: the work done, of that and what is expected, at the time, to be left. Where less is left than was
    thought, steps are skipped; where more is left, they wait.

    A layer that takes as long as the mean of all is four steps, one that takes longer so many more, if all
    comes as it was expected before the first step.

    Parameters
    ----------
    work : sequence of float
        About what it takes to fit a layer, of each.
    inputs : sequence of int
        How many inputs each sees in a pass, about.
    rounds : float
        How often all layers are expected to be fitted, what else is done counted as so much of that.
    progress : callable or None
        Is told the steps done, those in all, and the present one.
    """

    def __init__(
        self, work: Sequence[float], inputs: Sequence[int], rounds: float, progress: Progress | None
    ) -> None:
        unit = sum(work) / max(_STEPS_A_LAYER * len(work), 1)
        self._steps = [max(1, round(one / unit)) for one in work]
        self._progress = progress
        self._inputs = inputs
        self._begun: dict[int, float] = {}  # shares of layers that are counted already
        self._total = max(math.ceil(rounds * sum(self._steps)), 1)
        self._work = self._share = 0.0
        self.expect(rounds)

    def expect(self, rounds: float) -> None:
        """Say how often, from here on, all layers are fitted; what else is done counts as so much of that."""
        self._left = rounds * sum(self._steps)

    def say(self, what: str, layer: ConvLayer) -> None:
        """Tell what is done next."""
        if self._progress is not None:
            done = min(int(self._share * self._total), self._total - 1)
            self._progress(done, self._total, f"{what} {layer.name}")

    def did(self, index: int, share: float = 1.0) -> None:
        """Count a layer that was fitted, or as much work as so much of that."""
        self._count(self._steps[index] * (share - self._begun.pop(index, 0.0)))

    def timed(self) -> None:
        """Count a layer whose forms were timed, which takes about as long for small ones as for large."""
        self._count(TIMING * sum(self._steps) / len(self._steps))

    def did_pass(self, index: int, inputs: int) -> None:
        """Count that a layer saw so many inputs in a pass, which is a part of measuring it."""
        before = self._begun.get(index, 0.0)
        now = min(before + _PASS * inputs / self._inputs[index], _PASS)
        self._begun[index] = now
        self._count(self._steps[index] * (now - before))

    def _count(self, work: float) -> None:
        self._work += work
        self._left = max(self._left - work, 0.0)
        self._share = max(self._work / (self._work + self._left + 1), self._share)

    def end(self) -> None:
        """Tell that all is done."""
        if self._progress is not None:
            self._progress(self._total, self._total, "done")


def about(least: int, most: int) -> float:
    """Return what is wrong by the same factor for the least and the most attempts: their geometric mean."""
    return math.sqrt(least * most)
