"""Damaged and hostile ONNX models and the verbs: a result, or an error that names the file.

``python -m tests.fuzz_models`` runs a thousand, in a process of its own that may neither take more memory
than is plenty for models of this size nor longer than a minute for one. How many, the first one's number and
``--seed`` choose others.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

import separable as sp
from separable.files import FileError

if __package__:
    from . import onnx_models as models
else:  # as the tests import it
    import onnx_models as models

COUNT: Final = 1000
MEMORY: Final = 8 << 30  # bytes of address space
SECONDS: Final = 60  # of the processor, for one model
WALL_SECONDS: Final = 1200.0  # where that cannot be limited, and on a machine that has other things to do

# What an error about an argument begins with: the data and the goal are as much at fault as the model there.
ARGUMENTS: Final = ("`calibration`", "`budget=", "input `", "`shapes`", "`x`")

Edit = Callable[[ModelProto, np.random.Generator], object]

# -- seeds -------------------------------------------------------------------------------------------


def _padded() -> ModelProto:
    net = models.Net(seed=1)
    x = net.input("x", ["N", 4, 10])
    x = net.conv(x, 4, 6, (4,), "first", auto_pad="SAME_LOWER", strides=[2])
    x = net.node("LeakyRelu", [net.conv(x, 6, 6, (3,), "grouped", group=2, dilations=[2])])
    return net.model(net.conv(x, 6, 5, (1,), "last"))


def _mixed() -> ModelProto:
    """A graph with what exporters also write: constants in nodes, subgraphs, sparse tensors, labels."""
    net = models.Net(seed=2)
    x = net.input("image", [2, 3, 9, 9])
    value = numpy_helper.from_array(net.normal(6, 3, 3, 3), "value")
    kernel = net.node("Identity", [net.node("Constant", [], "kernel", value=value)])
    x = net.node("Conv", [x, kernel], "conv", pads=[1, 1, 1, 1])
    net.constant("up.w", net.normal(6, 4, 2, 2))
    x = net.node("ConvTranspose", [x, "up.w"], "up", strides=[2, 2])
    x = net.node("GlobalAveragePool", [x])
    x = net.node("Reshape", [x, net.constant("shape", np.array([2, -1]))])
    net.constant("m.w", net.normal(4, 7))
    scores = net.node("MatMul", [x, "m.w"], "head")
    inner = helper.make_graph(
        [helper.make_node("Neg", [scores], ["inner_out"], name="inner")],
        "branch",
        [],
        [helper.make_tensor_value_info("inner_out", TensorProto.FLOAT, None)],
    )
    both = net.node(
        "If",
        [net.constant("yes", np.array(True))],
        "if",
        then_branch=inner,
        else_branch=inner,
    )
    net.node("ArgMax", [both], "label", axis=1)
    model = net.model(scores)
    return model


def _volume() -> ModelProto:
    net = models.Net(seed=3, dtype="float16")
    x = net.input("x", ["N", 2, 5, 6, 6])
    x = net.norm(net.conv(x, 2, 6, (3, 3, 3), "conv", pads=[1] * 6), 6, "norm")
    y = net.conv(x, 6, 6, (1, 3, 3), "side", pads=[0, 1, 1, 0, 1, 1], bias=False)
    return net.model(net.node("Relu", [net.node("Add", [x, y])]))


def _packaged() -> Iterator[ModelProto]:
    """Small models that come with onnx, as if they were of an operator set that is read."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data"
    files = [folder / "light" / "light_squeezenet.onnx"]
    files += sorted((folder / "pytorch-converted").glob("test_Conv[12]d*/model.onnx"))[::5]
    for file in files:
        if file.exists():
            model = onnx.load(file)
            model.opset_import[0].version = 13
            yield model


def seeds() -> list[ModelProto]:
    """Return the models that are damaged."""
    own = [
        models.vgg(width=4),
        models.resnet(width=4),
        models.vgg(batch=2, width=3),
        _padded(),
        _mixed(),
        _volume(),
    ]
    return [*own, *own, *_packaged()]


# -- what is done to them --------------------------------------------------------------------------------

