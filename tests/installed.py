"""What a user gets from a wheel: public verbs, the engine and the command line, without the repository.

Run by ``make wheel`` and by ``test_wheel.py`` with the interpreter of a bare environment, from an empty
folder and without a compiler: ``python installed.py SOURCES EXTRAS``, the extras that were installed with a
comma between them. Ends with an error where something of an installed package does not work.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import separable as sp

IMAGE = np.random.default_rng(0).uniform(0, 255, (40, 50)).astype(np.float32)


def check(holds: object, what: str) -> None:
    if not holds:
        raise SystemExit(f"the installed package: {what}")


def filters() -> None:
    """A sum of terms and a plan give what the definition says, with NumPy alone."""
    weights = np.multiply.outer([1.0, 2.0, 1.0], [1.0, 0.0, -1.0])
    kernel = sp.factor(weights)
    check(kernel.rank == 1 and sp.is_separable(weights), "a product of two columns has rank 1")
    padded = np.pad(IMAGE.astype(float), 1, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    expected = np.einsum("ijkl,kl->ij", windows, weights)
    limit = 1e-4 * np.abs(expected).max()
    plan = sp.plan(kernel, IMAGE.shape)
    for name, got in {"correlate": sp.correlate(IMAGE, kernel), "plan": plan(IMAGE)}.items():
        check(np.abs(got - expected).max() < limit, f"{name} differs from its definition")
    check("MACs" in str(plan.explain()), "a plan explains itself")
    check(sp.uniform(np.full((9, 9), 7, np.uint8), 3).min() == 7, "the mean of a constant is that constant")


def fused_operator() -> None:
    """It adds up, with NumPy alone."""
    depthwise, pointwise = np.ones((3, 1, 3, 3), np.float32), np.ones((8, 3), np.float32)
    block = sp.conv.FusedConv(depthwise, pointwise, activation="relu")
    sums = block(np.ones((1, 5, 5, 3), np.float32))
    check(sums.shape == (1, 5, 5, 8) and sums[0, 2, 2, 0] == 27, "sums of ones")


def scipys_names() -> None:
    """One filter has two names."""
    import separable.ndimage as ndi

    check(np.array_equal(sp.gaussian(IMAGE, 2.0), ndi.gaussian_filter(IMAGE, 2.0)), "gaussian, by two names")


def networks(model: Path) -> None:
    """A network runs, and has half of its MACs as a separable one."""
    batch = np.random.default_rng(1).normal(size=(32, 1, 20, 20)).astype(np.float32)
    check(np.isfinite(np.asarray(sp.engine.load(model)(batch))).all(), "the engine's numbers are finite")
    report = sp.onnx.separate(model, batch, budget=0.5, by="macs", never_slower=False).report
    check(report.macs_after <= 0.5 * report.macs_before, "half of the MACs")


def command_line(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the script that pip made."""
    script = Path(sys.executable).with_name("separable")
    return subprocess.run([script, *words], check=False, capture_output=True, text=True, cwd=folder)


def verbs(model: Path, folder: Path) -> None:
    """The command line does what Python does."""

    def run(*words: str) -> str:
        done = command_line(*words, folder=folder)
        check(done.returncode == 0, f"separable {' '.join(words)}: {done.stderr}")
        return done.stdout

    check(sp.__version__ in run("--version"), "separable --version")
    np.save(folder / "image.npy", IMAGE)
    run("filter", "image.npy", "smooth.npy", "--gaussian", "2")
    smooth = np.load(folder / "smooth.npy")
    check(np.array_equal(smooth, sp.gaussian(IMAGE, 2.0)), "separable filter is sp.gaussian")
    if model.exists():
        check(json.loads(run("audit", str(model), "--json")), "separable audit --json")


def main(sources: str, extras: str = "") -> None:
    """Check all that was installed."""
    package = Path(sp.__file__).resolve().parent
    check(Path(sources).resolve() / "src" not in package.parents, "these are the sources")
    filters()
    fused_operator()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        model = folder / "model.onnx"
        if "ndimage" in extras.split(","):
            scipys_names()
        if "onnx" in extras.split(","):
            from separable.demo.network import trained_bytes

            model.write_bytes(trained_bytes())
            networks(model)
        if "cli" in extras.split(","):
            verbs(model, folder)
        else:
            told = command_line("--version", folder=folder)
            check(told.returncode and "pip install 'separable[cli]'" in told.stderr, "what the command lacks")
    brought = f"with [{extras}]" if extras else "NumPy alone"
    print(f"separable {sp.__version__} from {package} works, {brought}")


main(*sys.argv[1:])
