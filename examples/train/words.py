"""Spoken words in many voices: by espeak-ng where it is installed, else by the synthesiser of `formants`."""

from __future__ import annotations

import io
import shutil
import subprocess
import wave
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.signal
import torch
from formants import speak as speak_formants
from pictures import Pictures

Floats = npt.NDArray[np.float32]
RATE = 16_000  # samples in a second
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
OTHERS = (
    "bed", "bird", "cat", "dog", "happy", "house", "marvin", "nine", "seven", "tree", "wow", "zero",
)  # fmt: skip
CLASSES = (*COMMANDS, "other", "silence")
ESPEAK = shutil.which("espeak-ng")
ACCENTS = (
    "en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029",
)  # fmt: skip
TIMBRES = (
    "m1", "f1", "m2", "f2", "m4", "f3", "m5", "f4", "m6", "klatt", "m8", "klatt2", "Alex", "Alicia", "Andrea",
    "Andy", "Denis", "Gene", "Lee", "Mario", "Michael", "adam", "anika", "aunty", "belinda", "david", "ed",
    "grandma", "iven", "john", "max", "steph",
)  # fmt: skip
HELD_OUT = ("m3", "f5", "m7", "klatt3", "Annie", "Hugo", "linda", "paul")  # timbres that train nothing


@dataclass(frozen=True)
class Voice:
    """A voice: espeak-ng's name of it, its pitch and its words in a minute.

    The synthesiser of formants takes the `number` for the length of the throat.
    """

    name: str
    number: int
    pitch: int
    pace: int


def voices(count: int, held_out: bool, seed: int) -> list[Voice]:
    """Return voices of other timbres for those held out, of any accent, pitch and pace."""
    numbers = np.random.default_rng([seed, held_out])
    timbres = HELD_OUT if held_out else TIMBRES
    return [
        Voice(
            f"{ACCENTS[numbers.integers(len(ACCENTS))]}+{timbres[number % len(timbres)]}",
            2 * number + held_out,
            int(numbers.integers(25, 75)),
            int(numbers.integers(130, 190)),
        )
        for number in range(count)
    ]


def spoken(word: str, voice: Voice) -> Floats:
    """Return a word as a voice says it: samples up to 1, without the silence around them."""
    if ESPEAK is None:
        tract = np.random.default_rng(voice.number).uniform(0.9, 1.25)
        said = speak_formants(word, 80 + 2.2 * voice.pitch, voice.pace / 160, tract, voice.number)
    else:
        options = ["-v", voice.name, "-p", str(voice.pitch), "-s", str(voice.pace), "--stdout", word]
        done = subprocess.run([ESPEAK, *options], capture_output=True, check=True)
        with wave.open(io.BytesIO(done.stdout)) as file:
            rate = file.getframerate()
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32)
        shared = np.gcd(rate, RATE)
        said = scipy.signal.resample_poly(samples, RATE // shared, rate // shared).astype(np.float32)
    said /= np.abs(said).max()
    loud = np.flatnonzero(np.abs(said) > 0.02)
    return said[loud[0] : loud[-1] + 1][:RATE]


def all_spoken(speakers: list[Voice], others: int) -> list[tuple[str, Floats]]:
    """Return each command by each voice, and some other words by each, in turn."""
    pairs = []
    for number, voice in enumerate(speakers):
        more = [OTHERS[(number * others + place) % len(OTHERS)] for place in range(others)]
        pairs += [(word, voice) for word in (*COMMANDS, *more)]
    with ThreadPoolExecutor(2) as pool:  # who speaks is another process
        return [
            (word, said)
            for (word, _), said in zip(pairs, pool.map(lambda pair: spoken(*pair), pairs), strict=True)
        ]


def noise(count: int, numbers: np.random.Generator) -> Floats:
    """Return noise of a spectrum that falls by some power of the frequency, of deviation 1."""
    spectrum = np.fft.rfft(numbers.standard_normal(count))
    spectrum /= np.maximum(np.arange(len(spectrum)), 20) ** numbers.uniform(0, 1)
    samples = np.fft.irfft(spectrum, count)
    return np.asarray(samples / samples.std(), np.float32)


def clips(
    said: list[tuple[str, Floats]], copies: int, cut: float, seed: int
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return seconds of sound ``(N, RATE)`` with their classes.

    Each word comes in so many copies, of any loudness, anywhere in its second, in noise. One clip in ten is
    noise alone. The share `cut` is cut off by an end of the second, and then "other", as it is in a stream.
    """
    numbers = np.random.default_rng(seed)
    made, classes = [], []
    for word, samples in said * copies:
        clip = noise(RATE, numbers) * 10 ** numbers.uniform(-3.5, -1.7)
        kind, name = numbers.random(), word if word in COMMANDS else "other"
        start = int(numbers.integers(0, RATE - len(samples) + 1))
        if kind < 0.1:
            name, samples = "silence", samples[:0]
        elif kind < 0.1 + cut:
            lost = int(len(samples) * numbers.uniform(0.4, 0.7))
            name, start = "other", int(numbers.choice([-lost, RATE - len(samples) + lost]))
        low, high = max(start, 0), min(start + len(samples), RATE)
        clip[low:high] += samples[low - start : high - start] * numbers.uniform(0.2, 0.9)
        made.append(clip)
        classes.append(CLASSES.index(name))
    return np.stack(made).astype(np.float32), np.array(classes)


def keywords(train: int, test: int, copies: int, seed: int) -> Pictures:
    """Return clips ``(N, 1, RATE)`` by so many voices to train with, and by others that are held out."""
    x, y = clips(all_spoken(voices(train, False, seed), 4), copies, 0.1, seed)
    heard, wanted = clips(all_spoken(voices(test, True, seed), 4), 1, 0.0, seed + 1)
    tensors = [torch.from_numpy(part) for part in (x[:, None], y, heard[:, None], wanted)]
    return Pictures("keywords", *tensors, len(CLASSES))


def sentence(voice: Voice, count: int, seed: int) -> tuple[Floats, list[tuple[float, float, str]]]:
    """Return words in turn with pauses and noise, and of each the seconds when it begins and ends."""
    numbers = np.random.default_rng(seed)
    words = [str(numbers.choice(COMMANDS if number % 2 else OTHERS)) for number in range(count)]
    parts, spans, now = [], [], 0
    for word in words:
        samples, pause = spoken(word, voice), int(RATE * numbers.uniform(0.4, 0.9))
        parts += [np.zeros(pause, np.float32), samples * 0.6]
        spans.append(((now + pause) / RATE, (now + pause + len(samples)) / RATE, word))
        now += pause + len(samples)
    whole = np.concatenate([*parts, np.zeros(RATE, np.float32)])
    return whole + noise(len(whole), numbers) * 0.004, spans
