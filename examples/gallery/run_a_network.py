"""
A network in the engine
=======================

For people who run a trained network from an ONNX file on a CPU: you get it as one native program, its results
beside those of ONNX Runtime, and a table of where the time goes.
"""

# %%
# The network comes with the package. It tells brick, grass and gravel apart by squares of 20 x 20 pixels, and
# has been trained on the upper two thirds of scikit-image's photographs. A mosaic of the lower thirds is cut
# into squares here, one around each fourth pixel.

import os
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
SQUARE, STEP = 20, 16 if SMALL else 4  # pixels

folder = Path(skimage.__file__).parent / "data"
photos = [np.asarray(PIL.Image.open(folder / f"{name}.png"), np.float32) / 255 - 0.5 for name in CLASSES]
lower = [photo[len(photo) * 2 // 3 :, :340] for photo in photos]
rows, columns = np.mgrid[: len(lower[0]), :340]
disk = np.hypot(rows - len(lower[0]) / 2, columns - 170) < 66
truth = np.where(disk, 2, columns >= 170)
mosaic = np.choose(truth, lower)
windows = np.lib.stride_tricks.sliding_window_view(mosaic, (SQUARE, SQUARE))[::STEP, ::STEP]
squares = windows.reshape(-1, 1, SQUARE, SQUARE)

# %%
# ``load`` takes a path as well as a model. It plans for the shapes that it is told, or for those of the first
# call; printing the program shows a step a line, and what was fused into it.

model = onnx.load_from_string(network.trained_bytes())
program = sp.engine.load(model, {"squares": squares.shape}, threads=1)
print(program)

# %%
# A call takes an array and gives one. What each square is, is drawn around its middle:

scores = program(squares)
classes = scores.argmax(axis=1).reshape(windows.shape[:2])
middles = np.s_[SQUARE // 2 : -SQUARE // 2 + 1 : STEP, SQUARE // 2 : -SQUARE // 2 + 1 : STEP]
right = (classes == truth[middles]).mean()

figure, panels = plt.subplots(2, 1, figsize=(6, 5), layout="constrained")
panels[0].imshow(mosaic, cmap="gray")
panels[0].set_title("mosaic")
down, across = ((SQUARE - STEP) / 2 + STEP * np.array([0, n]) for n in classes.shape)
panels[1].imshow(classes, cmap="Set2", vmin=0, vmax=7, extent=(*across, *down[::-1]))
panels[1].set(xlim=panels[0].get_xlim(), ylim=panels[0].get_ylim())
panels[1].set_title(f"as told: {right:.1%}")
for panel in panels:
    panel.set_axis_off()

# %%
# Beside what people use today
# ----------------------------
#
# ONNX Runtime runs the same file, with one thread as well. They take turns.

import time

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
runs = {
    "separable": lambda batch: program(batch),
    "ONNX Runtime": lambda batch: session.run(None, {"squares": batch})[0],
}
difference = np.abs(scores - runs["ONNX Runtime"](squares)).max()
print(
    f"{len(squares)} squares; largest difference {difference:.0e}, of scores up to {np.abs(scores).max():.0f}"
)

for batch in (1, 64):
    some = squares[:batch]
    times = {name: [] for name in runs}
    for _ in range(5 if SMALL else 30):
        for name, run in runs.items():
            start = time.perf_counter()
            run(some)
            times[name].append(1e3 * (time.perf_counter() - start))
    least = ", ".join(f"{name} {min(taken):.3f} ms" for name, taken in times.items())
    print(f"batch of {batch:2d}: {least}")

# %%
# Where the time goes
# -------------------
#
# The profile has the time of each step, and what share of the machine's arithmetic it reached.

profile = program.profile(squares[:64], repeat=5 if SMALL else 30)
print(profile)

figure, panel = plt.subplots(figsize=(7, 2.6), layout="constrained")
names = [f"{number}: {step.kind}" for number, step in enumerate(profile.steps, 1)]
bars = panel.barh(names, [step.measured_ms for step in profile.steps])
panel.bar_label(bars, fmt="%.2f", padding=3)
panel.invert_yaxis()
panel.margins(x=0.12)
panel.set_xlabel("milliseconds, 64 squares, one thread")

# %%
# On the command line: ``separable run model.onnx x.npy -o y.npy``, and ``separable bench model.onnx`` for the
# comparison.
