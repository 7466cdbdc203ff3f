"""
Keyword spotting
================

For people who listen for a few words on a small computer: you get two networks of separable convolutions, one
on log-mel features and one on the samples as they are, how often they are right about voices they have never
heard, and what part of real time they take on a stream from a WAV file, of which each part is computed once.
"""

# %%
# The words
# ---------
#
# Ten commands, a dozen other words, and noise. espeak-ng says them (Debian: ``apt install espeak-ng``), in
# many timbres, accents, pitches and paces; where it is not installed, a small synthesiser of formants does.
# It lies in ``examples/train``, with all else about words and training. No timbre that judges has trained.

import itertools
import os
import sys
import tempfile
import time
import wave
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import separable as sp

sys.path += [str(Path(sys.argv[0]).resolve().parents[1] / "train"), "../train"]  # as a script, as a notebook
import words
from networks import accuracy, train
from side_by_side import exported, least_times, runtimes
from words import CLASSES, COMMANDS, RATE

SMALL = "SEPARABLE_SMALL" in os.environ  # a part of the data, as the tests take
EPOCHS = 1 if SMALL else 10

data = words.keywords(train=2 if SMALL else 64, test=1 if SMALL else 24, copies=1 if SMALL else 3, seed=0)
print(f"said by {'espeak-ng' if words.ESPEAK else 'formants, as espeak-ng is not installed'}")
print(f"{len(data.train_x)} seconds to learn from, {len(data.test_x)} to judge by")

# %%
# Features
# --------
#
# What an ear tells apart: how loud each of twenty bands is, narrow ones below and wide ones above (mel), in
# windows of 25 ms, each 20 ms. A second is a picture of 49 x 20.

HOP, WINDOW, BANDS = 320, 400, 20  # samples, samples, and how many


def mel_filters(low=60.0, high=7600.0):
    """Return triangles ``(BANDS, frequencies)`` that are evenly spaced in mel."""
    edges = 700 * np.expm1(np.linspace(np.log1p(low / 700), np.log1p(high / 700), BANDS + 2))
    frequencies = np.fft.rfftfreq(512, 1 / RATE)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    return np.clip(np.minimum(rising, falling), 0, None)


FILTERS, TAPER = mel_filters().T, np.hanning(WINDOW)


