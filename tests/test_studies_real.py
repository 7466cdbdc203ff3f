"""The pictures that real networks are judged by, and how they are scored."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from onnx import TensorProto, helper

for package in ("torch", "matplotlib", "onnxruntime", "onnxscript", "skimage", "nibabel"):
    pytest.importorskip(package)

from benchmarks import libraries  # noqa: E402 (they need the packages)
from studies.real import classifying, detecting, forms, packages, reading, refusing, trained  # noqa: E402
from studies.real.detecting import Boxes  # noqa: E402
from studies.real.subject import Array  # noqa: E402


def test_a_line_is_read_without_repeats_and_blanks() -> None:
    letters = ["", "a", "b", " "]
    steps = [1, 1, 0, 1, 2, 2, 0, 3]
    assert reading.read(np.eye(4)[steps], letters) == "aab"


def test_words_differ_and_fill_the_height() -> None:
    rng = np.random.default_rng(0)
    words = reading._words(50, rng)
    assert len({word.lower() for word in words}) == 50
    assert any(word.isdigit() for word in words)
    line = reading._drawn(words[0], rng)
    assert line.shape == (3, 48, 320)
    assert line[:, :, 0].std() > 0
    assert not line[:, :, -1].any()  # empty behind the word


def test_overlap_counts_the_classes_that_are_there() -> None:
    wanted = np.array([[[0, 0], [1, 1]]])
    assert trained.overlap(wanted, wanted).tolist() == [1.0]
    assert trained.overlap(np.zeros_like(wanted), wanted).tolist() == [0.25]


def _output(*found: tuple[tuple[float, float, float, float], int, float]) -> Array:
    """What a detector of three classes gives for boxes: middle and size, class and score of each."""
    output = np.zeros((4 + 3, len(found)))
    for place, (box, kind, score) in enumerate(found):
        output[:4, place], output[4 + kind, place] = box, score
    return output


def test_boxes_are_the_surest_of_those_that_overlap() -> None:
    sure, near, far = (50.0, 60, 20, 40), (52.0, 60, 20, 40), (90.0, 60, 20, 40)
    some = detecting.boxes(_output((near, 1, 0.5), (sure, 1, 0.9), (far, 2, 0.6), (far, 0, 0.2)))
    assert some.corners.tolist() == [[40, 40, 60, 80], [80, 40, 100, 80]]
    assert some.classes.tolist() == [1, 2]
    assert not len(detecting.boxes(_output((sure, 1, 0.2))))


def test_overlaps_of_boxes() -> None:
    one = np.array([[0.0, 0, 2, 2]])
    other = np.array([[0.0, 0, 2, 2], [1, 1, 3, 3], [2, 2, 4, 4], [5, 5, 5, 5]])
    assert detecting.overlaps(one, other).tolist() == [[1.0, pytest.approx(1 / 7), 0.0, 0.0]]


def test_boxes_agree_that_are_of_one_class_and_in_one_place() -> None:
    corners = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    wanted = Boxes(corners, np.array([0, 1]))
    none = Boxes(np.zeros((0, 4)), np.zeros(0, int))
    assert detecting.agreement(wanted, wanted) == 1.0
    assert detecting.agreement(none, none) == 1.0
    assert detecting.agreement(none, wanted) == detecting.agreement(wanted, none) == 0.0
    assert detecting.agreement(Boxes(corners, np.array([0, 2])), wanted) == 0.5
    assert detecting.agreement(Boxes(corners + 8, np.array([0, 1])), wanted) == 0.0
    # A box that is wanted once is right once.
    assert detecting.agreement(Boxes(corners[[0, 0]], np.array([0, 0])), wanted) == 0.5


def test_scenes_are_pictures_of_their_size() -> None:
    rng = np.random.default_rng(0)
    faces = rng.random((3, 25, 25))
    scenes = np.stack([detecting.scene(faces, rng) for _ in range(4)])
    assert scenes.shape == (4, 3, 320, 320)
    assert scenes.dtype == np.float32
    assert scenes.min() >= 0
    assert scenes.max() <= 1
    assert all(one.std() > 0.01 for one in scenes)
    assert not np.array_equal(scenes[0], scenes[1])


def test_slices_of_a_head_become_pictures() -> None:
    slices = classifying._slices()
    assert slices.shape == (24, 2, 96, 128)
    rng = np.random.default_rng(0)
    shown = np.stack([classifying.picture(slices[12, 0], rng) for _ in range(8)])
    assert shown.shape == (8, 240, 240, 3)
    assert shown.dtype == np.float32
    assert np.ptp(shown, axis=-1).max() == 0  # grey
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert (shown.mean((1, 2, 3)) > 0.05).all()


class Outputs:
    """A network whose outputs are made up: what a subject needs of one without its wheel."""

    def __init__(self, made: Array) -> None:
        self.made = made

    def __call__(self, model: object, pictures: Array) -> Array:
        return self.made[: len(pictures)]


@pytest.mark.parametrize("module", [classifying, detecting], ids=["classifying", "detecting"])
def test_the_original_agrees_with_itself(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    made = {classifying: rng.random((6, 4)), detecting: rng.random((6, 22, 10)) * 100}[module]
    model = helper.make_model(
        helper.make_graph([], "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)], [])
    )
    monkeypatch.setattr(packages, "network", lambda *wheel: model)
    monkeypatch.setattr(module, "outputs", Outputs(made))
    subject = module.subject(3, 6)
    assert len(subject.calibration) == 3
    assert len(subject.held_out) == 6
    assert subject.input == "x"
    assert subject.scores(made).tolist() == [1.0] * 6
    assert subject.scores(made[::-1]).mean() < 1


@pytest.mark.filterwarnings("default")  # torch's exporter warns of what it is built of
def test_what_is_separable_already_gets_an_answer() -> None:
    steps: list[str] = []
    answer = refusing.answered(True, steps.append)
    assert answer["layers"] >= answer["changed"]
    assert answer["layers"] - answer["changed"] == sum(answer["reasons"].values())
    assert answer["processor_seconds"] > 0
    assert steps


@pytest.mark.parametrize("name", ["scenes", "surfaces"])
def test_larger_pictures_have_their_classes(name: str) -> None:
    made = libraries.example("pictures").LARGER_SETS[name](0, 3, 2)
    assert made.train_x.shape[1:] == (1, 64, 64)
    assert len(made.train_x) == len(made.train_y)
    assert set(made.train_y.unique().tolist()) == set(range(made.classes))


def test_classes_lie_where_their_surfaces_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contrasts and mirrored pictures alike: of plain surfaces of three greys each class has its own grey."""
    pictures = libraries.example("pictures")
    greys = {"brick": 0.2, "grass": 0.5, "gravel": 0.8}
    monkeypatch.setattr(pictures, "_upper_part", lambda name: (np.full((200, 200), greys[name]), 100))
    made = pictures.surfaces(0, 12, 4)
    for x, y in zip(made.train_x[:, 0].numpy(), made.train_y.numpy(), strict=True):
        kinds = np.unique(y)
        assert all(np.ptp(x[y == kind]) < 1e-6 for kind in kinds)
        assert (np.diff([x[y == kind].mean() for kind in kinds]) > 0).all()


@pytest.mark.parametrize(
    ("values", "half"), [([0.0] * 10, 0.3), ([0.0, 1.0] * 50, 0.0997)], ids=["all agree", "half differ"]
)
def test_intervals(values: list[float], half: float) -> None:
    assert forms._half(np.array(values)) == pytest.approx(half, abs=1e-3)


def test_a_wheel_that_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    class Failed:
        returncode = 1

    run: Callable[..., Failed] = lambda *command, **options: Failed()  # noqa: E731
    monkeypatch.setenv(packages.FOLDER, str(tmp_path_factory.mktemp("wheels")))
    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(RuntimeError, match="nothing-of-this-name 1 cannot be downloaded; put its wheel into"):
        packages.network("nothing-of-this-name", "1", "net.onnx")
