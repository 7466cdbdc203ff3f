"""
Accuracy against milliseconds
=============================

For people who have to make a trained network faster and may lose a little accuracy: you get the network at
several budgets, converted without labels and without training, and what each one gives and takes, beside the
usual cut by the weights alone.
"""

# %%
# The network comes with the package: five convolutions that tell brick, grass and gravel apart by squares of
# 20 x 20 pixels. It is calibrated on squares of the upper two thirds of scikit-image's photographs, without
# labels, and judged on the lower thirds, which neither the training nor the calibration has seen.

import os
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnx
import onnxruntime
import PIL.Image
import skimage

import separable as sp
from separable.demo import network

SMALL = "SEPARABLE_SMALL" in os.environ  # a part of the data, as the tests take
CLASSES = ("brick", "grass", "gravel")
SQUARE = 20  # pixels

folder = Path(skimage.__file__).parent / "data"
photos = [np.asarray(PIL.Image.open(folder / f"{name}.png"), np.float32) / 255 - 0.5 for name in CLASSES]
rng = np.random.default_rng(2)


def cut(photo, step):
    """Return the squares of a photograph, (N, 1, 20, 20)."""
    windows = np.lib.stride_tricks.sliding_window_view(photo, (SQUARE, SQUARE))[::step, ::step]
    return windows.reshape(-1, 1, SQUARE, SQUARE)


upper = np.concatenate([cut(photo[: len(photo) * 2 // 3], 7) for photo in photos])
calibration = rng.permutation(upper)[: 64 if SMALL else 512]
judged = [cut(photo[len(photo) * 2 // 3 :], SQUARE if SMALL else 10) for photo in photos]
squares, classes = np.concatenate(judged), np.repeat(np.arange(3), [len(part) for part in judged])
print(f"{len(calibration)} squares to calibrate on, {len(squares)} to judge by")

# %%
# Budgets
# -------
#
# A budget is a part of the cost as it was. For each layer a form and a rank are chosen, and the new weights
# are fitted to what the layer gave. The report says what became of the layers.

dense = onnx.load_from_string(network.trained_bytes())
nets = {"dense": dense}
for budget in (0.125,) if SMALL else (0.06, 0.08, 0.125, 0.25, 0.5):
    result = sp.onnx.separate(
        dense, calibration, by="macs", budget=budget, never_slower=False, progress=False
    )
    nets[f"{budget:g}"] = result.model
    if budget == 0.125:
        print(result.report)

# %%
# What people try first is to cut each layer to one separable term by its weights, without looking at data
# (*network decoupling*, Guo et al., BMVC 2018):

nets["weights alone"] = network.cut_by_weights(dense)

# %%
# Accuracy and time
# -----------------
#
# The accuracy with its interval (95 %, Wilson), and the least time of a batch of 64 with one thread, here and
# in ONNX Runtime, all of them in turn.


def interval(right, count, z=1.96):
    """Return Wilson's interval of a share of `count`."""
    middle = (right + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(right * (1 - right) / count + z**2 / (4 * count**2))
    return middle - half, middle + half


batch = np.ascontiguousarray(rng.permutation(squares)[:64])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
runs, rights = {}, {}
for name, model in nets.items():
    program = sp.engine.load(model, {"squares": batch.shape}, threads=1)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    rights[name] = float((program(squares).argmax(axis=1) == classes).mean())
    runs[name, "engine"] = lambda program=program: program(batch)
    runs[name, "ONNX Runtime"] = lambda session=session: session.run(None, {"squares": batch})
times = {key: [] for key in runs}
for _ in range(3 if SMALL else 40):
    for key, run in runs.items():
        start = time.perf_counter()
        run()
        times[key].append(1e3 * (time.perf_counter() - start))

print("budget             MACs   accuracy                engine   ONNX Runtime")
for name, model in nets.items():
    macs = sp.onnx.audit(model).macs
    low, high = interval(rights[name], len(squares))
    engine, peer = (min(times[name, runtime]) for runtime in ("engine", "ONNX Runtime"))
    print(
        f"{name:13s} {macs:9,d}   {rights[name]:6.1%} ({low:5.1%} to {high:6.1%})"
        f"   {engine:5.2f} ms   {peer:5.2f} ms"
    )

# %%
# What is told wrong, over the time (both better towards the corner at the origin):

figure, panel = plt.subplots(figsize=(7.5, 4), layout="constrained")
for runtime, colour in (("ONNX Runtime", "0.6"), ("engine", "C0")):
    for name in nets:
        low, high = interval(rights[name], len(squares))
        wrong = 100 * (1 - rights[name])
        panel.errorbar(
            min(times[name, runtime]),
            wrong,
            yerr=[[wrong - 100 * (1 - high)], [100 * (1 - low) - wrong]],
            fmt={"dense": "s", "weights alone": "X"}.get(name, "o"),
            color=colour,
            markersize=8,
            capsize=2,
            label=runtime if name == "dense" else None,
        )
        if runtime == "engine":
            place = (min(times[name, runtime]), wrong)
            panel.annotate(
                name, place, xytext=(-8, 6), textcoords="offset points", ha="right", fontsize=9, color="C0"
            )
panel.set_xlim(left=0)
panel.set_yscale("log")
panel.set_yticks((1, 2, 5, 10, 20, 50), ("1 %", "2 %", "5 %", "10 %", "20 %", "50 %"))
panel.set_ylim(1, 50)
panel.set_xlabel("milliseconds, batch of 64, one thread")
panel.set_ylabel("squares told wrong")
panel.grid(alpha=0.3)
panel.legend(frameon=False)

# %%
# Fewer operations are less time as long as the arithmetic is what takes it: the smallest nets are bound by
# what lies between the layers. With ``by="time"`` the budget is one of measured time instead, and a layer
# that would not be faster stays as it was.