HUGE: Final = (-1, -(2**40), 0, 1, 2, 7, 2**16, 2**31, 2**33, 2**45, 2**62, 2**63 - 1)
NAMES: Final = ("", "[/]", "[red]", "\x1b[2J", "</script>", "nowhere", "a\nb", "x" * 4000, "\u202e", "conv0")


def _pick(values: Sequence[Any], rng: np.random.Generator) -> Any:
    return values[int(rng.integers(len(values)))]


def _tensor(model: ModelProto, rng: np.random.Generator) -> TensorProto:
    held = [each.t for node in model.graph.node for each in node.attribute if each.HasField("t")]
    return _pick([*model.graph.initializer, *held] or [TensorProto()], rng)


def _node(model: ModelProto, rng: np.random.Generator) -> Any:
    return _pick(model.graph.node, rng) if model.graph.node else model.graph.node.add()


def tensor_length(model: ModelProto, rng: np.random.Generator) -> None:
    dims = _tensor(model, rng).dims
    if dims and rng.random() < 0.7:
        dims[int(rng.integers(len(dims)))] = _pick(HUGE, rng)
    else:
        dims.extend([_pick(HUGE, rng)] * int(rng.integers(1, 80)))


def tensor_turned(model: ModelProto, rng: np.random.Generator) -> None:
    tensor = _tensor(model, rng)
    tensor.dims[:] = rng.permutation(np.array(tensor.dims, np.int64)).tolist()


def _other_tensor(name: str, rng: np.random.Generator) -> TensorProto:
    """Return a tensor in order that nobody expects there."""
    shape = rng.integers(0, 5, int(rng.integers(0, 6))).tolist()
    dtype = _pick(["float32", "float64", "float16", "int64", "int8", "bool", "uint8", "complex64"], rng)
    return numpy_helper.from_array(np.asarray(3 * rng.standard_normal(shape)).astype(dtype), name)


def tensor_exchanged(model: ModelProto, rng: np.random.Generator) -> None:
    tensor = _tensor(model, rng)
    tensor.CopyFrom(_other_tensor(tensor.name, rng))


def tensor_grown(model: ModelProto, rng: np.random.Generator) -> None:
    """Give a tensor other lengths, and the data for them."""
    tensor = _tensor(model, rng)
    values = numpy_helper.to_array(tensor)
    axis = int(rng.integers(values.ndim))
    times = _pick([0, 2, 3], rng)
    grown = np.concatenate([values] * times, axis) if times else np.take(values, [0], axis)
    tensor.CopyFrom(numpy_helper.from_array(grown, tensor.name))


