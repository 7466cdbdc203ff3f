"""Torch models in the engine: equal to torch for every batch, left as they were, refused by name."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

from torch import Tensor, nn  # noqa: E402 (skips where torch is absent)

import separable as sp  # noqa: E402
from separable._base.extras import MissingExtraError  # noqa: E402
from separable.conv.audits.differences import largest_difference  # noqa: E402
from separable.nn.programs.compile import CompiledModel, compile  # noqa: E402

TOL = 1e-5  # of the largest output: float32, sums of a few thousand


class Excitation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.up(torch.relu(self.down(mean))))


class Block(nn.Module):
    """An inverted residual with squeeze-excite, as EfficientNet has them."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        wide = 4 * channels
        self.parts = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.SiLU(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.SiLU(),
            Excitation(wide),
            nn.Conv2d(wide, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.parts(x)


class Several(nn.Module):
    def forward(self, first: Tensor, others: list[Tensor], *, scale: Tensor) -> dict[str, Any]:
        total = first + others[0] * scale
        return {"total": total, "pair": (torch.relu(total), others[1] - 1)}


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.Hardswish(), Block(), Block(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 10),
    )  # fmt: skip
    with torch.no_grad():
        net(torch.randn(8, 3, 16, 16))  # running statistics of its own
    return net


def off(got: Any, want: Any) -> float:
    leaves = torch.utils._pytree.tree_leaves
    return largest_difference(
        [tensor.numpy() for tensor in leaves(got)], [tensor.detach().numpy() for tensor in leaves(want)]
    )


@pytest.fixture(scope="module")
def compiled() -> tuple[nn.Module, CompiledModel]:
    net = network()
    return net, sp.nn.compile(net, (1, 3, 16, 16), threads=1)


# -- what it gives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_network_gives_what_torch_gives_for_any_batch(
    compiled: tuple[nn.Module, CompiledModel], batch: int
) -> None:
    net, fast = compiled
    x = torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        want = copy.deepcopy(net).eval()(x)
    got = fast(x)
    assert isinstance(got, Tensor)
    assert got.dtype == torch.float32
    assert off(got, want) <= TOL
    assert off(fast(x.contiguous(memory_format=torch.channels_last)), want) <= TOL
    assert off(fast(x.numpy()), want) <= TOL
    assert 0 <= fast.difference <= TOL


def test_the_model_is_left_as_it_was() -> None:
    net = network().train()
    net[4].eval()
    modes = [module.training for module in net.modules()]
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    tensors = [id(tensor) for tensor in (*net.parameters(), *net.buffers())]
    random = torch.get_rng_state()
    compile(net, (2, 3, 16, 16), threads=1)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert [id(tensor) for tensor in (*net.parameters(), *net.buffers())] == tensors
    assert torch.equal(torch.get_rng_state(), random)


def test_the_example_is_left_as_it_was() -> None:
    class Doubles(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2)

    x = torch.ones(2, 3)
    fast = compile(Doubles(), x, threads=1)
    assert torch.equal(x, torch.ones(2, 3))
    assert torch.equal(fast(x), torch.full((2, 3), 2.0))
    assert torch.equal(x, torch.ones(2, 3))


@pytest.mark.parametrize(
    "results",
    [
        lambda x: x,
        lambda x: x.sum(),
        lambda x: (2 * x,) * 2,
        lambda x: (x, 3 * x, x),
        lambda x: torch.ones(3),
    ],
)
def test_results_that_are_inputs_one_tensor_or_constants(results: Any) -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return results(x)

    x = torch.randn(2, 3)
    fast = compile(Model(), x, threads=1)
    leaves = torch.utils._pytree.tree_leaves
    assert len(leaves(fast(x))) == len(leaves(results(x)))
    assert off(fast(x), results(x)) <= TOL


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: sp.nn.DepthwiseSeparableConv1d(4, 8, 5, padding=2, activation="relu"), (2, 4, 20)),
        (lambda: sp.nn.DepthwiseSeparableConv2d(4, 8, 3, stride=2, depth_multiplier=2), (2, 4, 9, 11)),
        (lambda: sp.nn.DepthwiseSeparableConvTranspose2d(4, 8, 3, stride=2), (2, 4, 7, 6)),
        (lambda: sp.nn.SpatiallySeparableConv2d(4, 6, 3, padding=1), (2, 4, 8, 8)),
    ],
)
def test_separable_layers_are_compiled(layer: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    made = layer()
    fast = compile(made, shape, threads=1)
    x = torch.randn(3, *shape[1:])
    with torch.no_grad():
        assert off(fast(x), made(x)) <= TOL


def test_a_converted_network_is_compiled() -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU()).eval()
    small = sp.nn.separate(net, torch.randn(32, 3, 12, 12), by="macs", budget=0.4).model
    fast = compile(small, (1, 3, 12, 12), threads=1)
    x = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        assert off(fast(x), small(x)) <= TOL


def test_arguments_and_results_keep_their_structure() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Several()

        def forward(self, first: Tensor, others: list[Tensor], scale: Tensor) -> dict[str, Any]:
            return self.inner(first, others, scale=scale)

    model = Whole()

    def given(batch: int) -> dict[str, Any]:
        first, *others = torch.randn(3, batch, 5)
        return {"first": first, "others": others, "scale": torch.randn(batch, 1)}

    fast = compile(model, given(2), threads=1)
    assert list(fast.program.inputs) == ["first", "others_0", "others_1", "scale"]
    x = given(4)
    got, want = fast(**x), model(**x)
    assert list(got) == ["total", "pair"]
    assert isinstance(got["pair"], tuple)
    assert off(got, want) <= TOL
    with pytest.raises(TypeError, match=r"compiled for other arguments: expected first=\*"):
        fast(x["first"])


