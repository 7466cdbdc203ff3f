"""Output types of operations that move elements, cut them out or make them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from ...recorded.tape import applied
from ..elements import DTYPES
from .operands import (
    Kind,
    Length,
    Lengths,
    Operands,
    ShapeError,
    UnknownError,
    axis_of,
    broadcast,
    one_dtype,
    plus,
    product,
)

__all__ = ["RULES", "sliced"]

_INT64: Final = np.dtype(np.int64)


def _reshape(given: Operands) -> list[Kind]:
    old, wanted = given.shape(), given.integers(1)
    if any(length < -1 for length in wanted) or wanted.count(-1) > 1:
        raise ShapeError(f"lengths {wanted}; expected numbers, at most one of them -1")
    new: list[Length] = []
    for axis, length in enumerate(wanted):
        if length == 0 and not given.attribute("allowzero", 0):
            if axis >= len(old):
                raise ShapeError(f"lengths {wanted} copy axis {axis} of an input of shape {old}")
            new.append(old[axis])
        else:
            new.append(length)
    if -1 in new:
        hole = new.index(-1)
        new[hole] = _rest(old, [*new[:hole], *new[hole + 1 :]], wanted)
    elif _count(old) is not None and _count(new) is not None and _count(old) != _count(new):
        raise ShapeError(f"an input of shape {old} does not go into {tuple(new)}")
    return [(given.dtype(), tuple(new))]


def _count(lengths: list[Length] | Lengths) -> int | None:
    return math.prod(lengths) if all(isinstance(length, int) for length in lengths) else None  # type: ignore[arg-type]


def _rest(old: Lengths, others: list[Length], wanted: list[int]) -> Length:
    """Return the length that -1 stands for: open ones cancel by name."""
    names = [name for name in old if isinstance(name, str)]
    for length in others:
        if isinstance(length, str):
            names.remove(length) if length in names else None
        elif length is None:
            return None
    above = math.prod(number for number in old if isinstance(number, int))
    below = math.prod(number for number in others if isinstance(number, int))
    if not names:
        if below == 0 or above % below:
            raise ShapeError(f"an input of shape {old} does not go into {tuple(wanted)}")
        return above // below
    return names[0] if len(names) == 1 and above == below else None


def _flatten(given: Operands) -> list[Kind]:
    shape = given.shape()
    axis = given.attribute("axis", 1)
    axis = axis if axis == len(shape) else axis_of(axis, max(len(shape), 1))
    return [(given.dtype(), (product(shape[:axis]), product(shape[axis:])))]


def _transpose(given: Operands) -> list[Kind]:
    shape = given.shape()
    order = given.attribute("perm") or tuple(reversed(range(len(shape))))
    if sorted(axis_of(axis, len(shape)) for axis in order) != list(range(len(shape))):
        raise ShapeError(f"perm {tuple(order)} for an input of shape {shape}")
    return [(given.dtype(), tuple(shape[axis] for axis in order))]


def _squeeze(given: Operands) -> list[Kind]:
    shape = given.shape()
    if not given.has(1):
        return [(given.dtype(), tuple(length for length in shape if length != 1))]
    axes = {axis_of(axis, len(shape)) for axis in given.integers(1)}
    if any(isinstance(shape[axis], int) and shape[axis] != 1 for axis in axes):
        raise ShapeError(f"axes {sorted(axes)} of shape {shape} are not all of length 1")
    return [(given.dtype(), tuple(length for axis, length in enumerate(shape) if axis not in axes))]


def _unsqueeze(given: Operands) -> list[Kind]:
    shape, chosen = list(given.shape()), given.integers(1)
    rank = len(shape) + len(chosen)
    axes = sorted(axis_of(axis, rank) for axis in chosen)
    if len(set(axes)) < len(axes):
        raise ShapeError(f"axes {chosen} name one axis twice")
    for axis in axes:
        shape.insert(axis, 1)
    return [(given.dtype(), tuple(shape))]


def _concat(given: Operands) -> list[Kind]:
    shapes = [given.shape(number) for number in range(len(given.types))]
    first, dtype = shapes[0], one_dtype(given.types)
    axis = axis_of(given.attribute("axis"), len(first))
    new: list[Length] = list(first)
    for shape in shapes[1:]:
        pairs = zip(first, shape, strict=False)
        wrong = any(
            number != axis and isinstance(one, int) and isinstance(other, int) and one != other
            for number, (one, other) in enumerate(pairs)
        )
        if len(shape) != len(first) or wrong:
            raise ShapeError(f"shapes {', '.join(map(str, shapes))} do not join along axis {axis}")
        new = [old if isinstance(old, int) else other for old, other in zip(new, shape, strict=True)]
    along = [shape[axis] for shape in shapes]
    numbers = [length for length in along if isinstance(length, int)]
    if len(numbers) == len(along):
        new[axis] = sum(numbers)
    else:
        new[axis] = along[0] if len(along) == 1 else None
    return [(dtype, tuple(new))]


def _split(given: Operands) -> list[Kind]:
    shape, count = given.shape(), len(given.node.outputs)
    axis = axis_of(given.attribute("axis", 0), len(shape))
    length = shape[axis]
    parts: list[Length]
    if given.has(1):
        parts = list(given.integers(1))
        if isinstance(length, int) and (sum(given.integers(1)) != length or min(given.integers(1)) < 0):
            raise ShapeError(f"parts {parts} of axis {axis} of shape {shape}")
    elif isinstance(length, int):
        size = -(-length // count)
        parts = [max(min(size, length - n * size), 0) for n in range(count)]
    else:
        parts = [None] * count
    if len(parts) != count:
        raise ShapeError(f"{len(parts)} parts for {count} outputs")
    return [(given.dtype(), (*shape[:axis], part, *shape[axis + 1 :])) for part in parts]


def _slice(given: Operands) -> list[Kind]:
    shape = given.shape()
    starts, ends = given.integers(1), given.integers(2)
    axes = given.integers(3) if given.has(3) else list(range(len(starts)))
    steps = given.integers(4) if given.has(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise ShapeError(f"starts {starts}, ends {ends}, axes {axes}, steps {steps}")
    new: list[Length] = list(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = axis_of(axis, len(shape))
        length = shape[axis]
        if isinstance(length, int):
            new[axis] = applied(_cut, start, end, step, length)
        elif not (start == 0 and step == 1 and end >= 2**31 - 1):
            new[axis] = None
    return [(given.dtype(), tuple(new))]


def _cut(start: int, end: int, step: int, length: int) -> int:
    return len(range(*sliced(start, end, step).indices(length)))


def sliced(start: int, end: int, step: int) -> slice:
    """Return ONNX's slice as Python's: a backward one may end before the first element."""
    return slice(start, None if step < 0 and end < -(2**30) else end, step)


def _pad(given: Operands) -> list[Kind]:
    shape, pads = given.shape(), given.integers(1)
    axes = [axis_of(n, len(shape)) for n in given.integers(3)] if given.has(3) else list(range(len(shape)))
    if len(pads) != 2 * len(axes):
        raise ShapeError(f"pads {pads} for {len(axes)} axes")
    new: list[Length] = list(shape)
    for number, axis in enumerate(axes):
        new[axis] = plus(shape[axis], pads[number] + pads[number + len(axes)])
    if any(isinstance(length, int) and length < 0 for length in new):
        raise ShapeError(f"pads {pads} cut more off than shape {shape} has")
    return [(given.dtype(), tuple(new))]


def _resize(given: Operands) -> list[Kind]:
    shape = given.shape()
    axes = given.attribute("axes") or range(len(shape))
    axes = [axis_of(axis, len(shape)) for axis in axes]
    new: list[Length] = list(shape)
    if given.has(3):
        sizes: list[Any] = list(given.integers(3))
        factors = None
    else:
        factors = given.value(2).ravel().tolist()
        sizes = factors
    if len(sizes) != len(axes):
        raise ShapeError(f"{len(sizes)} scales or sizes for {len(axes)} axes of shape {shape}")
    policy = given.attribute("keep_aspect_ratio_policy", "stretch")
    if factors is None and policy != "stretch":
        if any(not isinstance(shape[axis], int) for axis in axes):
            return [(given.dtype(), tuple(None if n in axes else old for n, old in enumerate(shape)))]
        ratios = [size / shape[axis] for size, axis in zip(sizes, axes, strict=True)]
        factor = min(ratios) if policy == "not_larger" else max(ratios)
        for axis in axes:
            new[axis] = math.floor(shape[axis] * factor + 0.5)
        return [(given.dtype(), tuple(new))]
    roi = [float(bound) for bound in given.value(1)] if _is_cropped(given) else None
    for number, axis in enumerate(axes):
        length = shape[axis]
        if factors is None:
            new[axis] = sizes[number]
        elif isinstance(length, int):
            part = 1.0 if roi is None else roi[number + len(axes)] - roi[number]
            new[axis] = math.floor(length * part * factors[number])
        elif factors[number] != 1:
            new[axis] = None
    if any(isinstance(length, int) and length < 0 for length in new):
        raise ShapeError(f"sizes {tuple(new)} for an input of shape {shape}")
    return [(given.dtype(), tuple(new))]


def _is_cropped(given: Operands) -> bool:
    return bool(given.attribute("coordinate_transformation_mode") == "tf_crop_and_resize") and given.has(1)


def _expand(given: Operands) -> list[Kind]:
    return [(given.dtype(), broadcast([given.shape(), given.integers(1)]))]


def _tile(given: Operands) -> list[Kind]:
    shape, times = given.shape(), given.integers(1)
    if len(times) != len(shape) or min(times, default=1) < 0:
        raise ShapeError(f"repeats {times} for an input of shape {shape}")
    return [
        (
            given.dtype(),
            tuple(
                length * time if isinstance(length, int) else (length if time == 1 else None)
                for length, time in zip(shape, times, strict=True)
            ),
        )
    ]


def _gather(given: Operands) -> list[Kind]:
    shape = given.shape()
    axis = axis_of(given.attribute("axis", 0), len(shape))
    return [(given.dtype(), (*shape[:axis], *given.shape(1), *shape[axis + 1 :]))]


def _gather_elements(given: Operands) -> list[Kind]:
    return [(given.dtype(), given.shape(1))]


def _gather_nd(given: Operands) -> list[Kind]:
    shape, indices, batch = given.shape(), given.shape(1), given.attribute("batch_dims", 0)
    if not indices or not isinstance(indices[-1], int):
        raise UnknownError(f"its rank depends on the last length of {indices}")
    return [(given.dtype(), (*indices[:-1], *shape[batch + indices[-1] :]))]


def _depth_to_space(given: Operands) -> list[Kind]:
    n, c, h, w = _four(given)
    size = given.attribute("blocksize")
    if isinstance(c, int) and c % size**2:
        raise ShapeError(f"{c} channels in blocks of {size} by {size}")
    return [(given.dtype(), (n, _times(c, 1, size**2), _times(h, size), _times(w, size)))]


def _space_to_depth(given: Operands) -> list[Kind]:
    n, c, h, w = _four(given)
    size = given.attribute("blocksize")
    if any(isinstance(length, int) and length % size for length in (h, w)):
        raise ShapeError(f"an input of shape {given.shape()} in blocks of {size} by {size}")
    return [(given.dtype(), (n, _times(c, size**2), _times(h, 1, size), _times(w, 1, size)))]


def _four(given: Operands) -> tuple[int | str, ...]:
    if len(given.shape()) != 4:
        raise ShapeError(f"input of shape {given.shape()}; expected (N, C, H, W)")
    return given.shape()


def _times(length: Length, above: int, below: int = 1) -> Length:
    if isinstance(length, int):
        return length * above // below
    return length if above == below else None


def _shape(given: Operands) -> list[Kind]:
    rank = len(given.shape())
    start, end = given.attribute("start", 0), given.attribute("end", rank)
    return [(_INT64, (len(range(*slice(start, end).indices(rank))),))]


def _size(_: Operands) -> list[Kind]:
    return [(_INT64, ())]


def _constant_of_shape(given: Operands) -> list[Kind]:
    value = given.attribute("value")
    lengths = given.integers(0)
    if any(length < 0 for length in lengths):
        raise ShapeError(f"lengths {lengths}; expected none below 0")
    return [(np.dtype(np.float32) if value is None else value.dtype, tuple(lengths))]


def _range(given: Operands) -> list[Kind]:
    return [(given.dtype(), (applied(_steps, *(given.value(number).item() for number in range(3))),))]


def _steps(start: float, limit: float, delta: float) -> int:
    if not delta or not all(math.isfinite(value) for value in (start, limit, delta)):
        raise ShapeError(f"a range from {start} to {limit} in steps of {delta}")
    return max(math.ceil((limit - start) / delta), 0)


def _one_hot(given: Operands) -> list[Kind]:
    shape = given.shape()
    axis = axis_of(given.attribute("axis", -1), len(shape) + 1)
    return [(given.dtype(2), (*shape[:axis], given.integers(1)[0], *shape[axis:]))]


def _top_k(given: Operands) -> list[Kind]:
    shape = given.shape()
    axis = axis_of(given.attribute("axis", -1), len(shape))
    (count,) = given.integers(1)
    length = shape[axis]
    if count < 0 or (isinstance(length, int) and count > length):
        raise ShapeError(f"the largest {count} along axis {axis} of shape {shape}")
    new = (*shape[:axis], count, *shape[axis + 1 :])
    return [(given.dtype(), new), (_INT64, new)]


def _non_zero(given: Operands) -> list[Kind]:
    return [(_INT64, (len(given.shape()), int(np.count_nonzero(given.value(0)))))]


def _taper(given: Operands) -> list[Kind]:
    dtype = DTYPES[given.attribute("output_datatype", 1)]
    return [(dtype, (given.integers(0)[0],))]


RULES: Final[Mapping[str, Callable[[Operands], list[Kind]]]] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Resize": _resize,
    "Expand": _expand,
    "Tile": _tile,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Shape": _shape,
    "Size": _size,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "OneHot": _one_hot,
    "TopK": _top_k,
    "NonZero": _non_zero,
    **dict.fromkeys(("HannWindow", "HammingWindow", "BlackmanWindow"), _taper),
}
