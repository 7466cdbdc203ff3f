"""
MobileNet and EfficientNet
==========================

For people who run the networks of phones on a CPU: you get MobileNetV2, MobileNetV3 and EfficientNet-B0 as
native programs, their outputs and milliseconds beside those of ONNX Runtime, and where their time goes.
"""

# %%
# These networks are separable by design: nearly all of their layers are depthwise or 1 x 1 convolutions. The
# files are those of this package's benchmarks, layer by layer as published, with random weights: times and
# differences of outputs need no trained ones.

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnx

import separable as sp

for root in (Path(sys.argv[0]).resolve().parents[2], Path("../..")):  # as a script, as a notebook
    sys.path += [str(root), str(root / "examples" / "train")]
from side_by_side import in_onnx_runtime, least_times

from benchmarks import engine_networks

SMALL = "SEPARABLE_SMALL" in os.environ  # a part of the data, as the tests take
NAMES = ("mobilenet-v2",) if SMALL else ("mobilenet-v2", "mobilenet-v3", "efficientnet-b0")

networks = [engine_networks.named(name) for name in NAMES]
if SMALL:
    networks = [replace(network, name="small", shape=(3, 64, 64), millions=None) for network in networks]

# %%
# As programs
# -----------
#
# ``load`` takes a path or a model. Norms and activations are in the convolutions; a squeeze-excite is a mean
# that is summed up where a convolution stores, and a scale that is applied where the next one reads.

titles = [network.title.partition(",")[0] for network in networks]
models = {
    title: onnx.load(engine_networks.path(network)) for title, network in zip(titles, networks, strict=True)
}
programs = {}
print(f"pictures of {networks[0].shape[1]} x {networks[0].shape[2]}")
print("network                  MACs   nodes   steps   loaded in   weights   memory of a call")
for network, (title, model) in zip(networks, models.items(), strict=True):
    start = time.perf_counter()
    programs[title] = sp.engine.load(model, {"x": (1, *network.shape)}, threads=1)
    loaded = time.perf_counter() - start
    profile = programs[title].profile(repeat=3)
    print(
        f"{title:19s} {profile.macs / 1e6:7.1f} M  {len(model.graph.node):6d}  {len(profile.steps):6d}"
        f"   {1e3 * loaded:7.0f} ms   {programs[title].weights_bytes / 2**20:4.1f} MB"
        f"   {programs[title].memory() / 2**20:7.1f} MB"
    )

# %%
# Beside what people use today
# ----------------------------
#
# ONNX Runtime runs the same files. The least time of a call, with one thread and in the time of that thread,
# all in turn; for one picture and for a batch, whose plan is made at the first call.

sessions = {title: in_onnx_runtime(model) for title, model in models.items()}
batches = (1, 2) if SMALL else (1, 8)
least, worst = {}, 0.0
for batch in batches:
    runs = {}
    for network, title in zip(networks, models, strict=True):
        x = engine_networks.sample(network, batch)
        runs[title, "engine"] = lambda x=x, title=title: programs[title](x)
        runs[title, "ONNX Runtime"] = lambda x=x, title=title: sessions[title](x)
        wanted = runs[title, "ONNX Runtime"]()
        worst = max(worst, float(np.abs(runs[title, "engine"]() - wanted).max() / np.abs(wanted).max()))
    times = least_times(runs, 3 if SMALL else max(5, 40 // batch))
    least |= {(title, batch, runtime): seconds for (title, runtime), seconds in times.items()}

print("network               batch       engine   ONNX Runtime")
for title in models:
    for batch in batches:
        mine, peer = (1e3 * least[title, batch, runtime] for runtime in ("engine", "ONNX Runtime"))
        print(f"{title:19s} {batch:7d}   {mine:7.2f} ms     {peer:7.2f} ms: {peer / mine:4.2f} times as fast")
print(f"largest difference of outputs: {worst:.0e} of the largest one")

figure, panels = plt.subplots(1, len(batches), figsize=(10, 2.6), layout="constrained", sharey=True)
rows = np.arange(len(models))
for panel, batch in zip(panels, batches, strict=True):
    for shift, runtime, colour in ((-0.2, "engine", "C0"), (0.2, "ONNX Runtime", "0.7")):
        widths = [1e3 * least[title, batch, runtime] for title in models]
        bars = panel.barh(rows + shift, widths, 0.38, color=colour, label=runtime)
        panel.bar_label(bars, fmt="%.1f", padding=3)
    panel.set_yticks(rows, list(models))
    panel.set_xlabel(f"milliseconds, {batch} picture{'s' * (batch > 1)}, one thread")
    panel.margins(x=0.15)
panels[0].invert_yaxis()
panels[-1].legend(frameon=False, loc="lower right")

# %%
# Where the time goes
# -------------------
#
# The profile has each step; here they are summed up by kind. What stands together in a step with ``>`` runs
# band by band, so that what lies between stays in a cache.

title = list(models)[-1]
profile = programs[title].profile(repeat=5 if SMALL else 20)
kinds = {}
for step in profile.steps:
    milliseconds, macs, count = kinds.get(step.kind, (0.0, 0, 0))
    kinds[step.kind] = milliseconds + step.measured_ms, macs + step.macs, count + 1
whole = sum(milliseconds for milliseconds, *_ in kinds.values())
print(f"{title}: {whole:.2f} ms")
for kind, (milliseconds, macs, count) in sorted(kinds.items(), key=lambda item: -item[1][0]):
    shares = f"{milliseconds / whole:6.1%} of the time, {macs / profile.macs:6.1%} of the MACs"
    print(f"{shares}: {count:2d} x {kind}")

# %%
# In the shell: ``separable bench model.onnx`` compares, ``separable run model.onnx picture.png`` runs.
