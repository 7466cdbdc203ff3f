"""How near a convolution is to its cheaper forms, by its weights alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..._base.types import FloatArray
from ..algebra.allocate import Choice, allocate
from ..forms.layer import ConvLayer
from ..forms.table import CHEAPER, FORMS, UNCHANGED

__all__ = ["Separability", "frontier", "separability"]

# Eigenvalues of a larger matrix than this take more than a second: such a form is left out.
_WIDEST: Final = 2048

# Ranks of "spatial" and "low-rank" that are looked at.
_RANKS: Final = 24

# Budgets of a frontier, evenly spaced, and fractions of the whole that are among them.
_BUDGETS: Final = 16
_FRACTIONS: Final = (1 / 2, 1 / 4, 1 / 8)

# The best form is the one that leaves the least error at this fraction of a layer's MACs.
_BEST_AT: Final = 0.5


@dataclass(frozen=True)
class Separability:
    """How near a convolution is to its cheaper forms, by its weights alone.

    On data the error is another one, mostly smaller: see `separate`.

    Attributes
    ----------
    name : str
        Of the layer.
    macs : int
        Of the layer as it is, in all calls.
    spectra : dict of str to tuple of float
        For each order, "dw-pw" and "pw-dw", the norm of what the term number t of all slices holds, the whole
        layer being 1: the singular values of its slices, the largest of each slice first.
    ranks : dict of str to tuple of int
        For each form that the layer can have, the ranks that were looked at: depth multipliers 1, 2, ... of
        the two orders, channels in the middle of "spatial" and "low-rank".
    errors : dict of str to tuple of float
        For each form, the relative l2 error of the weights that each of its ranks leaves. For "spatial" in
        more than two dimensions a bound.
    form_macs : dict of str to tuple of int
        For each form, the MACs at each of its ranks.
    best : str
        The form that leaves the least error at half of the layer's MACs; "dense" where none is so cheap.
    best_error : float
        That error; 0 for "dense".

    Examples
    --------
    >>> import numpy as np
    >>> from onnx import TensorProto, helper, numpy_helper
    >>> import separable as sp
    >>> values = np.random.default_rng(0).standard_normal((32, 16, 3, 3)).astype(np.float32)
    >>> weights = numpy_helper.from_array(values, "w")
    >>> x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16, 12, 12])
    >>> y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 32, 12, 12])
    >>> node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])
    >>> graph = helper.make_graph([node], "net", [x], [y], [weights])
    >>> model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    >>> form = sp.onnx.audit(model).separability[0]
    >>> form.ranks["dw-pw"][:3], [round(error, 2) for error in form.errors["dw-pw"][:3]]
    ((1, 2, 3), [0.88, 0.77, 0.66])
    >>> form.errors["dw-pw"][-1] < 1e-6  # nine terms are all there is
    True
    """

    name: str
    macs: int
    spectra: dict[str, tuple[float, ...]]
    ranks: dict[str, tuple[int, ...]]
    errors: dict[str, tuple[float, ...]]
    form_macs: dict[str, tuple[int, ...]]
    best: str
    best_error: float

    def options(self) -> Iterator[tuple[str, int, int, float]]:
        """Yield form, rank, MACs and error of everything that was looked at.

        Yields
        ------
        tuple of (str, int, int, float)
        """
        for form, ranks in self.ranks.items():
            for rank, macs, error in zip(ranks, self.form_macs[form], self.errors[form], strict=True):
                yield form, rank, macs, error


def separability(layer: ConvLayer) -> Separability | None:
    """Return how near a layer is to each form that it can have.

    Parameters
    ----------
    layer : ConvLayer

    Returns
    -------
    Separability or None
        None for a depthwise layer, which is separable already, and for weights that are zero throughout.

    Notes
    -----
    Singular values are roots of the eigenvalues of Gram matrices, many times faster than a decomposition;
    errors below about 1e-7 are rounding. A form whose Gram matrix has more than 2048 rows is left out.
    """
    scale = float(np.abs(layer.weights).max())
    depthwise = layer.groups > 1 and layer.groups in (layer.c_in, layer.c_out)
    if depthwise or scale == 0.0:
        return None
    weights = layer.weights / scale  # so that squares stay within range
    whole = float(np.square(weights).sum())
    spectra: dict[str, tuple[float, ...]] = {}
    ranks: dict[str, tuple[int, ...]] = {}
    errors: dict[str, tuple[float, ...]] = {}
    macs: dict[str, tuple[int, ...]] = {}
    for name in CHEAPER:
        form = FORMS[name]
        most = form.full_rank(layer)
        cuts = [cut for cut in form.cuts(layer, weights) if min(cut.shape[-2:]) <= _WIDEST]
        if not most or not cuts:
            continue
        shares = [_energies(cut) / whole for cut in cuts]
        left = np.sum([_left(share, most) for share in shares], axis=0)
        ranks[name] = tuple(range(1, most + 1)) if form.multiplies else _some(most)
        errors[name] = tuple(float(min(left[rank], 1.0)) ** 0.5 for rank in ranks[name])
        macs[name] = tuple(form.cost(layer, rank).macs for rank in ranks[name])
        if form.multiplies:
            spectra[name] = tuple(np.sqrt(shares[0]).tolist())
    cheap = [
        (error, form)
        for form in ranks
        for error, cost in zip(errors[form], macs[form], strict=True)
        if cost <= _BEST_AT * layer.macs
    ]
    best_error, best = min(cheap, default=(0.0, UNCHANGED))
    return Separability(layer.name, layer.macs, spectra, ranks, errors, macs, best, best_error)


def frontier(layers: Sequence[Separability], rest: int = 0) -> tuple[tuple[int, float], ...]:
    """Return the least error of the weights at several budgets of MACs, each allocated exactly.

    Parameters
    ----------
    layers : sequence of Separability
    rest : int, optional
        MACs of what stays as it is.

    Returns
    -------
    tuple of (int, float)
        MACs of all, and the root mean square over the layers of the relative l2 error of their weights;
        from the cheapest forms to the layers as they are.

    See Also
    --------
    allocate
    """
    if not layers:
        return ()
    choices = [
        [
            Choice(layer.macs, 0.0),
            *(Choice(macs, error**2) for _, _, macs, error in layer.options() if macs < layer.macs),
        ]
        for layer in layers
    ]
    whole = sum(layer.macs for layer in layers)
    least = math.fsum(min(choice.cost for choice in options) for options in choices)
    budgets = [part * (whole + rest) - rest for part in _FRACTIONS]
    budgets += (
        np.geomspace(float(max(least + rest, 1)), float(max(whole + rest, 1)), _BUDGETS) - rest
    ).tolist()
    points: dict[int, float] = {}
    for budget in [least, whole, *(budget for budget in budgets if least < budget < whole)]:
        picks = allocate(choices, budget)
        chosen = [options[pick] for options, pick in zip(choices, picks, strict=True)]
        macs = rest + round(math.fsum(choice.cost for choice in chosen))
        points[macs] = math.sqrt(math.fsum(choice.error for choice in chosen) / len(chosen))
    return tuple(sorted(points.items()))


def _energies(matrices: FloatArray) -> FloatArray:
    """Return the squared singular values of matrices, each from the largest on, summed over the stack."""
    rows, columns = matrices.shape[-2:]
    flat = np.ascontiguousarray(matrices if rows <= columns else matrices.swapaxes(-1, -2))
    values = np.linalg.eigvalsh(flat @ flat.swapaxes(-1, -2)).reshape(-1, min(rows, columns))
    energies: FloatArray = np.maximum(values[:, ::-1], 0.0).sum(axis=0)
    return energies


def _left(shares: FloatArray, most: int) -> FloatArray:
    """Return what the terms from each rank on hold; summed from the smallest, so that nothing cancels."""
    left = np.zeros(max(most, len(shares)) + 1)
    left[: len(shares)] = np.cumsum(shares[::-1])[::-1]
    return left


def _some(most: int) -> tuple[int, ...]:
    """Return ranks that grow evenly: all of them where they are few."""
    return tuple(sorted({max(1, round(most ** (n / _RANKS))) for n in range(1, _RANKS + 1)}))
