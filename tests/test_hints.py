"""Messages and signatures that help: what was meant, what there is to choose from, nothing in full length."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import separable as sp
import separable.ndimage as ndi
from separable.arrays.boundaries import MODES
from separable.arrays.output import OVERFLOWS, ROUNDINGS
from separable.methods import NAMES as METHODS

X = np.zeros((20, 30), np.float32)
K = np.ones((3, 3))
VERBS = {
    "correlate": lambda **k: sp.correlate(X, K, **k),
    "convolve": lambda **k: sp.convolve(X, K, **k),
    "gaussian": lambda **k: sp.gaussian(X, 1, **k),
    "uniform": lambda **k: sp.uniform(X, 3, **k),
    "plan": lambda **k: sp.plan(K, X.shape, **k),
    "gaussian_filter": lambda **k: ndi.gaussian_filter(X, 1, **k),
    "convolve1d": lambda **k: ndi.convolve1d(X, [1, 1], **k),
    "gaussian_gradient_magnitude": lambda **k: ndi.gaussian_gradient_magnitude(X, 1, **k),
}
Call = Callable[..., Any]


@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("symmetric", "reflect"),
        ("edge", "nearest"),
        ("replicate", "nearest"),
        ("border", "nearest"),
        ("zeros", "constant"),
        ("CIRCULAR", "wrap"),
        ("BORDER_REFLECT_101", "mirror"),
        ("refelct", "reflect"),
    ],
)
def test_modes_of_other_libraries(name: str, theirs: str, ours: str) -> None:
    with pytest.raises(ValueError, match=f"'{theirs}'.*expected one of 'reflect'.* Did you mean '{ours}'"):
        VERBS[name](mode=theirs)


@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("out", "output"),
        ("boundary", "mode"),
        ("fill_value", "cval"),
        ("workers", "threads"),
        ("thread", "threads"),
    ],
)
def test_keywords_of_other_libraries(name: str, theirs: str, ours: str) -> None:
    if (name, theirs) == ("plan", "out"):
        return  # outputs are a matter of the call
    if name == "gaussian_gradient_magnitude":  # takes SciPy's keywords of keywords
        with pytest.raises(TypeError, match=theirs):
            VERBS[name](**{theirs: 1})
        return
    with pytest.raises(TypeError, match=rf"{name}\(\) has no keyword `{theirs}`\. Did you mean `{ours}`\?"):
        VERBS[name](**{theirs: 1})


def test_other_type_errors_stay_as_they_are() -> None:
    with pytest.raises(TypeError, match="takes one of `sigma` and `fwhm`; got neither"):
        sp.gaussian(X)
    with pytest.raises(TypeError, match=r"uniform\(\) missing 1 required positional argument: 'size'"):
        sp.uniform(X)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"correlate\(\) missing 1 required positional argument: 'x'"):
        sp.correlate(kernel_or_weights=K)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"has no keyword `nonsense_of_mine`\.$"):
        sp.gaussian(X, 1, nonsense_of_mine=3)  # type: ignore[call-arg]
    np.testing.assert_array_equal(sp.gaussian(x=X, sigma=1), sp.gaussian(X, 1))


@pytest.mark.parametrize(
    ("module", "name", "meant"),
    [
        (sp, "gaussian_filter", r"separable\.gaussian, or separable\.ndimage\.gaussian_filter"),
        (sp, "uniform_filter", r"separable\.uniform, or"),
        (sp, "convolve2d", r"separable\.convolve "),
        (sp, "GaussianBlur", r"separable\.gaussian\?"),
        (sp, "guassian", "'gaussian'"),
        (sp.families, "gausian", "'gaussian'"),
        (ndi, "gaussian_filter_1d", "'gaussian_filter1d'"),
    ],
)
def test_functions_of_other_libraries(module: Any, name: str, meant: str) -> None:
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'.*Did you mean {meant}"):
        getattr(module, name)


def test_what_is_not_linear_is_not_here() -> None:
    with pytest.raises(AttributeError, match=r"'median_filter': here are SciPy's linear filters alone\.$"):
        ndi.median_filter  # noqa: B018
    for module in (sp, sp.families, ndi):
        assert not hasattr(module, "__wrapped__")
        assert not hasattr(module, "_no_such_thing")


@pytest.mark.parametrize("module", [sp, sp.families, ndi])
def test_completion_shows_what_is_public(module: Any) -> None:
    assert dir(module) == sorted(module.__all__)
    assert not [name for name in dir(module) if name.startswith("_") and name != "__version__"]


@pytest.mark.parametrize(
    ("function", "choices"),
    [
        (sp.correlate, {"mode": MODES, "method": METHODS, "rounding": ROUNDINGS, "overflow": OVERFLOWS}),
        (sp.gaussian, {"mode": MODES, "method": METHODS, "nan": ("propagate", "omit")}),
        (sp.uniform, {"mode": MODES, "rounding": ROUNDINGS}),
        (sp.plan, {"mode": MODES, "method": METHODS}),
        (ndi.gaussian_filter, {"mode": MODES, "rounding": ROUNDINGS, "nan": ("propagate", "omit")}),
        (ndi.correlate1d, {"mode": MODES, "overflow": OVERFLOWS}),
        (ndi.gaussian_gradient_magnitude, {"mode": MODES, "overflow": OVERFLOWS}),
    ],
)
def test_signatures_show_the_choices(function: Call, choices: dict[str, Any]) -> None:
    signature = inspect.signature(function)
    plain = inspect.signature(inspect.unwrap(function))
    assert list(signature.parameters) == list(plain.parameters)
    for name, names in choices.items():
        assert signature.parameters[name].default == plain.parameters[name].default
        shown = inspect.formatannotation(signature.parameters[name].annotation)
        assert all(repr(each) in shown for each in names), shown
    assert "arguments." not in str(signature).replace("arguments.Output", "")


def test_help_shows_the_choices() -> None:
    code = "import separable as sp; help(sp.correlate)"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'grid-mirror'" in text.partition("Correlate `x`")[0]


LONG = np.arange(100_000.0)
TOO_LONG: list[tuple[Call, type[Exception]]] = [
    (lambda v: sp.gaussian(X, v), ValueError),
    (lambda v: sp.gaussian(X, 1, order=v), ValueError),
    (lambda v: sp.gaussian(X, 1, axes=v), TypeError),
    (lambda v: sp.gaussian(X, 1, tol=v), TypeError),
    (lambda v: sp.gaussian(X, 1, cval=v), TypeError),
    (lambda v: sp.gaussian(X, 1, mode=v), ValueError),
    (lambda v: sp.gaussian(X, 1, threads=v), TypeError),
    (lambda v: sp.gaussian(X, 1, method=v), ValueError),
    (lambda v: sp.correlate(X, K, origin=v), TypeError),
    (lambda v: sp.plan(K, v), TypeError),
    (lambda v: sp.plan(K, X.shape, v), TypeError),
    (lambda v: sp.families.gaussian(1, truncate=v), TypeError),
    (lambda v: sp.families.box(3, ndim=v), TypeError),
    (lambda v: sp.families.gaussian((1, 2), ndim=v), TypeError),
    (lambda v: sp.factor(K, tol=v), TypeError),
    (lambda v: sp.factor(K, rank=v), TypeError),
    (lambda v: ndi.gaussian_filter(X, v), RuntimeError),
    (lambda v: ndi.gaussian_filter(X, 1, mode=v), RuntimeError),
    (lambda v: ndi.gaussian_filter(X, 1, axes=v), TypeError),
    (lambda v: ndi.correlate1d(X, [1], axis=v), TypeError),
    (lambda v: ndi.correlate1d(X, [1], mode=v), RuntimeError),
    (lambda v: ndi.uniform_filter(X, v), RuntimeError),
]


@pytest.mark.parametrize(("call", "error"), TOO_LONG)
@pytest.mark.parametrize("value", [LONG, LONG.tolist(), np.zeros((300, 300)), "x" * 100_000], ids="anlt")
def test_nothing_is_printed_in_full(call: Call, error: type[Exception], value: Any) -> None:
    with pytest.raises((error, TypeError, ValueError)) as caught:
        call(value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("x", [X, X.tolist(), LONG, np.zeros((2, 3, 4), np.uint8)])
def test_an_array_in_place_of_its_shape(x: Any) -> None:
    with pytest.raises(TypeError, match=r"`shape=.*` is not a whole number or a sequence of them") as caught:
        sp.plan(K, x)
    if isinstance(x, np.ndarray):
        assert "pass x.shape" in str(caught.value)
        assert str(x.shape) in str(caught.value)


def test_a_number_in_place_of_an_array() -> None:
    for call in (lambda: sp.gaussian(5.0, 1), lambda: sp.uniform(5.0, 3)):
        with pytest.raises(ValueError, match="`x` has no axes to filter along"):
            call()
    with pytest.raises(ValueError, match=r"`axes=\(\)` names no axis"):
        sp.gaussian(X, 1, axes=())
