"""Activations that a fit knows: what they give, and which outputs of a layer are as good as those wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["ACTIVATIONS", "Activation", "activation_of"]

Floats: TypeAlias = npt.NDArray[Any]

# Closer to each other than this, in terms of their size, two values have a slope that rounding decides.
_CLOSE: Final = 1e-3


def _relu(z: Floats) -> Floats:
    return np.asarray(np.maximum(z, 0))


def _leaky_relu(z: Floats, *slopes: float) -> Floats:
    return np.where(z > 0, z, z * np.asarray(slopes, z.dtype))


def _clip(z: Floats, low: float, high: float) -> Floats:
    return np.asarray(np.minimum(np.maximum(z, z.dtype.type(low)), z.dtype.type(high)))


def _elu(z: Floats, alpha: float) -> Floats:
    return np.where(z > 0, z, z.dtype.type(alpha) * np.expm1(np.minimum(z, 0)))


def _sigmoid(z: Floats) -> Floats:
    return np.asarray((1 + np.tanh(z / 2)) / 2)


def _hard_sigmoid(z: Floats, alpha: float, beta: float) -> Floats:
    return _clip(z * z.dtype.type(alpha) + z.dtype.type(beta), 0.0, 1.0)


def _silu(z: Floats) -> Floats:
    return np.asarray(z * _sigmoid(z))


def _hard_swish(z: Floats) -> Floats:
    return np.asarray(z * _hard_sigmoid(z, 1 / 6, 0.5))


def _gelu(z: Floats) -> Floats:
    return np.asarray(z * (1 + _erf(z * z.dtype.type(math.sqrt(0.5)))) / 2)


def _gelu_tanh(z: Floats) -> Floats:
    inner = z.dtype.type(math.sqrt(2 / math.pi)) * (z + z.dtype.type(0.044715) * z * z * z)
    return np.asarray(z * (1 + np.tanh(inner)) / 2)


def _erf(z: Floats) -> Floats:
    """Return the error function, within 1.5e-7 (Abramowitz and Stegun, Handbook, 7.1.26)."""
    t = 1 / (1 + 0.3275911 * np.abs(z))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.asarray(np.copysign(1 - series * np.exp(-z * z), z), z.dtype)


@dataclass(frozen=True)
class _Function:
    """What is known of an activation: the function, and the parameters that it has by default.

    Attributes
    ----------
    function : callable
    parameters : tuple of float
    any_number : bool
        Whether there may be one parameter for each channel.
    steep : callable
        From the parameters, the largest slope.
    flat : callable
        From the parameters, where it is constant: intervals (from, to).
    cuts : bool
        Whether it is nothing but a straight line where it is not constant.
    """

    function: Callable[..., Floats]
    parameters: tuple[float, ...] = ()
    any_number: bool = False
    steep: Callable[..., float] = lambda *parameters: 1.0
    flat: Callable[..., tuple[tuple[float, float], ...]] = lambda *parameters: ()
    cuts: bool = False


def _steepest(*slopes: float) -> float:
    return max(1.0, *map(abs, slopes))


def _sigmoid_ends(alpha: float, beta: float) -> tuple[tuple[float, float], ...]:
    return ((-math.inf, -beta / alpha), ((1 - beta) / alpha, math.inf))


ACTIVATIONS: Final[Mapping[str, _Function]] = {
    "relu": _Function(_relu, flat=lambda: ((-math.inf, 0.0),), cuts=True),
    "clip": _Function(
        _clip,
        (0.0, 6.0),
        flat=lambda low, high: ((-math.inf, low), (high, math.inf)),
        cuts=True,
    ),
    "leaky_relu": _Function(_leaky_relu, (0.01,), any_number=True, steep=_steepest),
    "elu": _Function(_elu, (1.0,), steep=_steepest),
    "silu": _Function(_silu),
    "hard_swish": _Function(_hard_swish, flat=lambda: ((-math.inf, -3.0),)),
    "gelu": _Function(_gelu),
    "gelu_tanh": _Function(_gelu_tanh),
    "sigmoid": _Function(_sigmoid, steep=lambda: 0.25),
    "hard_sigmoid": _Function(
        _hard_sigmoid, (0.2, 0.5), steep=lambda alpha, beta: alpha, flat=_sigmoid_ends, cuts=True
    ),
    "tanh": _Function(np.tanh),
}


@dataclass(frozen=True)
class Activation:
    """A function of every output of a layer, by name.

    Attributes
    ----------
    name : str
        One of `ACTIVATIONS`.
    parameters : tuple of float
        "clip": its ends; "leaky_relu": the slope below zero, or one for each channel; "elu": alpha;
        "hard_sigmoid": alpha and beta, of ``clip(alpha*z + beta, 0, 1)``. Default: those of ReLU6, 0.01, 1,
        and (0.2, 0.5).

    Raises
    ------
    ValueError
        If the name is unknown, or the parameters are not those that it has.

    Examples
    --------
    >>> import numpy as np
    >>> from separable.conv import Activation
    >>> Activation("clip")(np.array([-1.0, 3.0, 9.0]))  # ReLU6
    array([0., 3., 6.])
    >>> Activation("leaky_relu", (0.1,)).parameters
    (0.1,)
    """

    name: str
    parameters: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        kind = ACTIVATIONS.get(self.name)
        if kind is None:
            raise ValueError(
                f"`activation={self.name!r}` is unknown; expected one of {', '.join(map(repr, ACTIVATIONS))}."
            )
        given = tuple(map(float, self.parameters)) or kind.parameters
        if any(map(math.isnan, given)) or (len(given) != len(kind.parameters) and not kind.any_number):
            raise ValueError(
                f"`activation` {self.name!r} has parameters {given}; expected {len(kind.parameters)} "
                f"numbers, such as {kind.parameters}."
            )
        if self.name == "clip" and not given[0] < given[1]:
            raise ValueError(f"`activation` 'clip' has the ends {given}; expected a lower and a higher one.")
        if self.name == "hard_sigmoid" and not 0 < given[0] < math.inf:
            raise ValueError(f"`activation` 'hard_sigmoid' has the slope {given[0]}; expected above 0.")
        object.__setattr__(self, "parameters", given)

    def of(self, channels: slice) -> Activation:
        """Return it for some of the channels."""
        per_channel = ACTIVATIONS[self.name].any_number and len(self.parameters) > 1
        return Activation(self.name, self.parameters[channels]) if per_channel else self

    def __call__(self, z: Floats) -> Floats:
        """Return what it gives.

        Parameters
        ----------
        z : ndarray, shape ``(..., C)``
            Floating-point numbers; channels last.

        Returns
        -------
        ndarray
            Of the same shape and dtype.
        """
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(ACTIVATIONS[self.name].function(z, *self.parameters), z.dtype)

    def aim(self, wanted: Floats, given: Floats, behind: tuple[Floats, Floats] | None = None) -> Floats:
        """Return what a fit by least squares should aim at, so that what comes out behind is right.

        Where the activation is constant about a wanted output, it is the nearest output that comes out the
        same. Elsewhere it lies between what a layer gives and what is wanted: the steeper the activation
        between the two, the nearer to the latter. The squared distance behind the activation is a weighted
        one before it, by the square of that slope, and never above one that has the largest slope everywhere;
        the aim is where the latter's bound is least (majorisation, as in [1]_). So a fit to it cannot make
        the weighted distance larger.

        Parameters
        ----------
        wanted, given : ndarray, shape ``(..., C)``
            Outputs of the layer.
        behind : tuple of ndarray, optional
            What the activation makes of both, where that is known.

        Returns
        -------
        ndarray

        References
        ----------
        .. [1] D. R. Hunter, K. Lange, A tutorial on MM algorithms, The American Statistician 58(1), 2004.
        """
        kind = ACTIVATIONS[self.name]
        target = wanted if kind.cuts else given + self._weight(wanted, given, behind) * (wanted - given)
        for low, high in kind.flat(*self.parameters):
            low, high = (wanted.dtype.type(end) for end in (low, high))
            alike = (wanted >= low) & (wanted <= high)
            target = np.where(alike, np.clip(given, low, high), target)
        return np.asarray(target, wanted.dtype)

    def _weight(self, wanted: Floats, given: Floats, behind: tuple[Floats, Floats] | None) -> Floats:
        """Return the square of the slope between two outputs, over the largest one."""
        high, low = (self(wanted), self(given)) if behind is None else behind
        apart = wanted - given
        close = np.abs(apart) <= _CLOSE * (1 + np.abs(wanted))
        slope = (high - low) / np.where(close, 1, apart)
        steep = ACTIVATIONS[self.name].steep(*self.parameters)
        return np.where(close, 1, np.minimum(np.square(slope / steep), 1))


def activation_of(value: Activation | str | None) -> Activation | None:
    """Return an activation that is given by itself or by its name, or None for None.

    Raises
    ------
    TypeError, ValueError
        If it is neither, or unknown.
    """
    if value is None or isinstance(value, Activation):
        return value
    if not isinstance(value, str):
        raise TypeError(
            f"`activation={value!r}` is {type(value).__name__}; expected a name, an Activation or None."
        )
    return Activation(value)
