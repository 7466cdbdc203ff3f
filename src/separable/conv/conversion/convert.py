"""From a trained network to its separable form: a form for each layer, and all of them fitted in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..forms.layer import Replacement
from ..forms.table import FORMS
from .goal import COSTS, goal_of
from .network import Network, NetworkTimes, Progress
from .records import Conversion, ConversionReport, ConvertedLayer
from .run import POSITIONS, ROUNDS, ConversionRun

__all__ = ["COSTS", "Conversion", "ConversionReport", "ConvertedLayer", "Network", "Progress", "convert"]


def convert(
    network: Network,
    budget: float | None = None,
    by: str = "macs",
    *,
    max_loss: float | None = None,
    forms: Sequence[str] = tuple(FORMS),
    rank: int | str | None = None,
    other_macs: int = 0,
    other_params: int = 0,
    other_ms: float = 0.0,
    positions: int = POSITIONS,
    rounds: int = ROUNDS,
    equalise: bool = True,
    threads: int | None = None,
    loss_of: Callable[[Mapping[int, Replacement]], float] | None = None,
    put_back: Callable[[Mapping[int, Replacement]], Mapping[int, str]] | None = None,
    whole_ms: NetworkTimes | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Choose a form for each layer under a budget or a loss, and fit them one after the other.

    Parameters
    ----------
    network : Network
    budget : float, optional
        What may be left of the original's cost, as a fraction: above 0, at most 1.
    by : {"macs", "params", "time"}, optional
        The cost. "time" is that of the network's layers, as it measures them.
    max_loss : float, optional
        Instead of a budget: the cheapest that is found which loses no more. By default 0.005 where there is
        no budget and no rank.
    forms : sequence of str, optional
        Which forms may be used; "dense" always may.
    rank : int or "full", optional
        Instead of a budget: this rank for every layer, in the first of `forms` that it has, dearer or not.
        "full" says the same as the original, in that form.
    other_macs, other_params : int, optional
        Cost of the convolutions that cannot be converted; part of the original's.
    other_ms : float, optional
        What the network takes beside its layers, in milliseconds.
    positions : int, optional
        Output positions of each sample that are looked at, at most.
    rounds : int, optional
        Times that the choice is made anew with what it did to the outputs, and the network converted again.
    equalise : bool, optional
        Scale the channels between the convolutions of each form for eight bits, which changes nothing else.
    threads : int, optional
        That fits run on. Each call of BLAS runs on one of them. Default: one for each core.
    loss_of : callable, optional
        Returns what `max_loss` is of, given the layers in their new form. By default the change of the
        outputs.
    put_back : callable, optional
        Returns layers that shall stay as they are after all, and why, given all in their new form: those
        that do not pay where they run. What stands behind them is fitted once more.
    whole_ms : callable, optional
        Returns milliseconds of the network as it is and with each of some sets of layers in their new form,
        each as a whole, or None where it cannot tell. A budget of time is kept to by these; without it by the
        sum of the layers' times.
    progress : callable, optional
        Called with the steps done, those in all, and the present one.

    Returns
    -------
    Conversion

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the budget cannot be met.

    Notes
    -----
    1. For each layer, all forms and ranks that are cheaper than it are fitted to what it sees in the original
       network. Two of them are put into the network by themselves: how much they change its outputs
       tells what an error of this layer is worth.
    2. The choices whose errors, so weighted, add up to the least under the budget are found exactly.
    3. Layer by layer in running order: fit the form chosen to give the original's outputs for what the
       layer reads behind the layers already converted, so that errors do not pile up.
    4. The same with choices that are nowhere worse than one rank for all layers. Then weights are taken anew
       from the better of both, where each layer by itself is put back, and the network converted once more,
       as long as that changes the outputs less.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> class OneLayer:  # a network of one convolution, with its calibration inputs
    ...     def __init__(self, layer, x):
    ...         self.layers, self.x, self.held_out = [layer], x, len(x) // 8
    ...
    ...     def samples(self, index, replaced):
    ...         x = self.x[self.held_out :]
    ...         yield x, self.layers[0](x)
    ...
    ...     def output_change(self, replaced):
    ...         x, y = self.x[: self.held_out], self.layers[0](self.x[: self.held_out])
    ...         for conv in replaced[0].convs if replaced else self.layers:
    ...             x = conv(x)
    ...         return float(np.mean((x - y) ** 2) / np.var(y))
    ...
    ...     def milliseconds(self, index, replacement):
    ...         raise NotImplementedError("no budget of time")
    >>> rng = np.random.default_rng(0)
    >>> weights = rng.standard_normal((8, 4, 3, 3))
    >>> layer = sp.conv.ConvLayer("conv", weights, padding=((1, 1), (1, 1)), sizes=(8, 8))
    >>> network = OneLayer(layer, rng.standard_normal((64, 4, 8, 8)))
    >>> done = sp.conv.convert(network, budget=0.5)
    >>> done.report.macs_after <= 0.5 * done.report.macs_before, 0 < done.report.output_change < 1
    (True, True)
    >>> done.replacements[0].form == done.report.layers[0].form
    True
    """
    goal = goal_of(budget, by, max_loss, forms, rank)
    with ConversionRun(
        network,
        [goal],
        other_macs=other_macs,
        other_params=other_params,
        other_ms=other_ms,
        positions=positions,
        rounds=rounds,
        equalise=equalise,
        threads=threads,
        loss_of=loss_of,
        put_back=put_back,
        whole_ms=whole_ms,
        progress=progress,
    ) as run:
        done = run.reach(goal)
        run.end()
    return done