def tensor_data(model: ModelProto, rng: np.random.Generator) -> None:
    tensor = _tensor(model, rng)
    kind = int(rng.integers(5))
    if kind == 0:
        tensor.raw_data = tensor.raw_data[: int(rng.integers(8))]
    elif kind == 1:
        values = np.frombuffer(tensor.raw_data[: len(tensor.raw_data) // 4 * 4], np.float32).copy()
        values[: 1 + len(values) // 2] = _pick([np.nan, np.inf, 3e38, -3e38, 0.0, 1e-40], rng)
        tensor.raw_data = values.tobytes()
    elif kind == 2:
        tensor.ClearField("raw_data")
        tensor.float_data.extend([1.0] * int(rng.integers(40)))
    elif kind == 3:
        tensor.ClearField("raw_data")
    else:
        tensor.int64_data.extend([1, 2, 3])


def tensor_type(model: ModelProto, rng: np.random.Generator) -> None:
    _tensor(model, rng).data_type = _pick([*range(27), 999, -1], rng)


def elsewhere(model: ModelProto, rng: np.random.Generator) -> None:
    tensor = _tensor(model, rng)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    places = [
        "../secret",
        "/etc/passwd",
        "data.bin",
        ".",
        "",
        "no/where",
        "model.onnx",
        "a\0b",
        "~/x",
        "x" * 5000,
    ]
    tensor.external_data.add(key="location", value=_pick(places, rng))
    for key in ("offset", "length"):
        if rng.random() < 0.5:
            tensor.external_data.add(key=key, value=_pick([*map(str, HUGE), "x", "1e3", ""], rng))


def input_shape(model: ModelProto, rng: np.random.Generator) -> None:
    info = _pick([*model.graph.input, *model.graph.output], rng)
    kind = int(rng.integers(4))
    dims = info.type.tensor_type.shape.dim
    if kind == 0:
        info.type.ClearField("tensor_type")
    elif kind == 1:
        info.type.tensor_type.elem_type = _pick([*range(25), 999], rng)
    elif kind == 2 or not dims:
        dims.add(dim_value=_pick(HUGE, rng))
    else:
        dims[int(rng.integers(len(dims)))].dim_value = _pick(HUGE, rng)


def attribute_value(model: ModelProto, rng: np.random.Generator) -> None:
    """Change a value and keep its type."""
    nodes = [node for node in model.graph.node if node.attribute]
    attribute = _pick(_pick(nodes, rng).attribute, rng)
    if attribute.type == AttributeProto.INTS and attribute.ints and rng.random() < 0.8:
        attribute.ints[int(rng.integers(len(attribute.ints)))] = _pick(HUGE, rng)
    elif attribute.type == AttributeProto.INTS:
        attribute.ints.extend([_pick(HUGE, rng)] * int(rng.integers(1, 9)))
    elif attribute.type == AttributeProto.INT:
        attribute.i = _pick(HUGE, rng)
    elif attribute.type == AttributeProto.STRING:
        attribute.s = _pick([b"\xff\xfe", b"SAME", b"SAME_UPPER", b"VALID", b""], rng)
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = float(_pick([np.nan, np.inf, -1.0, 1e38], rng))
    elif attribute.type == AttributeProto.TENSOR:
        attribute.t.CopyFrom(_other_tensor("value", rng))


def attribute_type(model: ModelProto, rng: np.random.Generator) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    _pick(_pick(nodes, rng).attribute, rng).type = _pick(list(range(15)), rng)


def attribute_added(model: ModelProto, rng: np.random.Generator) -> None:
    name = _pick(
        ["kernel_shape", "strides", "pads", "dilations", "group", "auto_pad", "axis", "training_mode"], rng
    )
    value = _pick([1, 2**40, -3, [1, 1], [2**40] * 4, "SAME_UPPER", 0.5, [0] * 40], rng)
    _node(model, rng).attribute.append(helper.make_attribute(name, value))


def operator_sets(model: ModelProto, rng: np.random.Generator) -> None:
    kind = int(rng.integers(5))
    if kind == 0:
        model.opset_import[0].version = _pick([-1, 0, 7, 12, 13, 18, 21, 10**6, 2**62], rng)
    elif kind == 1:
        del model.opset_import[:]
    elif kind == 2:
        model.opset_import.add(domain=_pick(["", "com.microsoft", "my.own", "[/]"], rng), version=1)
    elif kind == 3:
        model.ir_version = _pick([0, 3, 7, 10, 99, 2**60], rng)
    else:
        _node(model, rng).domain = _pick(["my.own", "com.microsoft", "ai.onnx.ml", "[/]"], rng)


def renamed(model: ModelProto, rng: np.random.Generator) -> None:
    """Give something another name, maybe that of something else; where it is read it keeps its own."""
    name = _pick(NAMES, rng)
    kind = int(rng.integers(6))
    node = _node(model, rng)
    if kind == 0:
        model.graph.name = name
    elif kind == 1:
        node.name = name
    elif kind == 2 and node.output:
        node.output[int(rng.integers(len(node.output)))] = name
    elif kind == 3 and node.input:
        node.input[int(rng.integers(len(node.input)))] = name
    elif kind == 4:
        _tensor(model, rng).name = name
    else:
        _pick([*model.graph.input, *model.graph.output], rng).name = name


def renamed_everywhere(model: ModelProto, rng: np.random.Generator) -> ModelProto:
    """Give a name that is read elsewhere as well another one, or bytes that are no text."""
    names = sorted(
        {name for node in model.graph.node for name in (node.name, *node.input, *node.output)} - {""}
    )
    old = _pick(names, rng).encode()
    wild = bytes(rng.choice(np.frombuffer(b"\xff\xc3(\x80<[/]\x1b\n\0{", np.uint8), len(old)))
    return ModelProto.FromString(model.SerializeToString().replace(old, wild))


def nodes(model: ModelProto, rng: np.random.Generator) -> None:
    graph = model.graph
    kind = int(rng.integers(6))
    place = int(rng.integers(len(graph.node)))
    if kind == 0:
        del graph.node[place]
    elif kind == 1:
        graph.node.append(graph.node[place])
    elif kind == 2:
        order = [graph.node[int(each)] for each in rng.permutation(len(graph.node))]
        kept = [type(each).FromString(each.SerializeToString()) for each in order]
        del graph.node[:]
        graph.node.extend(kept)
    elif kind == 3:
        node = graph.node[place]
        node.input[:1] = [node.output[0]] if node.output else []
    elif kind == 4:
        del graph.node[:]
    else:
        node = graph.node[place]
        del node.input[int(rng.integers(len(node.input) + 1)) :]


def operator(model: ModelProto, rng: np.random.Generator) -> None:
    kinds = [
        "Conv",
        "ConvTranspose",
        "MatMul",
        "Gemm",
        "Relu",
        "Identity",
        "Loop",
        "If",
        "Constant",
        "Conv2D",
    ]
    _node(model, rng).op_type = _pick(
        [*kinds, "QLinearConv", "Einsum", "[/]", "BatchNormalization", "Add"], rng
    )


def initializers(model: ModelProto, rng: np.random.Generator) -> None:
    held = model.graph.initializer
    if not held:
        return
    place = int(rng.integers(len(held)))
    kind = int(rng.integers(4))
    if kind == 0:
        del held[place]
    elif kind == 1:
        held.append(held[place])
    elif kind == 2:
        held[place].CopyFrom(numpy_helper.from_array(rng.integers(0, 9, 5), held[place].name))
    else:
        model.graph.input.append(
            helper.make_tensor_value_info(held[place].name, TensorProto.FLOAT, [_pick(HUGE, rng)])
        )


def sparse(model: ModelProto, rng: np.random.Generator) -> None:
    held = model.graph.initializer
    name = held[int(rng.integers(len(held)))].name if held else "w"
    values = numpy_helper.from_array(np.ones(1, np.float32), name)
    indices = numpy_helper.from_array(np.array([_pick(HUGE, rng)]), f"{name}.indices")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, indices, [_pick(HUGE, rng) for _ in range(4)])
    )
    for each in [each for each in held if each.name == name]:
        held.remove(each)


def large(model: ModelProto, rng: np.random.Generator) -> None:
    """Put a node in front that makes a small input into a huge one, or a huge constant."""
    graph = model.graph
    first = graph.input[0].name
    ndim = max(len(graph.input[0].type.tensor_type.shape.dim), 1)
    lengths = numpy_helper.from_array(
        np.array([_pick([1, 2, 2**20, 2**31, 2**40], rng) for _ in range(ndim)]), "lengths"
    )
    graph.initializer.append(lengths)
    kind = _pick(["Expand", "Tile", "ConstantOfShape", "Reshape"], rng)
    inputs = ["lengths"] if kind == "ConstantOfShape" else [first, "lengths"]
    for node in graph.node:
        node.input[:] = ["large" if name == first else name for name in node.input]
    graph.node.insert(0, helper.make_node(kind, inputs, ["large"], name="large"))


def ring(model: ModelProto, rng: np.random.Generator) -> None:
    graph = model.graph
    graph.node.insert(0, helper.make_node("Identity", ["ring2"], ["ring1"]))
    graph.node.insert(1, helper.make_node("Identity", ["ring1"], ["ring2"]))
    node = _node(model, rng)
    if node.input:
        node.input[int(rng.integers(len(node.input)))] = "ring1"


def deep(model: ModelProto, rng: np.random.Generator) -> None:
    """Put a branch within a branch, and so on."""
    inner = [helper.make_node("Conv", ["large" if rng.random() < 0.2 else "x", "w"], ["deep"], name="[/]")]
    for _ in range(int(rng.integers(1, 30))):
        ends = [helper.make_tensor_value_info("deep", TensorProto.FLOAT, None)]
        branch = helper.make_graph(inner, "branch", [], ends)
        inner = [helper.make_node("If", ["deep.yes"], ["deep"], then_branch=branch, else_branch=branch)]
        if len(branch.SerializeToString()) > 1 << 16:
            break
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "deep.yes"))
    names = [model.graph.input[0].name, model.graph.initializer[0].name]
    data = inner[0].SerializeToString()
    model.graph.node.append(onnx.NodeProto.FromString(data))
    model.graph.node.insert(0, helper.make_node("Identity", names[:1], ["x"]))
    model.graph.node.insert(1, helper.make_node("Identity", names[1:], ["w"]))