def log_mel(samples):
    """Return features ``(..., frames, BANDS)`` of samples ``(..., n)``, about 0."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW, axis=-1)[..., ::HOP, :]
    power = np.abs(np.fft.rfft(windows * TAPER, 512)) ** 2
    return ((np.log(power @ FILTERS + 1e-4) + 2) / 4).astype(np.float32)


def in_mel(clips):
    """Return the features of clips ``(N, 1, RATE)`` as pictures."""
    return torch.cat([torch.from_numpy(log_mel(part.numpy())) for part in clips.split(256)])


pictures = replace(data, train_x=in_mel(data.train_x), test_x=in_mel(data.test_x))

figure, panels = plt.subplots(1, 5, figsize=(10, 2.2), layout="constrained", sharey=True)
for panel, number in zip(panels, range(0, len(data.test_x), max(1, len(data.test_x) // 5)), strict=False):
    panel.imshow(pictures.test_x[number, 0].numpy().T, origin="lower", aspect="auto", extent=(0, 1, 0, BANDS))
    panel.set_title(CLASSES[data.test_y[number]])
    panel.set_xlabel("seconds")
panels[0].set_ylabel("band")

# %%
# Two networks
# ------------
#
# DS-CNN (Zhang et al., *Hello Edge*, 2017) reads the features: a convolution of 10 x 4, then separable ones
# of 3 x 3. The other reads 16,000 samples: a convolution of 64 taps, whose stride is a millisecond, then
# separable ones of nine taps that halve the length.

AROUND = {
    "bias": False, "norm": nn.BatchNorm2d, "activation": "relu",
    "output_norm": nn.BatchNorm2d, "output_activation": "relu",
}  # fmt: skip


def ds_cnn(width=8 if SMALL else 64):
    """Return DS-CNN "S" for features of 49 x 20."""
    first = nn.Conv2d(1, width, (10, 4), 2, padding=(5, 1), bias=False)
    blocks = [sp.nn.DepthwiseSeparableConv2d(width, width, 3, padding=1, **AROUND) for _ in range(4)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, len(CLASSES))]
    return nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(), *blocks, *head)


def raw_net(width=8 if SMALL else 32):
    """Return a network of one dimension for 16,000 samples."""
    norms = AROUND | {"norm": nn.BatchNorm1d, "output_norm": nn.BatchNorm1d}
    widths = [width, 2 * width, 3 * width, 4 * width, 4 * width, 4 * width]
    first = nn.Conv1d(1, width, 64, 16, padding=24, bias=False)
    blocks = [
        sp.nn.DepthwiseSeparableConv1d(before, after, 9, 2, padding=4, **norms)
        for before, after in itertools.pairwise(widths)
    ]
    head = [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(widths[-1], len(CLASSES))]
    return nn.Sequential(first, nn.BatchNorm1d(width), nn.ReLU(), *blocks, *head)


nets, rights = {}, {}
for name, build, clips in (("DS-CNN, log-mel", ds_cnn, pictures), ("1-D, samples", raw_net, data)):
    torch.manual_seed(0)
    start = time.perf_counter()
    nets[name] = train(build(), clips, EPOCHS, batch=16)
    rights[name] = accuracy(nets[name], clips)
    audit = sp.nn.audit(nets[name], clips.test_x[:1])
    print(
        f"{name:16s} {audit.macs / 1e6:4.1f} million MACs, {audit.params:6,d} parameters, trained in "
        f"{time.perf_counter() - start:.0f} s: {rights[name]:.1f} % of {len(data.test_x)} seconds told right"
    )

# %%
# A stream
# --------
#
# Somebody speaks, with pauses and noise, and a WAV file keeps it. It is read as a microphone would be: 20 ms
# at a time. What came last is kept in a ring, and twelve times a second a network says what it hears: in 49
# frames, each computed once, or in 16,000 samples.
#
# All but 80 ms of that second it has seen before. ``program.stream`` is given the new frames or samples
# alone, keeps what the layers made of the others, and returns what the program returns for the whole second.

CHUNKS = 4  # between two answers: 80 ms, four frames, 1,280 samples


class Ring:
    """The last rows that were written, always in one piece: each is written twice, `length` rows apart."""

    def __init__(self, length, width):
        self.rows = np.zeros((2 * length, width), np.float32)
        self.length, self.next = length, 0

    def write(self, row):
        """Let a row take the place of the oldest one."""
        self.rows[[self.next, self.next + self.length]] = row
        self.next = (self.next + 1) % self.length

    def read(self):
        """Return all rows, the oldest first, without a copy."""
        return self.rows[self.next : self.next + self.length]


def listen(path, name, run):
    """Return probabilities ``(answers, classes)``, and the seconds that features and network took."""
    sounds, frames = Ring(RATE // HOP, HOP), Ring(49, BANDS)
    by_mel, answers, taken = "mel" in name, [], np.zeros(2)
    slides = isinstance(run, sp.engine.Stream)
    if slides:
        run.start()  # with a second of zeros, as the rings
    with wave.open(str(path)) as file:
        for chunk in range(file.getnframes() // HOP):
            start = time.thread_time()
            sounds.write(np.frombuffer(file.readframes(HOP), "<i2") / np.float32(32768))
            if by_mel:
                frames.write(log_mel(sounds.read()[-2:].ravel()[-WINDOW:]))
            taken[0] += time.thread_time() - start
            if chunk % CHUNKS == CHUNKS - 1:
                start = time.thread_time()
                rows = (frames if by_mel else sounds).read()[-CHUNKS if slides else 0 :]
                (scores,) = run(rows[None, None] if by_mel else rows.reshape(1, 1, -1))
                taken[1] += time.thread_time() - start
                answers.append(np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum())
    return np.array(answers), taken


voice = words.voices(8, held_out=True, seed=9)[5]
sound, spans = words.sentence(voice, 6 if SMALL else 24, seed=3)
length = len(sound) / RATE
models = {name: exported(net, (pictures if "mel" in name else data).test_x[:1]) for name, net in nets.items()}
shapes = {name: (1, 1, 49, BANDS) if "mel" in name else (1, 1, RATE) for name in nets}
runs = {
    (name, runtime): run
    for name, model in models.items()
    for runtime, run in runtimes(model, shapes[name]).items()
}
for name in nets:
    new = CHUNKS if "mel" in name else CHUNKS * HOP
    runs[name, "stream"] = runs[name, "engine"].stream(new, axis=2)
    print(runs[name, "stream"], end="\n\n")
results = {key: [] for key in runs}
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "stream.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((32767 * sound.clip(-1, 1)).astype("<i2").tobytes())
    for _ in range(1 if SMALL else 5):
        for (name, runtime), run in runs.items():
            results[name, runtime].append(listen(path, name, run))
print(f"{length:.0f} seconds of sound, {sum(word in COMMANDS for *_, word in spans)} commands in it")
for name in nets:
    streamed, whole = (results[name, runtime][0][0] for runtime in ("stream", "engine"))
    off = abs(streamed - whole).max()
    print(f"{name:16s} probabilities of the stream are {off:.0e} off those of whole windows")

# %%
# A command counts as heard where its probability, averaged over three answers, is highest and above 0.6. That
# may be up to a second after it began, as it has to be in the ring.

THRESHOLD = 0.6
COLOURS = dict(zip(COMMANDS, [*(f"C{number}" for number in range(7)), "black", "C8", "C9"], strict=True))


def commands_heard(answers):
    """Return moments and words: the peaks of averaged probabilities, a second apart at least."""
    smooth = np.array([answers[max(0, now - 2) : now + 1].mean(axis=0) for now in range(len(answers))])
    best, heard = smooth[:, : len(COMMANDS)].max(axis=1), []
    for now in np.argsort(-best):
        moment = (now + 1) * CHUNKS * HOP / RATE
        if best[now] > THRESHOLD and all(abs(moment - other) >= 1 for other, _ in heard):
            heard.append((moment, COMMANDS[smooth[now].argmax()]))
    return sorted(heard), smooth


def judged(heard):
    """Return how many commands were heard, and how many alarms were false."""
    right = {
        number
        for number, (begin, end, word) in enumerate(spans)
        for moment, told in heard
        if told == word and begin < moment < end + 1
    }
    return len(right), len(heard) - len(right)


figure, panels = plt.subplots(3, 1, figsize=(10, 6.4), layout="constrained", sharex=True)
panels[0].plot(np.arange(len(sound))[::8] / RATE, sound[::8], color="0.6", linewidth=0.5)
for begin, end, word in spans:
    colour = COLOURS.get(word, "0.6")
    panels[0].text((begin + end) / 2, 0.75, word, ha="center", color=colour, fontsize=8)
panels[0].set(ylim=(-0.9, 0.95), ylabel="sound")
scores = {}
for name, panel in zip(nets, panels[1:], strict=True):
    heard, smooth = commands_heard(results[name, "engine"][0][0])
    scores[name] = judged(heard)
    moments = (np.arange(len(smooth)) + 1) * CHUNKS * HOP / RATE
    for number, word in enumerate(COMMANDS):
        panel.plot(moments, smooth[:, number], color=COLOURS[word], linewidth=1.2)
    for moment, word in heard:
        panel.text(moment, 1.04, word, ha="center", color=COLOURS[word], fontsize=8)
    panel.axhline(THRESHOLD, color="0.8", linewidth=0.8, zorder=0)
    panel.set(ylim=(0, 1.15), ylabel=f"{name}\nprobability")
    count = sum(word in COMMANDS for *_, word in spans)
    print(f"{name:16s} {scores[name][0]} of {count} commands heard, {scores[name][1]} false alarms")
panels[-1].set_xlabel("seconds")

# %%
# Real time
# ---------
#
# The real-time factor is the time that the whole stream took over the time that it lasts, with one thread, in
# the time of that thread: the least of five passes, in which all take turns.

factors = {}
print("network            runtime         features   network   an answer   real-time factor")
for (name, runtime), passes in results.items():
    features, network = min((taken for _, taken in passes), key=sum)
    factors[name, runtime] = (features + network) / length
    answers = len(passes[0][0])
    print(
        f"{name:16s}   {runtime:12s}   {1e3 * features:6.1f} ms {1e3 * network:6.1f} ms"
        f"   {1e3 * network / answers:6.3f} ms             {factors[name, runtime]:.5f}"
    )

# %%
# The network alone, an answer of one second each. Nearly all of the second network slides. The first one pads
# its layers of 25 columns, and in the last of them half lie near an end, where a window differs from the
# sound that it was cut from.

inputs = {name: (pictures if "mel" in name else data).test_x[:1].numpy() for name in nets}


def given(key):
    """Return what a run takes: a second, or what is new of it."""
    new = inputs[key[0]][:, :, -CHUNKS if "mel" in key[0] else -CHUNKS * HOP :]
    return new if key[1] == "stream" else inputs[key[0]]


for name in nets:
    runs[name, "stream"].start(inputs[name])
least = least_times({key: lambda key=key: runs[key](given(key)) for key in runs}, 10 if SMALL else 300)
figure, panel = plt.subplots(figsize=(7, 3), layout="constrained")
COLOUR_OF = {"engine": "C0", "ONNX Runtime": "0.7", "stream": "C1"}
labels = [f"{name}: {runtime}" for name, runtime in runs]
bars = panel.barh(
    labels, [1e3 * least[key] for key in runs], color=[COLOUR_OF[runtime] for _, runtime in runs]
)
panel.bar_label(bars, fmt="%.3f", padding=3)
panel.invert_yaxis()
panel.margins(x=0.12)
panel.set_xlabel("milliseconds an answer, one thread")
difference = max(
    abs(runs[name, "engine"](inputs[name]) - runs[name, "ONNX Runtime"](inputs[name])).max() for name in nets
)
print(f"largest difference of scores from those of ONNX Runtime: {difference:.0e}")
