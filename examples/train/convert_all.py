"""Convert small trained networks and print what is left of their accuracy, on pictures they have not seen.

Run ``python examples/train/convert_all.py`` (about an hour on two cores; ``--quick`` takes one seed of
the digits). Conversions see no labels and train nothing, except where a line says "distilled".

- *dense*: the network itself.
- *SVD*: every convolution of 3x3 but the first replaced by its nearest one of T terms, from the weights alone
  (Network Decoupling, Guo et al., BMVC 2018).
- *P refit*: the same, and each pointwise convolution solved for by least squares on the calibration data.
- *separate*: ``sp.nn.separate`` with as many multiplications as those two have left, or fewer.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from networks import NETWORKS, accuracy, trained
from pictures import SETS, Pictures
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import separable as sp

CURVE = (16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Case:
    """A trained network, the pictures it is calibrated on, and those it is judged by."""

    net: nn.Module
    data: Pictures
    inputs: Tensor
    dense: float
    conv_macs: int


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="the digits with one seed")
    options.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options.add_argument("--seeds", type=int, default=3)
    chosen = options.parse_args()
    sets, seeds = (["digits"], 1) if chosen.quick else (chosen.sets, chosen.seeds)
    start = time.monotonic()
    print("Accuracy in %, held-out pictures; mean ± half the range over the seeds.\n")
    print(f"{'':21}{'dense':>12}{'':>7}{'SVD':>12}{'P refit':>12}{'separate':>12}{'lost':>7}")
    curves = {}
    for name in sets:
        for net in chosen.networks:
            cases = [case_of(name, net, seed) for seed in range(seeds)]
            for rank in (1, 2):
                print(row(f"{name} {net}, T = {rank}", *at_rank(cases, rank)), flush=True)
            print(row(f"{name} {net}, 1/8", *at_an_eighth(cases)), flush=True)
            curves[name, net] = cases[0]
    print("\nInputs to calibrate on, T = 1, seed 0:\n")
    print(f"{'':21}{'dense':>12}" + "".join(f"{count:>8}" for count in CURVE))
    for (name, net), case in curves.items():
        print(f"{name + ' ' + net:21}{case.dense:>12.1f}" + curve(case), flush=True)
    print(f"\n{time.monotonic() - start:.0f} s on {torch.get_num_threads()} threads")


def case_of(name: str, net: str, seed: int, epochs: int = 12) -> Case:
    """Return a network trained on one of the sets."""
    data = SETS[name](seed)
    model = trained(net, data, seed, epochs)
    order = torch.randperm(len(data.train_x), generator=torch.Generator().manual_seed(seed))
    inputs = data.train_x[order[: CURVE[-1]]]
    return Case(model, data, inputs, accuracy(model, data), conv_macs(model, inputs))


def conv_macs(model: nn.Module, inputs: Tensor) -> int:
    """Return the multiplications of all convolutions for one picture."""
    kinds = sp.nn.audit(model, inputs[:1]).macs_by_kind
    return sum(macs for kind, macs in kinds.items() if kind != "linear")


def at_rank(cases: Sequence[Case], rank: int) -> tuple[str, list[list[float]]]:
    """Return how many times cheaper T terms are, and accuracies: dense, SVD, P refit, separate."""
    found = []
    for case in cases:
        free, refit = decoupled(case, rank), decoupled(case, rank, refit=True)
        left = conv_macs(free, case.inputs) / case.conv_macs
        done = sp.nn.separate(case.net, case.inputs, left, by="macs")
        assert conv_macs(done.model, case.inputs) <= conv_macs(free, case.inputs)
        found.append([case.dense, *(accuracy(net, case.data) for net in (free, refit, done.model))])
    return f"{1 / left:.1f}x", found


def at_an_eighth(cases: Sequence[Case], passes: int = 60) -> tuple[str, list[list[float]]]:
    """Return accuracies at an eighth of the multiplications: dense, nothing twice, distilled."""
    found = []
    for case in cases:
        done = sp.nn.separate(case.net, case.inputs, 0.125, by="macs", distill=passes)
        found.append([case.dense, float("nan"), float("nan"), accuracy(done.model, case.data)])
    return "8.0x", found


def row(name: str, times: str, found: list[list[float]]) -> str:
    """Return a line of the table."""
    columns = list(zip(*found, strict=True))
    cells = [
        ""
        if math.isnan(values[0])
        else f"{statistics.mean(values):.1f} ± {(max(values) - min(values)) / 2:.1f}"
        for values in columns
    ]
    lost = statistics.mean(columns[0]) - statistics.mean(columns[-1])
    distilled = "  distilled" if not cells[1] else ""
    return (
        f"{name:21}{cells[0]:>12}{times:>7}"
        + "".join(f"{cell:>12}" for cell in cells[1:])
        + f"{lost:>7.2f}{distilled}"
    )


def curve(case: Case) -> str:
    """Return the accuracies by the number of pictures to calibrate on."""
    counts = [count for count in CURVE if count <= len(case.inputs)]
    return "".join(f"{with_inputs(case, count):8.1f}" for count in counts)


def with_inputs(case: Case, count: int) -> float:
    """Return the accuracy where so many pictures calibrate, at the multiplications of one term."""
    left = conv_macs(decoupled(case, 1), case.inputs) / case.conv_macs
    return accuracy(sp.nn.separate(case.net, case.inputs[:count], left, by="macs").model, case.data)


@torch.no_grad()
def decoupled(case: Case, rank: int, refit: bool = False) -> nn.Module:
    """Return the network with T terms for every convolution of 3x3 but the first, from the weights alone."""
    net = copy.deepcopy(case.net)
    fuse_norms(net)
    dense = [
        (parent, name, conv)
        for parent in net.modules()
        for name, conv in parent.named_children()
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3)
    ]
    for parent, name, conv in dense[1:]:
        wanted = observed(net, conv, case.inputs)[1] if refit else None
        pair = sp.nn.DepthwiseSeparableConv2d.from_dense(conv, rank)
        setattr(parent, name, pair)
        if wanted is not None:
            seen = observed(net, pair.conv_pw, case.inputs)[0]
            ones = torch.ones(len(seen), 1)
            solution = torch.linalg.lstsq(
                torch.cat([seen, ones], 1).double(), wanted.double()
            ).solution.float()
            pair.conv_pw.weight.copy_(solution[:-1].T.reshape(pair.conv_pw.weight.shape))
            pair.conv_pw.bias.copy_(solution[-1])
    return net


def fuse_norms(net: nn.Module) -> None:
    """Fold each batch norm into the convolution before it."""
    for parent in list(net.modules()):
        children = list(parent.named_children())
        for (name, conv), (after, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, after, nn.Identity())


def observed(net: nn.Module, layer: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a layer reads and gives, a row for each pixel."""
    rows: list[tuple[Tensor, Tensor]] = []
    handle = layer.register_forward_hook(
        lambda module, read, given: rows.append((read[0].clone(), given.clone()))
    )
    for batch in inputs[:256].split(64):
        net(batch)
    handle.remove()
    read, given = (torch.cat(parts).movedim(1, -1).flatten(0, -2) for parts in zip(*rows, strict=True))
    return read, given


if __name__ == "__main__":
    main()
