"""The list of convolution works, with what each is asked to reach."""

from __future__ import annotations

from benchmarks.cases import AVX2, NATIVE
from benchmarks.conv_works import ConvWork
from benchmarks.results import BEST_PEER, FMA_PEAK, REALISED, TORCH_CHANNELS_LAST, Target

BLOCKS, TRAINING = "Depthwise separable blocks", "Training step of a block"

IN_CACHE = 0.85  # share of the FMA peak asked for where input, result and weights fit the cache
OF_FLOP_RATIO = 0.9  # share of the saved arithmetic that is to arrive as saved time


def conv_works() -> list[ConvWork]:
    """Return all fused blocks, in the order they are reported."""
    return [
        _block("dsc-32-64-112", (32, 64), (112,) * 2, (14, 11), 3, _targets(1.4, in_cache=True)),
        _block("dsc-128-128-56", (128, 128), (56,) * 2, (14, 11), 3, _targets(1.2, in_cache=True)),
        _block("dsc-512-512-14", (512, 512), (14,) * 2, (14, 11), 3, _targets(1.06, in_cache=True)),
        _block("dsc-64-128-224", (64, 128), (224,) * 2, (14, 11), 3, _targets(2.5)),
        _block("dsc-128-128-512", (128, 128), (512,) * 2, (14, 11), 3, _targets(2.0)),
        _block("dsc-30-50-112", (30, 50), (112,) * 2, (14, 11), 3, _targets(2.0)),
        _block("dsc-7x7", (96, 96), (56,) * 2, (14, 11), 7, _targets(2.0)),
        _block("dsc-dilated", (64, 64), (112,) * 2, (14, 11), 5, _targets(2.0), dilation=2),
        _block("dsc-stride-2", (64, 128), (112,) * 2, (14, 11), 3, (), stride=2),
        _block("dsc-1d", (256, 256), (16_000,), (61,), 15, _targets(2.0)),
        _block("dsc-3d", (64, 64), (64,) * 3, (6, 9, 7), 3, _targets(2.0)),
    ]


def training_works() -> list[ConvWork]:
    """Return all training steps, in the order they are reported."""
    return [
        _training("train-128-56", (128, 128), (56,) * 2, (14, 11), 1.5, batch=8),
        _training("train-3d-32", (64, 64), (32,) * 3, (6, 9, 7), None, batch=1),
        _training("train-3d-64", (64, 64), (64,) * 3, (6, 9, 7), 3.0, batch=1),
    ]


def _block(
    name: str,
    channels: tuple[int, int],
    sizes: tuple[int, ...],
    quick_sizes: tuple[int, ...],
    kernel: int,
    targets: tuple[Target, ...],
    stride: int = 1,
    dilation: int = 1,
) -> ConvWork:
    variants = (NATIVE, AVX2)
    return ConvWork(name, BLOCKS, *channels, sizes, quick_sizes, kernel, variants, targets, stride, dilation)


def _training(
    name: str,
    channels: tuple[int, int],
    sizes: tuple[int, ...],
    quick_sizes: tuple[int, ...],
    asked: float | None,
    batch: int,
) -> ConvWork:
    targets = () if asked is None else _for_both_threads(TORCH_CHANNELS_LAST, asked)
    return ConvWork(name, TRAINING, *channels, sizes, quick_sizes, 3, (NATIVE,), targets, batch=batch)


def _targets(best_peer: float, in_cache: bool = False) -> tuple[Target, ...]:
    targets = _for_both_threads(BEST_PEER, best_peer) + _for_both_threads(REALISED, OF_FLOP_RATIO)
    return targets + _for_both_threads(FMA_PEAK, IN_CACHE) if in_cache else targets


def _for_both_threads(metric: str, bound: float) -> tuple[Target, ...]:
    return tuple(Target(metric, bound, NATIVE.label, threads) for threads in (1, 2))