def outputs(model: ModelProto, rng: np.random.Generator) -> None:
    kind = int(rng.integers(4))
    if kind == 0:
        del model.graph.output[:]
    elif kind == 1:
        model.graph.output.append(model.graph.output[0])
    elif kind == 2:
        model.graph.output.append(model.graph.input[0])
    else:
        model.graph.output[0].type.tensor_type.ClearField("shape")


EDITS: Final[tuple[Edit, ...]] = (
    *(tensor_length, tensor_turned, tensor_data, tensor_type, elsewhere, input_shape, attribute_value),
    *(tensor_exchanged, tensor_grown, tensor_grown, attribute_value, attribute_type, input_shape, large),
    *(attribute_added, operator_sets, renamed, renamed_everywhere, nodes, operator, initializers, sparse),
    *(large, ring, deep, outputs),
)


def _bytes_damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(whole)
    kind = int(rng.integers(12))
    # Early bytes hold names and structure, most of the others numbers.
    place = int(len(data) * rng.random() ** 3)
    if kind == 0:
        del data[place:]
    elif kind == 1:
        del data[place : place + int(rng.integers(1, 64))]
    elif kind == 2:
        data[place:place] = data[place : place + int(rng.integers(1, 64))]
    else:
        for _ in range(int(rng.integers(1, 9))):
            data[int(len(data) * rng.random() ** 3)] ^= 1 << int(rng.integers(8))
    return bytes(data)


