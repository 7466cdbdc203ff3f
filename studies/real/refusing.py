"""A network that is made of depthwise separable convolutions already: what conversion says, and how soon."""

from __future__ import annotations

import collections
import time
from typing import Final

import separable as sp
from benchmarks import engine_networks
from separable.conv.forms.table import is_dense
from studies.study import Numbers, Progress

NETWORK, SMALL = "mobilenet-v2", "ds-cnn-s"
INPUTS: Final = 64


def answered(small: bool, progress: Progress) -> Numbers:
    """Ask for a conversion by default, on one thread; return the answer, and what it took.

    Returns
    -------
    dict
        JSON. `reasons` counts the layers by why they stay as they are; `lost` is the change of the outputs.
    """
    network = engine_networks.named(SMALL if small else NETWORK)
    path = engine_networks.path(network)
    inputs = engine_networks.sample(network, INPUTS)
    start = time.process_time(), time.monotonic()
    done = sp.onnx.separate(
        path, inputs, threads=1, progress=lambda done, total, step: progress(f"{network.title}: {step}")
    )
    spent = time.process_time() - start[0], time.monotonic() - start[1]
    report = done.report
    assert report.milliseconds_before is not None
    assert report.milliseconds_after is not None
    return {
        "name": network.title,
        "inputs": INPUTS,
        "processor_seconds": spent[0],
        "seconds": spent[1],
        "layers": len(report.layers),
        "changed": sum(not is_dense(row.form) for row in report.layers),
        "speedup": report.milliseconds_before / report.milliseconds_after,
        "change": report.output_change,
        "reasons": dict(collections.Counter(row.reason for row in report.layers if row.reason)),
    }
