"""Activations against torch's, and the fit that knows what they let through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from separable.conv import Activation, ConvLayer, Moments, fit
from separable.conv.forms.activation import ACTIVATIONS, activation_of
from tests.conv_layers import inputs_of, layer_of

torch = pytest.importorskip("torch")
F = torch.nn.functional

TORCH = {
    "relu": F.relu,
    "clip": lambda z: F.hardtanh(z, -0.5, 2.0),
    "leaky_relu": lambda z: F.leaky_relu(z, 0.2),
    "elu": lambda z: F.elu(z, 0.7),
    "silu": F.silu,
    "hard_swish": F.hardswish,
    "gelu": F.gelu,
    "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": lambda z: F.hardtanh(0.3 * z + 0.4, 0.0, 1.0),
    "tanh": torch.tanh,
}
PARAMETERS = {"clip": (-0.5, 2.0), "leaky_relu": (0.2,), "elu": (0.7,), "hard_sigmoid": (0.3, 0.4)}


def of_name(name: str) -> Activation:
    return Activation(name, PARAMETERS.get(name, ()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_are_those_of_torch(name, dtype):
    z = np.concatenate([np.linspace(-9, 9, 2001), [0.0, -1e30, 1e30, -1e-30]]).astype(dtype)
    want = TORCH[name](torch.tensor(z)).numpy()
    got = of_name(name)(z)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-6)


def test_slopes_of_channels():
    slopes = (0.1, 0.5, -0.2)
    z = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    want = F.prelu(torch.tensor(z), torch.tensor(slopes)).numpy()
    whole = Activation("leaky_relu", slopes)
    np.testing.assert_allclose(whole(z), want, rtol=1e-6)
    np.testing.assert_allclose(whole.of(slice(1, 3))(z[:, 1:]), want[:, 1:], rtol=1e-6)
    assert of_name("silu").of(slice(0, 1)) == of_name("silu")


@given(
    name=st.sampled_from(tuple(ACTIVATIONS)),
    wanted=st.floats(-20, 20, width=32),
    given_=st.floats(-20, 20, width=32),
)
@settings(max_examples=400, deadline=None)
def test_an_aim_lies_between_and_comes_out_no_worse(name, wanted, given_):
    activation = of_name(name)
    y, now = np.array([[wanted]]), np.array([[given_]])
    aim = activation.aim(y, now)
    low, high = min(wanted, given_), max(wanted, given_)
    assert low - 1e-5 <= aim[0, 0] <= high + 1e-5
    if ACTIVATIONS[name].cuts:
        np.testing.assert_allclose(activation(aim), activation(y), atol=1e-5)
    assert activation.aim(y, y)[0, 0] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_what_an_activation_hides_does_not_matter(name):
    rng = np.random.default_rng(10)
    activation = of_name(name)
    layer = layer_of(rng, (12, 8, 3, 3), (8, 8), activation=activation)
    x = inputs_of(rng, layer, 160)
    moments = Moments(layer, keep=1 << 26)
    moments.add(x, layer(x))

    def channels_last(values):
        return np.moveaxis(values, 1, -1)

    want = activation(channels_last(layer(x)))

    def behind(rounds):
        new = fit(layer, moments, "dw-pw", 1, rounds=rounds)
        return np.square(activation(channels_last(new(x))) - want).mean()

    # What is cut off, or nearly so, gives the most room; a leak of 0.2 or a bent tail some.
    gained = {"relu": 0.9, "hard_sigmoid": 0.9, "clip": 0.9, "leaky_relu": 0.97, "elu": 0.99}
    assert behind(12) < gained.get(name, 0.97) * behind(0)


def test_the_other_branch_of_a_sum_shifts_an_activation():
    rng = np.random.default_rng(4)
    layer = layer_of(rng, (6, 5, 3, 3), (8, 8), activation="hard_swish", summed=True)
    x = inputs_of(rng, layer, 120)
    y = layer(x)
    beside = rng.standard_normal(y.shape) - 2
    alone, with_branch = Moments(layer, keep=1 << 26), Moments(layer, keep=1 << 26)
    alone.add(x, y)
    with_branch.add(x, y, -beside)
    assert alone.excerpt is None
    activation = Activation("hard_swish")
    want = activation(y + beside)

    def behind(moments):
        return np.square(activation(fit(layer, moments, "dw-pw", 1)(x) + beside) - want).mean()

    assert behind(with_branch) < 0.97 * behind(alone)


def test_what_is_no_activation_is_refused():
    assert activation_of(None) is None
    assert activation_of("clip").parameters == (0.0, 6.0)
    with pytest.raises(ValueError, match="is unknown; expected one of 'relu'"):
        Activation("swish")
    with pytest.raises(TypeError, match="expected a name, an Activation or None"):
        activation_of(3)
    with pytest.raises(ValueError, match="expected 2 numbers"):
        Activation("clip", (1.0,))
    with pytest.raises(ValueError, match="a lower and a higher one"):
        Activation("clip", (1.0, 1.0))
    with pytest.raises(ValueError, match="the slope"):
        Activation("hard_sigmoid", (0.0, 1.0))
    with pytest.raises(ValueError, match="is unknown"):
        ConvLayer("c", np.ones((2, 2, 1)), activation="swish")