def damaged(number: int, seed: int, sound: Sequence[ModelProto]) -> tuple[str, bytes]:
    """Return what was done, and the file that came of it."""
    rng = np.random.default_rng([seed, number])
    model = ModelProto()
    model.CopyFrom(_pick(sound, rng))
    if rng.random() < 0.25:
        return "bytes", _bytes_damaged(model.SerializeToString(), rng)
    done = []
    for _ in range(1 + int(rng.random() < 0.25)):
        edit = _pick(EDITS, rng)
        # Where there is nothing of the kind, or a first edit left none.
        with contextlib.suppress(IndexError, ValueError, TypeError, KeyError, DecodeError):
            changed = edit(model, rng)
            model = changed if isinstance(changed, ModelProto) else model
            done.append(edit.__name__)
    return "+".join(done), model.SerializeToString()


# -- what comes of them ----------------------------------------------------------------------------------


def data_for(path: Path) -> Any:
    """Return a few inputs of a model, if it has any that can be made out; else some of another shape."""
    rng = np.random.default_rng(0)
    with contextlib.suppress(Exception):
        graph = ModelProto.FromString(path.read_bytes()).graph
        held = {each.name for each in graph.initializer}
        found = {}
        for info in graph.input:
            if info.name in held:
                continue
            kind = info.type.tensor_type
            shape = [each.dim_value if each.HasField("dim_value") else 4 for each in kind.shape.dim]
            if not 0 < np.prod(shape, dtype=float) < 1e6:
                raise ValueError
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
            found[str(info.name)] = rng.standard_normal(shape).astype(dtype)
        if found:
            return found if len(found) > 1 else next(iter(found.values()))
    return rng.standard_normal((4, 3, 12, 12)).astype(np.float32)