def test_inputs_that_are_not_read_may_be_given() -> None:
    class First(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return 2 * a

    fast = compile(First(), (torch.ones(2, 3), torch.ones(2, 4)), threads=1)
    assert torch.equal(fast(torch.ones(2, 3), torch.zeros(2, 4)), torch.full((2, 3), 2.0))


def test_a_batch_that_the_model_fixes_stays() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(1, 12) + torch.ones(1, 12)

    fast = compile(Fixed(), (1, 3, 4), threads=1)
    assert fast(torch.zeros(1, 3, 4)).shape == (1, 12)
    with pytest.raises(ValueError, match="shape"):
        fast(torch.zeros(2, 3, 4))


def test_the_program_is_at_hand(compiled: tuple[nn.Module, CompiledModel]) -> None:
    _, fast = compiled
    assert str(fast) == str(fast.program)
    assert "depthwise" in str(fast)
    assert "Sequential" in repr(fast)
    assert fast.profile(repeat=1).steps


# -- what is refused ---------------------------------------------------------------------------------


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x if x.sum() > 0 else x


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Words(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return x, "word"


@pytest.mark.parametrize(
    ("model", "example", "error", "said"),
    [
        (nn.ReLU, (1, 2), TypeError, "pass an instance"),
        (lambda x: x, (1, 2), TypeError, "expected a torch.nn.Module"),
        (nn.Linear(2, 3), "x", TypeError, "`example` is a str"),
        (nn.Linear(2, 3), (torch.ones(1, 2), 3), TypeError, "`example` holds 3"),
        (nn.Linear(2, 3), (1, 7), ValueError, r"does not run on `example` \(\(1, 7\) float32\)"),
        (nn.Linear(2, 3).double(), (1, 2), ValueError, "`weight` in float64"),
        (nn.Linear(2, 3, device="meta"), (1, 2), ValueError, "`weight` on the device meta"),
        (Branch(), (2, 3), ValueError, "cannot be exported to ONNX on"),
        (Random(), (2, 3), ValueError, "RandomUniformLike"),
        (Words(), (2, 3), TypeError, "no tensor"),
    ],
)
def test_what_cannot_be_compiled_is_said(
    model: Any, example: Any, error: type[Exception], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(error, match=said):
        compile(model, example)
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore")  # of torch: scripts are of the past
def test_scripts_are_refused() -> None:
    script = torch.jit.trace(nn.ReLU(), torch.ones(1, 2))
    with pytest.raises(TypeError, match="ScriptModule"):
        compile(script, (1, 2))


def test_unsupported_operations_are_named_or_run_elsewhere() -> None:
    class Summed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cumsum(x, 1)

    net = Summed()
    with pytest.raises(sp.engine.UnsupportedOperationsError, match=r"`model` \(Summed\).*: CumSum"):
        compile(net, (1, 2, 5, 5))
    fast = compile(net, (1, 2, 5, 5), fallback="onnxruntime")
    x = torch.randn(2, 2, 5, 5)
    with torch.no_grad():
        assert off(fast(x), net(x)) <= TOL


def test_a_result_that_is_off_is_not_handed_out() -> None:
    torch.manual_seed(0)
    net = nn.Conv2d(8, 8, 3)
    with pytest.raises(ValueError, match=r"`model` \(Conv2d\) gives other results .* off by \d.* `tol=0`"):
        compile(net, (1, 8, 9, 9), tol=0)
    with pytest.raises(ValueError, match="`tol=-1`"):
        compile(net, (1, 8, 9, 9), tol=-1)


def test_wrong_inputs_of_a_call_are_named(compiled: tuple[nn.Module, CompiledModel]) -> None:
    _, fast = compiled
    x = torch.ones(1, 3, 16, 16)
    with pytest.raises(ValueError, match="no_grad"):
        fast(x.clone().requires_grad_())
    with torch.no_grad():
        fast(x.clone().requires_grad_())
    with pytest.raises(TypeError, match="float64"):
        fast(x.double())
    with pytest.raises(TypeError, match="bfloat16"):
        fast(x.bfloat16())
    with pytest.raises(ValueError, match=r"\(1, 3, 16, 15\).*batch"):
        fast(x[..., :15])
    with pytest.raises(ValueError, match="device meta"):
        fast(x.to("meta"))


def test_it_is_not_pickled(compiled: tuple[nn.Module, CompiledModel]) -> None:
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            copied(compiled[1])


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.delitem(sys.modules, "separable.nn.programs.compile")
    with pytest.raises(MissingExtraError, match=r"pip install 'separable\[compile\]'"):
        __import__("separable.nn.programs.compile")


# -- how far results are apart -----------------------------------------------------------------------


def test_differences_are_relative_to_the_largest_number_of_each() -> None:
    assert largest_difference([np.array([1.0, 10.0])], [np.array([2.0, 10.0])]) == pytest.approx(0.1)
    assert largest_difference([np.array([0.5])], [np.array([0.0])]) == 0.5
    assert largest_difference([np.ones(2), np.ones(2)], [np.ones(2), 2 * np.ones(2)]) == 0.5
    assert largest_difference([np.ones(2)], [np.ones(3)]) == np.inf
    assert largest_difference([np.ones(2)], []) == np.inf
    assert largest_difference([], []) == 0.0
    known = np.array([np.nan, np.inf, 1.0])
    assert largest_difference([known], [known.copy()]) == 0.0
    assert largest_difference([np.array([1.0, np.inf, 1.0])], [known]) == np.inf
    assert largest_difference([np.array([np.nan, np.inf, np.nan])], [known]) == np.inf
