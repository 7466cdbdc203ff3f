"""Train the network that ``separable demo`` converts: brick, grass or gravel, from 20 x 20 pixels.

Run ``python examples/train/demo_network.py`` (a minute; needs torch, onnx, onnxscript, scikit-image). It
writes src/separable/demo/textures.onnx, a weight a byte. The upper two thirds of each texture train it; the
lower thirds are for the demo, to judge by. The same seed on the same machine gives the same file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from networks import accuracy, conv, train
from onnx import ModelProto, helper, numpy_helper
from pictures import Pictures, textures
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

SEED = 0
CLASSES = ("brick", "grass", "gravel")
CHANNELS, STRIDES = (32, 48, 48, 56, 64), (2, 1, 1, 2, 1)
LEVELS = 127  # a weight is a whole number of steps up to this, and a step for each channel of the result
TARGET = Path(__file__).resolve().parents[2] / "src" / "separable" / "demo" / "textures.onnx"


def main() -> None:
    """Train, say how good it is, and write it."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path, default=TARGET)
    target = options.parse_args().out
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    data = textures(SEED)
    net = train(network(), data, epochs=12)
    model = exported(folded(net))
    keep_in_bytes(model)
    target.write_bytes(model.SerializeToString(deterministic=True))
    squares = f"of {len(data.test_x)} squares of the lower thirds"
    print(f"{accuracy(net, data):.2f} % {squares}, {stored_accuracy(target, data):.2f} % as stored")
    print(f"wrote {target}, {target.stat().st_size} bytes")


def network() -> nn.Sequential:
    """Return five convolutions of 3 x 3 with norms, the mean over the square, and a linear layer."""
    layers: list[nn.Module] = []
    inputs = 1
    for outputs, stride in zip(CHANNELS, STRIDES, strict=True):
        layers += [*conv(inputs, outputs, 3, stride), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, len(CLASSES)))


def folded(net: nn.Sequential) -> nn.Sequential:
    """Return the network with each norm within the convolution before it."""
    layers: list[nn.Module] = []
    for module in net:
        if isinstance(module, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], module)
        else:
            layers.append(module)
    return nn.Sequential(*layers).eval()


def exported(net: nn.Sequential) -> ModelProto:
    """Return the network as an ONNX model that takes any number of squares."""
    program = torch.onnx.export(
        net,
        (torch.zeros(2, 1, 20, 20),),
        input_names=["squares"],
        output_names=["scores"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    model = program.model_proto
    model.graph.name = "textures"
    model.graph.doc_string = f"scores of {', '.join(CLASSES)}"
    numbers: dict[str, int] = {}
    for node in model.graph.node:
        numbers[node.op_type] = numbers.get(node.op_type, 0) + 1
        node.name = f"{node.op_type.lower()}{numbers[node.op_type]}"
    forget_where_it_was_made(model)
    return model


def keep_in_bytes(model: ModelProto) -> None:
    """Round each weight of a convolution to whole steps, and store the steps and how large they are."""
    graph = model.graph
    tensors = {each.name: each for each in graph.initializer}
    for place, node in enumerate([node for node in graph.node if node.op_type == "Conv"]):
        name = node.input[1]
        weights = numpy_helper.to_array(tensors[name])
        steps = np.abs(weights).max(axis=(1, 2, 3)) / LEVELS
        narrow = np.rint(weights / steps[:, None, None, None]).astype(np.int8)
        graph.initializer.remove(tensors[name])
        graph.initializer.append(numpy_helper.from_array(narrow, f"{name}.steps"))
        graph.initializer.append(numpy_helper.from_array(steps.astype(np.float32), f"{name}.step"))
        inputs = [f"{name}.steps", f"{name}.step"]
        widen = helper.make_node("DequantizeLinear", inputs, [name], f"widen{place + 1}", axis=0)
        graph.node.insert(place, widen)


def stored_accuracy(path: Path, data: Pictures) -> float:
    """Return the percentage of held-out pictures that the network of a file tells right."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {session.get_inputs()[0].name: data.test_x.numpy()})
    return 100 * float((scores.argmax(axis=1) == data.test_y.numpy()).mean())


def forget_where_it_was_made(model: ModelProto) -> None:
    """Take out the notes that an exporter leaves: lines of source and their paths."""
    graph = model.graph
    tensors = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (model, graph, *graph.node, *tensors):
        del part.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""


if __name__ == "__main__":
    main()
