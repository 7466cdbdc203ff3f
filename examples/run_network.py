"""Run a trained network from an ONNX file, and see where its time goes.

Run ``python examples/run_network.py``: it writes ./textures.npy, the class of each square of three
photographs. The network tells brick, grass and gravel apart by squares of 20 x 20 pixels.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import skimage
from PIL import Image

import separable as sp
from separable.demo import network

CLASSES = ("brick", "grass", "gravel")
SQUARE = 20

folder = Path(skimage.__file__).parent / "data"
photos = [np.asarray(Image.open(folder / f"{name}.png"), np.float32) / 255 - 0.5 for name in CLASSES]
# The lower thirds, which the network has not seen, as squares: (N, 1, 20, 20).
rows = [photo[len(photo) * 2 // 3 :] for photo in photos]
windows = [
    np.lib.stride_tricks.sliding_window_view(row, (SQUARE, SQUARE))[::SQUARE, ::SQUARE] for row in rows
]
squares = np.concatenate([window.reshape(-1, 1, SQUARE, SQUARE) for window in windows])
truth = np.repeat(np.arange(len(CLASSES)), [window[..., 0, 0].size for window in windows])

model = onnx.load_from_string(network.trained_bytes())  # a path would do as well
program = sp.engine.load(model, {"squares": squares.shape}, threads=1)  # plans this batch now
print(program)

scores = np.empty((len(squares), len(CLASSES)), np.float32)
start = time.perf_counter()
program(squares, out=scores)
spent = time.perf_counter() - start
classes = scores.argmax(axis=1)
print(f"\n{len(squares)} squares in {1e3 * spent:.1f} ms, {(classes == truth).mean():.1%} right\n")

print(program.profile(squares, repeat=5))
np.save("textures.npy", classes)
print("wrote textures.npy")
