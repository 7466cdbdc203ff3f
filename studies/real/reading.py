"""PP-OCRv4 reads words and numbers that are drawn here, in the typefaces that come with matplotlib."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from onnx import ModelProto
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from studies.real import packages
from studies.real.subject import Array, Subject

WHEEL: Final = ("rapidocr-onnxruntime", "1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx")
HEIGHT, WIDTH = 48, 320  # as its package pads lines
FACES: Final = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif",
    "DejaVuSerif-Bold", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "cmr10", "cmss10", "cmtt10",
)  # fmt: skip
DIGITS: Final = 0.3  # of the words are numbers


def subject(calibration: int, held_out: int) -> Subject:
    """Return PP-OCRv4's recogniser with words that calibrate it, and others that judge it."""
    model = packages.network(*WHEEL)
    rng = np.random.default_rng(0)
    words = _words(calibration + held_out, rng)
    pictures = np.stack([_drawn(word, rng) for word in words])
    wanted = words[calibration:]
    letters = _letters(model)
    return Subject(
        "PP-OCRv4 rec",
        f"{WHEEL[0]} {WHEEL[1]}; words and numbers drawn in {len(FACES)} typefaces",
        "words right",
        model,
        pictures[:calibration],
        pictures[calibration:],
        lambda outputs: np.array(
            [read(line, letters) == word for line, word in zip(outputs, wanted, strict=True)], float
        ),
        (0.8,),
    )


def read(line: Array, letters: list[str]) -> str:
    """Return the text of one output ``(steps, classes)``, the likeliest step by step, without repeats."""
    best = line.argmax(-1)
    kept = best[(best != 0) & np.append(True, best[1:] != best[:-1])]
    return "".join(letters[index] for index in kept).strip()


def _letters(model: ModelProto) -> list[str]:
    """Return what the classes are: a blank, the letters that the file lists, a space."""
    (listed,) = (entry.value for entry in model.metadata_props if entry.key == "character")
    return ["", *listed.split("\n"), " "]


def _words(count: int, rng: np.random.Generator) -> list[str]:
    """Return as many words and numbers, no one twice: the words are those of Python's own manual."""
    from pydoc_data.topics import topics

    known = sorted(set(re.findall(r"\b[a-z]{4,10}\b", " ".join(topics.values()))))
    numbers = rng.choice(np.arange(1000, 9_999_999), count, replace=False)
    words = rng.permutation(known)
    kept = []
    for word, number in zip(words, numbers, strict=False):
        text = str(number) if rng.random() < DIGITS else str(word)
        kept.append(text.capitalize() if rng.random() < 0.25 else text)
    return kept[:count]


def _drawn(word: str, rng: np.random.Generator) -> Array:
    """Return a line with a word: its height filled, as wide as it comes, the rest empty."""
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    size = int(rng.integers(24, 56))
    font = ImageFont.truetype(str(folder / f"{rng.choice(FACES)}.ttf"), size)
    left, top, right, bottom = font.getbbox(word)
    edge = rng.integers(size // 10, size // 3, 4)
    ground, ink = rng.integers(170, 256, 3), rng.integers(0, 100, 3)
    if rng.random() < 0.25:
        ground, ink = ink, ground
    shape = (int(right - left + edge[0] + edge[1]), int(bottom - top + edge[2] + edge[3]))
    picture = Image.new("RGB", shape, tuple(ground.tolist()))
    draw = ImageDraw.Draw(picture)
    draw.text((edge[0] - left, edge[2] - top), word, fill=tuple(ink.tolist()), font=font)
    wide = min(WIDTH, round(HEIGHT * shape[0] / shape[1]))
    picture = picture.resize((wide, HEIGHT), Image.Resampling.BILINEAR)
    picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.2))))
    values = np.asarray(picture, np.float32) / 255
    values += rng.normal(0, rng.uniform(0, 0.06), values.shape)
    line = np.zeros((3, HEIGHT, WIDTH), np.float32)
    line[:, :, :wide] = values.clip(0, 1).transpose(2, 0, 1) * 2 - 1
    return line
