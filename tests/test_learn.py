"""The exercises: every solution passes, each typical mistake is told what it is, and no work is lost."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import Run

from separable import learn
from separable._base.extras import MissingExtraError
from separable.files import FileError
from separable.learn import notebook
from separable.learn.answers import Answers
from separable.learn.attempt import Stopped, attempt
from separable.learn.exercise import Exercise, Judgement
from separable.learn.exercises import conversion, program
from separable.learn.folder import Folder, as_script
from separable.learn.table import EXERCISES, exercise

QUICK = [item for item in EXERCISES if item.needs is None]


def judged(number: int, code: str, tmp_path: Path) -> Judgement | Stopped:
    file = tmp_path / "answer.py"
    file.write_text(code, encoding="utf-8")
    return attempt(exercise(number), file)


def solved(number: int, *changes: str) -> str:
    """The solution, and what a learner wrote beneath it instead."""
    return "\n".join([exercise(number).solution, *changes])


def said(number: int, name: str, code: str, tmp_path: Path) -> str:
    """What the check says to one answer; all others are right."""
    came = judged(number, code, tmp_path)
    assert isinstance(came, Judgement), came
    assert [finding.name for finding in came.findings if not finding.right] == [name], came
    return next(finding.message for finding in came.findings if finding.name == name)


def test_there_are_eight_in_order() -> None:
    assert [item.number for item in EXERCISES] == list(range(1, 9))
    assert len({item.slug for item in EXERCISES}) == 8
    with pytest.raises(ValueError, match="no exercise 9; expected a number from 1 to 8"):
        exercise(9)


@pytest.mark.parametrize("item", QUICK, ids=lambda item: item.slug)
def test_solutions_pass(item: Exercise, tmp_path: Path) -> None:
    came = judged(item.number, item.solution, tmp_path)
    assert isinstance(came, Judgement)
    assert came.passed, came


@pytest.mark.parametrize("item", QUICK, ids=lambda item: item.slug)
def test_nothing_is_done_at_the_start_and_everything_is_said(item: Exercise, tmp_path: Path) -> None:
    came = judged(item.number, item.start, tmp_path)
    assert isinstance(came, Judgement)
    assert not any(finding.right for finding in came.findings)
    assert all(finding.message for finding in came.findings)
    assert not item.judge({}).passed


KHATRI_RAO = "def flat_weights(d, p):\n    return "
PAIR = "def same_layer(d, p):\n    return "
RANK = "def largest_rank(c_out, taps):\n    return "
OUTPUTS = "def fewest_outputs(k):\n    return "

MISTAKES = [
    (1, "dense_params", "dense_params = 3 * 64 * 128", "a kernel of 3 x 3: it has 9"),
    (1, "dense_params", "dense_params += 128", "128 biases"),
    (1, "dense_params", "dense_params = 9 * 64", "every output has its own kernels"),
    (1, "dense_params", "dense_params = dense_macs", "weights are shared by all pixels"),
    (1, "dense_macs", "dense_macs *= 2", "you counted FLOPs"),
    (1, "dense_macs", "dense_macs = dense_params", "what one pixel takes"),
    (1, "pair_params", "pair_params = 9 * 64", "depthwise convolution alone; you forgot the pointwise"),
    (1, "pair_params", "pair_params = 64 * 128", "pointwise convolution alone; you forgot the depthwise"),
    (1, "pair_params", "pair_params = 9 * 128 + 64 * 128", "one filter for each output"),
    (1, "pair_macs", "pair_macs = 9 * 64 * 56**2", "multiply-accumulates of the depthwise convolution alone"),
    (1, "pair_macs", "pair_macs = (9 * 64 * 128 + 64 * 128) * 56**2", "a kernel for each pair"),
    (1, "times_fewer", "times_fewer = 1 / times_fewer", "its inverse"),
    (1, "times_fewer", "times_fewer = 9", "nine is the limit"),
    (1, "times_fewer", "times_fewer = '8.4'", "a number is asked for, and this is a str"),
    (1, "dense_macs", "dense_macs = 5", "5 is not it; it should be more"),
    (1, "dense_macs", "dense_macs = True", "this is a bool"),
    (1, "pair_macs", "del pair_macs", "there is no such name"),
    (2, "column and row", "column, row = row, column", "they are swapped"),
    (2, "column and row", "row = [2 * r for r in row]", "2 times the kernel"),
    (2, "column and row", "row = [-r for r in row]", "the sign is wrong"),
    (2, "column and row", "row[3] = 7", r"column\[2\] \* row\[3\] is 42, and KERNEL\[2, 3\] is 12"),
    (2, "terms", "terms = sp.factor(sp.families.disk(10)).rank", "without a tolerance"),
    (2, "terms", "terms = 1", "no column times a row"),
    (2, "products", "products = 42", "that is one term"),
    (2, "products", "products = 441", "that is the square"),
    (3, "flat_weights", KHATRI_RAO + "np.kron(p, d)", "every column with every column"),
    (3, "flat_weights", KHATRI_RAO + "np.einsum('oi,it->toi', p, d).reshape(-1, len(d))", "swapped"),
    (3, "flat_weights", KHATRI_RAO + "np.einsum('oi,it->oti', p, d).reshape(-1, len(d)).T", "transposed"),
    (3, "flat_weights", KHATRI_RAO + "p @ d", "adds up over the channels"),
    (3, "flat_weights", KHATRI_RAO + "np.einsum('oi,it->oit', p, d)", "put the channel last"),
    (3, "flat_weights", KHATRI_RAO + "np.einsum('oi,it->oit', p, d).reshape(-1, len(d))", "in the middle"),
    (3, "slice_rank", "slice_rank = 9", "multiples of one filter"),
    (3, "slice_rank", "slice_rank = 3", "asked is the rank of one"),
    (4, "free", "free += 16", "656 counts every parameter"),
    (4, "free", "free += 15", "one number in all"),
    (4, "free", "free -= 16", "for each output; it is one for each input|scaling both is one number"),
    (4, "same_layer", PAIR + "d, p", "the same pair"),
    (4, "same_layer", PAIR + "2 * d, p", "the mixing vectors have to make up"),
    (4, "same_layer", PAIR + "d, p / 2", "the filters have to make up"),
    (4, "same_layer", PAIR + "2 * d, 2 * p", "4 times what it was: multiply the one, \\*divide\\*"),
    (4, "same_layer", PAIR + "d", "two arrays"),
    (4, "same_layer", PAIR + "(d * np.arange(1., 5)[:, None], p / 2)", "that of channel"),
    (5, "largest_rank", RANK + "c_out * taps // (taps + c_out)", "where both take as many MACs"),
    (5, "largest_rank", RANK + "c_out * taps / (taps + c_out)", "round down"),
    (5, "largest_rank", RANK + "-(-c_out * taps // (taps + c_out))", "you rounded up"),
    (5, "largest_rank", RANK + "min(c_out, taps)", "exact, whatever it costs"),
    (5, "fewest_outputs", OUTPUTS + "10 * k * k // max(k * k - 10, 1) + 1", "3 x 3 it gives 91; even with"),
    (5, "fewest_outputs", OUTPUTS + "None", "4 x 4 it gives None"),
    (5, "fewest_outputs", OUTPUTS + "None if k == 3 else 11", "you left out the filters"),
    (5, "fewest_outputs", OUTPUTS + "None if k == 3 else 10 * k * k // (k * k - 10)", "the next whole"),
    (6, "separates['two edges']", "separates['two edges'] = True", "the only input has one filter"),
    (6, "separates['three strengths']", "separates['three strengths'] = False", "multiples of one filtered"),
    (6, "separates['one coloured cross']", "separates['one coloured cross'] = False", "whatever is said"),
    (6, "separates['two coloured crosses']", "separates['two coloured crosses'] = True", "two ways"),
    (6, "separates['two edges']", "separates['two edges'] = 'no'", "say True or False"),
    (6, "least_error", "least_error = 0.5", "take the root"),
    (6, "least_error", "least_error = 70.7", "not per cent"),
    (6, "least_error", "least_error = 0", "the other order"),
    (6, "terms", "terms = 1", "is what it fails with"),
]  # fmt: skip


@pytest.mark.parametrize(("number", "name", "change", "message"), MISTAKES)
def test_each_mistake_is_told_what_it_is(
    number: int, name: str, change: str, message: str, tmp_path: Path
) -> None:
    told = said(number, name, solved(number, change), tmp_path)
    assert re.search(message, told), told


def test_mistakes_of_one_answer_are_told_apart(tmp_path: Path) -> None:
    told = {(number, name): [] for number, name, *_ in MISTAKES}  # type: ignore[var-annotated]
    for number, name, change, _ in MISTAKES:
        told[number, name].append(said(number, name, solved(number, change), tmp_path))
    assert all(len(set(messages)) > 1 for messages in told.values() if len(messages) > 2), told


def test_an_exception_is_shown_with_its_line(tmp_path: Path) -> None:
    came = judged(1, "dense_params = 1\ndense_macs = 1 / 0\n", tmp_path)
    assert came == Stopped("ZeroDivisionError", "division by zero", 2, "dense_macs = 1 / 0")


def test_an_exception_in_a_function_is_shown_with_the_line_of_the_function(tmp_path: Path) -> None:
    came = judged(3, "import numpy as np\n\ndef flat_weights(d, p):\n    return np.kron(d)\n", tmp_path)
    assert isinstance(came, Stopped)
    assert (came.kind, came.line, came.text) == ("TypeError", 4, "return np.kron(d)")


def test_a_wrong_number_of_arguments_is_shown_where_the_function_begins(tmp_path: Path) -> None:
    came = judged(3, "# flat_weights\n\ndef flat_weights(d):\n    return d\n", tmp_path)
    assert isinstance(came, Stopped)
    assert (came.kind, came.line, came.text) == ("TypeError", 3, "def flat_weights(d):")
    came = judged(3, "flat_weights = len\n", tmp_path)
    assert isinstance(came, Stopped)
    assert (came.kind, came.line) == ("TypeError", 1)


ODD: list[object] = [
    "x",
    [],
    {},
    10**400,
    float("nan"),
    float("inf"),
    1j,
    object(),
    [[1], [1, 2]],
    np.zeros((2, 2)),
    b"",
]


@pytest.mark.parametrize("item", QUICK, ids=lambda item: item.slug)
def test_whatever_is_given_there_is_an_answer(item: Exercise) -> None:
    right: dict[str, object] = {}
    exec(item.solution, right)
    names = {re.sub(r"\W.*", "", finding.name) for finding in item.judge(right).findings}
    for name in names:
        for value in ODD:
            for given in (value, lambda *arguments, value=value: value):
                findings = item.judge({**right, name: given}).findings
                assert not all(finding.right for finding in findings), (name, given)


def test_what_is_no_python_is_shown_with_its_line(tmp_path: Path) -> None:
    came = judged(1, "dense_params = 1\n\nif dense_params\n    pass\n", tmp_path)
    assert isinstance(came, Stopped)
    assert (came.kind, came.line, came.text) == ("SyntaxError", 3, "if dense_params")


def test_a_file_that_exits_stops_there(tmp_path: Path) -> None:
    came = judged(1, "import sys\nsys.exit(3)\n", tmp_path)
    assert isinstance(came, Stopped)
    assert (came.kind, came.line) == ("SystemExit", 2)


def test_a_fault_of_a_check_is_no_fault_of_the_learner(tmp_path: Path) -> None:
    def broken(given: Answers) -> None:
        raise RuntimeError("ours")

    file = tmp_path / "answer.py"
    file.write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="ours"):
        attempt(Exercise(1, "broken", "", "", "", "", "", broken), file)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    pytest.importorskip("onnx")
    with pytest.raises(
        MissingExtraError, match="onnxruntime is not installed: pip install 'separable\\[onnx\\]'"
    ):
        judged(8, exercise(8).start, tmp_path)


# -- the exercises about networks ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def converted() -> dict[str, object]:
    """What the solution of the conversion leaves; it takes some seconds."""
    pytest.importorskip("onnxruntime")
    names: dict[str, object] = {}
    exec(compile(conversion.EXERCISE.solution, "solution", "exec"), names)
    return names


def message_of(item: Exercise, names: dict[str, object], name: str) -> str:
    return next(finding.message for finding in item.judge(names).findings if finding.name == name)


def test_the_conversion_passes_and_its_mistakes_are_told(converted: dict[str, object]) -> None:
    item = conversion.EXERCISE
    assert item.judge(converted).passed
    before, change = converted["macs_before"], converted["change"]
    for name, value, said_ in (
        ("macs_before", converted["macs_after"], "those are of the converted network"),
        ("macs_after", before, "those are of the original"),
        ("macs_after", 0.25 * before, "that is the budget"),  # type: ignore[operator]
        ("change", 100 * change, "per cent"),  # type: ignore[operator]
        ("change", change**0.5, "that is the root"),  # type: ignore[operator]
        ("result", 5, "this is a int"),
    ):
        assert said_ in message_of(item, {**converted, name: value}, name)
    assert "comes first" in message_of(item, {**converted, "result": 5}, "change")


def test_conversions_that_are_wrong_are_told_why(converted: dict[str, object]) -> None:
    import separable as sp
    from separable.learn import material

    item, model = conversion.EXERCISE, material.network()
    noise = np.random.default_rng(0).standard_normal((64, 1, 20, 20)).astype(np.float32)
    for data, rank, message in (
        (noise, 1, "calibrate on all of INPUTS"),
        (noise, "full", "of the MACs are left"),
    ):
        result = sp.onnx.separate(
            model, data, rank=rank, forms=["dw-pw"], never_slower=False, progress=False, batch_size=64
        )
        assert message in message_of(item, {**converted, "result": result}, "result")


def test_running_passes_and_its_mistakes_are_told(converted: dict[str, object]) -> None:
    item = program.EXERCISE
    names: dict[str, object] = {}
    exec(compile(item.solution, "solution", "exec"), names)
    assert item.judge(names).passed, item.judge(names)
    least = names["milliseconds"]

    def mean(call: object) -> float:
        start = time.perf_counter()
        for _ in range(8):
            call()  # type: ignore[operator]
        return 1000 * (time.perf_counter() - start) / 8

    for name, value, said_ in (
        ("difference", -1e-7, "absolute values"),
        ("difference", 0.5, "more than rounding"),
        ("difference", np.zeros(3), "one number is asked for"),
        ("program", 3, "this is a int"),
        ("milliseconds", lambda call: least(call) / 1000, "are seconds"),  # type: ignore[operator]
        ("milliseconds", mean, "take the least"),
        ("milliseconds", lambda call: 8 * mean(call), "all calls together"),
        ("milliseconds", lambda call: call() or 1.0, "it made 1 calls"),
        ("milliseconds", lambda call: ..., "returns nothing yet"),
    ):
        assert said_ in message_of(item, {**names, name: value}, name)


# -- the folder, notebooks and the command line --------------------------------------------------------


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "course")
    first = exercise(1)
    assert folder.state(first) == "not begun"
    assert folder.begin(first)
    assert folder.file(first).read_text(encoding="utf-8") == as_script(first)
    folder.file(first).write_text("mine = 1\n", encoding="utf-8")
    assert not folder.begin(first)
    assert folder.file(first).read_text(encoding="utf-8") == "mine = 1\n"


def test_progress_is_kept_and_sees_changes(tmp_path: Path) -> None:
    folder, first = Folder(tmp_path), exercise(1)
    folder.begin(first)
    assert folder.state(first) == "begun"
    folder.note(first, True)
    assert folder.state(first) == "done"
    folder.file(first).write_text("x = 1\n", encoding="utf-8")
    assert folder.state(first) == "changed since it was done"
    folder.note(first, False)
    assert folder.state(first) == "begun"
    (tmp_path / "progress.json").write_text("[", encoding="utf-8")
    with pytest.raises(FileError, match="delete it"):
        folder.state(first)


def test_scripts_are_comment_and_starting_code() -> None:
    for item in EXERCISES:
        script = as_script(item)
        assert script.startswith(f"# Exercise {item.number}: {item.title}\n")
        assert script.endswith(item.start)
        assert ast.dump(ast.parse(script)) == ast.dump(ast.parse(item.start))
        assert max(map(len, script.splitlines())) <= 110
    assert "\n# - *three strengths*" in as_script(exercise(6))


@pytest.mark.parametrize("item", QUICK, ids=lambda item: item.slug)
def test_notebooks_run(item: Exercise, capsys: pytest.CaptureFixture[str]) -> None:
    for solved_ in (True, False):
        made = notebook.notebook(item, solved=solved_)
        assert item.statement.splitlines()[0] in "".join(made["cells"][0]["source"])
        names: dict[str, object] = {}
        *_, answer, check = ["".join(cell["source"]) for cell in made["cells"] if cell["cell_type"] == "code"]
        exec(answer, names)
        *before, last = ast.parse(check).body
        exec(compile(ast.Module(before, type_ignores=[]), "cell", "exec"), names)
        assert isinstance(last, ast.Expr)
        came = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        assert came.passed is solved_
        assert f"Exercise {item.number} is {'done' if solved_ else 'not done yet'}." in repr(came)


def test_notebooks_are_valid(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    for item in EXERCISES:
        nbformat.validate(nbformat.from_dict(notebook.notebook(item)))


def test_check_takes_names() -> None:
    names = {"largest_rank": lambda c_out, taps: (c_out * taps - 1) // (taps + c_out)}
    found = learn.check(5, names).findings
    assert [finding.right for finding in found] == [True, False]


def test_the_list_and_an_exercise(command: Run) -> None:
    done = command(["learn"])
    assert done.code == 0
    assert done.out.count("not begun") == 8
    assert "[onnx]" in done.out
    done = command(["learn", "3"])
    assert done.code == 0
    assert "Khatri-Rao product" in done.out
    file = Path("separable-learn/03_khatri_rao.py")
    assert file.exists()
    listed = json.loads(command(["learn", "--json"]).out)
    assert [row["state"] for row in listed["exercises"]] == ["not begun"] * 2 + ["begun"] + ["not begun"] * 5
    assert json.loads(command(["learn", "3", "--json"]).out)["written"] is False


def test_a_check_exits_with_what_came_of_it(command: Run) -> None:
    assert command(["learn", "4", "--check"]).code == 2
    command(["learn", "4", "--folder", "mine"])
    file = Path("mine/04_freedom.py")
    done = command(["learn", "4", "--check", "--folder", "mine"])
    assert done.code == 1
    assert "not yet" in done.out
    assert "--hint" in done.out
    file.write_text(solved(4, "free += 16", "print('mine')"), encoding="utf-8")
    done = command(["learn", "4", "--check", "--folder", "mine", "--json"])
    facts = json.loads(done.out)
    assert (done.code, facts["passed"], "mine" in done.err) == (1, False, True)
    assert "656" in facts["answers"][0]["message"]
    file.write_text("free = nothing\n", encoding="utf-8")
    done = command(["learn", "4", "--check", "--folder", "mine"])
    assert done.code == 1
    assert "04_freedom.py, line 1: NameError: name 'nothing' is not defined" in done.out
    assert "free = nothing" in done.out
    facts = json.loads(command(["learn", "4", "--check", "--folder", "mine", "--json"]).out)
    assert facts["stopped"]["line"] == 1
    file.write_text(exercise(4).solution, encoding="utf-8")
    done = command(["learn", "4", "--check", "--folder", "mine"])
    assert done.code == 0
    assert "Exercise 4 is done. Next: separable learn 5" in done.out


def test_hints_solutions_and_notebooks(command: Run) -> None:
    assert "np.kron" in command(["learn", "3", "--hint"]).out
    assert json.loads(command(["learn", "3", "--solution", "--json"]).out)["solution"] == exercise(3).solution
    assert "def flat_weights" in command(["learn", "3", "--solution"]).out
    done = command(["learn", "--notebooks", "course"])
    assert done.code == 0
    assert len(list(Path("course").glob("*.ipynb"))) == 8
    Path("course/01_layer_cost.ipynb").write_text("mine", encoding="utf-8")
    facts = json.loads(command(["learn", "--notebooks", "course", "--json"]).out)
    assert (len(facts["kept"]), facts["written"]) == (8, [])
    assert Path("course/01_layer_cost.ipynb").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["9"], "there is no exercise 9"),
        (["0"], "there is no exercise 0"),
        (["--check"], "needs the number of an exercise"),
        (["3", "--hint", "--check"], "exclude each other"),
        (["3", "--notebooks", "x"], "leave out the number"),
        (["three"], "is not a whole number"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, command: Run) -> None:
    done = command(["learn", *arguments])
    assert done.code == 2
    assert message in done.err


def test_a_folder_that_is_a_file_is_refused(command: Run) -> None:
    Path("separable-learn").write_text("", encoding="utf-8")
    done = command(["learn", "1"])
    assert done.code == 2
    assert "--folder" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_an_endless_loop_is_interrupted(tmp_path: Path) -> None:
    folder = tmp_path / "separable-learn"
    folder.mkdir()
    (folder / "01_layer_cost.py").write_text(
        "print('begun', flush=True)\nwhile True:\n    pass\n", encoding="utf-8"
    )
    running = subprocess.Popen(
        [sys.executable, "-m", "separable", "learn", "1", "--check"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "begun\n"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted" in err


def test_the_course_begins_with_numpy_alone(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('onnx', 'onnxruntime', 'torch', 'scipy', 'matplotlib', 'PIL'): sys.modules[name] = "
        "None\n"
        "from pathlib import Path\n"
        "from separable.learn.attempt import attempt\n"
        "from separable.learn.table import EXERCISES\n"
        "for item in EXERCISES[:6]:\n"
        "    file = Path('answer.py'); file.write_text(item.solution)\n"
        "    assert attempt(item, file).passed, item.slug\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
