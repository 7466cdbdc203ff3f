"""Words by a small synthesiser of formants, for where espeak-ng is not installed.

A buzz and a hiss are filtered by resonances that move from sound to sound, as in Klatt (*Software for a
cascade/parallel formant synthesizer*, 1980); the formants of vowels are those of Peterson and Barney (1952).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.signal

Floats = npt.NDArray[np.float32]
STEP = 80  # samples of a frame: 5 ms at 16 kHz
WIDTHS = (70.0, 100.0, 140.0)  # of the formants, in Hz

# Three formants in Hz, how loud the buzz and the hiss are, the middle of the hiss in Hz, and milliseconds.
SOUNDS = {
    "iy": (270, 2290, 3010, 1.0, 0.0, 0, 140), "ih": (390, 1990, 2550, 1.0, 0.0, 0, 100),
    "eh": (530, 1840, 2480, 1.0, 0.0, 0, 140), "ae": (660, 1720, 2410, 1.0, 0.0, 0, 150),
    "ah": (640, 1190, 2390, 1.0, 0.0, 0, 130), "aa": (730, 1090, 2440, 1.0, 0.0, 0, 150),
    "ao": (570, 840, 2410, 1.0, 0.0, 0, 150), "uw": (300, 870, 2240, 1.0, 0.0, 0, 110),
    "er": (490, 1350, 1690, 1.0, 0.0, 0, 180), "r": (310, 1060, 1380, 0.6, 0.0, 0, 70),
    "l": (310, 1050, 2880, 0.6, 0.0, 0, 70), "w": (290, 610, 2150, 0.6, 0.0, 0, 60),
    "y": (260, 2070, 3020, 0.6, 0.0, 0, 60), "m": (250, 1000, 2200, 0.3, 0.0, 0, 80),
    "n": (250, 1450, 2300, 0.3, 0.0, 0, 80), "s": (300, 1400, 2500, 0.0, 0.5, 5800, 120),
    "z": (300, 1400, 2500, 0.2, 0.3, 5500, 90), "f": (340, 1100, 2080, 0.0, 0.2, 4500, 110),
    "v": (220, 1100, 2080, 0.3, 0.1, 4500, 60), "h": (500, 1500, 2500, 0.0, 0.2, 1500, 70),
    "p": (400, 1100, 2150, 0.0, 0.4, 900, 25), "t": (400, 1600, 2600, 0.0, 0.5, 4500, 30),
    "k": (300, 1990, 2850, 0.0, 0.5, 2000, 35), "b": (200, 1100, 2150, 0.3, 0.2, 700, 20),
    "d": (200, 1600, 2600, 0.3, 0.3, 4000, 20), "g": (200, 1990, 2850, 0.3, 0.3, 1900, 25),
}  # fmt: skip
CLOSED = frozenset("ptkbdg")  # what a short silence goes before
SPELLED = {
    "yes": "y eh s", "no": "n ao uw", "up": "ah p", "down": "d aa uw n", "left": "l eh f t",
    "right": "r aa ih t", "on": "aa n", "off": "ao f", "stop": "s t aa p", "go": "g ao uw",
    "bed": "b eh d", "bird": "b er d", "cat": "k ae t", "dog": "d ao g", "happy": "h ae p iy",
    "house": "h aa uw s", "marvin": "m aa r v ih n", "nine": "n aa ih n", "seven": "s eh v ah n",
    "tree": "t r iy", "wow": "w aa uw", "zero": "z ih r ao uw",
}  # fmt: skip


def speak(word: str, pitch: float, pace: float, tract: float, seed: int, rate: int = 16_000) -> Floats:
    """Return a spoken word of `SPELLED`, as samples up to 1.

    Parameters
    ----------
    word : str
    pitch : float
        Of the voice, in Hz.
    pace : float
        1 is as long as `SOUNDS` says, 2 half as long.
    tract : float
        What formants are multiplied by: 1 for the men of the tables, 1.2 for a shorter throat.
    seed : int
        Of the hiss.
    rate : int, optional
        Samples in a second.

    Returns
    -------
    ndarray
    """
    rows = _frames(SPELLED[word].split(), pace)
    moments = STEP * np.arange(len(rows))
    count = moments[-1] + STEP
    falling = pitch * np.linspace(1.1, 0.85, count)
    turns = np.cumsum(falling / rate) % 1
    buzz = np.diff(turns, prepend=0) < 0  # a pulse where a turn ends
    hiss = np.random.default_rng(seed).standard_normal(count) / np.sqrt(rate / pitch)
    short = scipy.signal.ShortTimeFFT(np.hanning(2 * STEP + 1)[:-1], STEP, rate, mfft=512)
    spectra = short.stft(np.stack([buzz, hiss]).astype(float))
    at = np.clip((short.t(count) * rate / STEP).round().astype(int), 0, len(rows) - 1)
    vowel, noise = _envelopes(rows[at], short.f, tract)
    samples = short.istft(spectra[0] * vowel + spectra[1] * noise, k1=count)
    return np.asarray(samples / np.abs(samples).max(), np.float32)


def _frames(sounds: list[str], pace: float) -> npt.NDArray[np.float64]:
    """Return formants and loudness for each frame, which go from one sound to the next within 40 ms."""
    rows: list[tuple[float, ...]] = []
    for sound in sounds:
        *values, milliseconds = SOUNDS[sound]
        if sound in CLOSED:
            rows += [(*values[:3], 0, 0, values[5])] * round(8 / pace)
        rows += [tuple(values)] * max(3, round(milliseconds / 5 / pace))
    edge = [(*rows[-1][:3], 0, 0, rows[-1][5])] * 4
    table = np.array([*edge, *rows, *edge], float)
    smooth = scipy.signal.lfilter(*scipy.signal.butter(1, 0.12), table, axis=0)
    table[:, :3] = np.maximum(smooth[:, :3], 150)
    table[:, 3] = smooth[:, 3]
    return table


def _envelopes(
    rows: npt.NDArray[np.float64], frequencies: npt.NDArray[np.float64], tract: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return what buzz and hiss are multiplied by, ``(frequency, frame)``."""
    f = frequencies[:, None]
    vowel = np.zeros((len(frequencies), len(rows)))
    for number, width in enumerate(WIDTHS):
        middle = tract * rows[:, number]
        vowel += 0.6**number / np.sqrt(1 + ((f - middle) / width) ** 2)
    noise = np.exp(-0.5 * ((f - rows[:, 5]) / (300 + 0.2 * rows[:, 5])) ** 2)
    return vowel * rows[:, 3], noise * rows[:, 4]