def outcome(path: Path, searching: bool, *only: str) -> tuple[dict[str, str], list[str]]:
    """Return what each verb, or some of them, made of a file, and what it should not have made of it."""
    found, wrong = {}, []
    goal: dict[str, Any] = {"budget": 0.7} if searching else {"rank": 1}

    def counted() -> None:
        audit = sp.onnx.audit(path)
        _ = str(audit), repr(audit), audit.to_json()

    def converted() -> None:
        done = sp.onnx.separate(
            path, data_for(path), **goal, threads=1, never_slower=False, memory=1 << 24, batch_size=2
        )
        _ = str(done.report), repr(done), done.report.to_json()
        done.save(path.with_name("out.onnx"))

    def run_whole() -> None:
        program = sp.engine.load(path, threads=1, fallback=None if searching else "onnxruntime")
        _ = str(program), repr(program), program(data_for(path))

    for name, verb in (("audit", counted), ("separate", converted), ("engine", run_whole)):
        if only and name not in only:
            continue
        try:
            verb()
        except (FileError, ValueError, TypeError) as error:
            said = str(error)
            found[name] = type(error).__name__
            if str(path) not in said and not said.startswith(ARGUMENTS):
                wrong.append(f"{name}: the message does not name the file\n{traceback.format_exc()}")
            elif "it cannot be" in said:
                found[name] = (
                    f"{type(error).__name__}, which nobody thought of: {type(error.__cause__).__name__}"
                )
        except BaseException as error:
            found[name] = type(error).__name__
            wrong.append(f"{name}: {traceback.format_exc()}")
        else:
            found[name] = "result"
    return found, wrong


def run(
    number: int, seed: int, sound: Sequence[ModelProto], folder: Path, *only: str
) -> tuple[str, dict[str, str], list[str]]:
    """Make one file, and return what was done to it, what became of it, and what should not have."""
    kind, data = damaged(number, seed, sound)
    path = folder / "model.onnx"
    path.write_bytes(data)
    (folder / "data.bin").write_bytes(bytes(100))
    return (kind or "nothing", *outcome(path, number % 4 == 0, *only))


# -- a process that may die ------------------------------------------------------------------------------


def _serve(pipe: Connection, seed: int) -> None:
    sound = seeds()
    _limit_memory()
    pipe.send(None)
    while True:
        number = pipe.recv()
        _limit_time()
        with tempfile.TemporaryDirectory() as folder:
            pipe.send(run(number, seed, sound, Path(folder)))


def _limit_memory() -> None:
    with contextlib.suppress(ImportError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _limit_time() -> None:
    """End this process where the next model takes too long."""
    with contextlib.suppress(ImportError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + SECONDS, hard))


class _Worker:
    """A process that tries models; a new one where it died or takes too long."""

    def __init__(self, seed: int) -> None:
        self._context, self._seed = multiprocessing.get_context("spawn"), seed
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(theirs, self._seed), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()

    def run(self, number: int) -> tuple[str, dict[str, str], list[str]]:
        self._pipe.send(number)
        try:
            if self._pipe.poll(WALL_SECONDS):
                found: tuple[str, dict[str, str], list[str]] = self._pipe.recv()
                return found
            reason = f"took longer than {WALL_SECONDS:.0f} s"
        except EOFError:
            self._process.join()
            reason = f"died, exit code {self._process.exitcode}"
        self.close()
        self._start()
        return damaged(number, self._seed, seeds())[0], {"process": "lost"}, [reason]

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def main() -> int:
    """Try many models; return how many came to what they should not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=COUNT)
    parser.add_argument("first", nargs="?", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    start, worker = time.monotonic(), _Worker(asked.seed)
    sums: collections.Counter[str] = collections.Counter()
    bad = 0
    for number in range(asked.first, asked.first + asked.count):
        kind, found, wrong = worker.run(number)
        sums.update(f"{verb}: {what}" for verb, what in found.items())
        bad += bool(wrong)
        for text in wrong:
            print(f"\n--- {number} ({kind}) {text}", flush=True)
    worker.close()
    print(f"{asked.count} models in {time.monotonic() - start:.0f} s; {bad} came to what they should not")
    for what, times in sorted(sums.items()):
        print(f"  {times:5} {what}")
    return bad


if __name__ == "__main__":
    sys.exit(min(main(), 1))
