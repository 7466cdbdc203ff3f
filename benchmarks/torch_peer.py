"""A filter written with torch's convolutions, in the fastest arrangement found.

One image is one channel to torch, and its one-channel convolution is slow (37 ms for a 9-tap pass over
1024 x 1024 on one core). Treating every line as a channel of a grouped convolution takes the paths made
for depthwise layers (1 to 5 ms for the same pass), so that is what is compared.
"""

from __future__ import annotations

from typing import Any

from benchmarks.works import Array, Job, Taps


class TorchFilter:
    """The work of a job as padding and convolutions; call it, then read :meth:`result`."""

    def __init__(self, job: Job, torch: Any) -> None:
        self._torch = torch
        self._work = job.work
        self._x = torch.from_numpy(job.x)
        self._before = [n // 2 for n in job.work.lengths()]
        self._after = [n - 1 - n // 2 for n in job.work.lengths()]
        axes = len(self._before)
        padded = [n + b + a for n, b, a in zip(job.x.shape, self._before, self._after, strict=False)]
        self._padded = torch.empty([*padded, *job.x.shape[axes:]], dtype=self._x.dtype)
        self._weights = self._prepare_weights()
        self._result: Any = None

    def __call__(self) -> None:
        """Filter once."""
        with self._torch.inference_mode():
            self._pad()
            self._result = self._direct() if self._work.weights is not None else self._separable()

    def result(self) -> Array:
        """Return what the last call computed."""
        array: Array = self._result.numpy()
        return array

    def _pad(self) -> None:
        """Mirror the borders; torch's own "reflect" does not repeat the edge sample."""
        inner = self._padded
        for axis, before in enumerate(self._before):
            inner = inner.narrow(axis, before, self._x.shape[axis])
        inner.copy_(self._x)
        for axis, (before, after) in enumerate(zip(self._before, self._after, strict=True)):
            end = before + self._x.shape[axis]
            mirrored = self._padded.narrow(axis, before, before).flip(axis)
            self._padded.narrow(axis, 0, before).copy_(mirrored)
            mirrored = self._padded.narrow(axis, end - after, after).flip(axis)
            self._padded.narrow(axis, end, after).copy_(mirrored)

    def _direct(self) -> Any:
        image = self._padded[None, None]
        functional = self._torch.nn.functional
        convolve = functional.conv3d if self._x.ndim == 3 else functional.conv2d
        return convolve(image, self._weights[0])[0, 0]

    def _separable(self) -> Any:
        y = self._padded
        for axis, weights in enumerate(self._weights):
            y = self._pass(y, axis, weights)
        return y

    def _pass(self, y: Any, axis: int, weights: Any) -> Any:
        functional = self._torch.nn.functional
        shape = list(y.shape)
        shape[axis] = -1
        if axis == y.ndim - 1:  # rows are channels
            lines = y.reshape(-1, y.shape[-2], y.shape[-1])
            return functional.conv1d(lines, weights, groups=y.shape[-2]).reshape(shape)
        if self._along_only():  # torch has a quick grouped path for columns in float32 only
            moved = y.movedim(axis, -1).contiguous()
            lines = moved.reshape(-1, moved.shape[-2], moved.shape[-1])
            out = functional.conv1d(lines, weights, groups=moved.shape[-2])
            return out.reshape(*moved.shape[:-1], -1).movedim(-1, axis)
        # columns (the last axis, innermost) are channels of a channels-last image
        outer = 1
        for length in y.shape[:axis]:
            outer *= length
        if axis == y.ndim - 2:
            image = y.reshape(1, outer, y.shape[axis], y.shape[-1])
        else:
            image = y.reshape(outer, y.shape[axis], -1, y.shape[-1])
        out = functional.conv2d(image.permute(0, 3, 1, 2), weights, groups=y.shape[-1])
        return out.permute(0, 2, 3, 1).reshape(shape)

    def _along_only(self) -> bool:
        return self._work.dtype != "float32"

    def _prepare_weights(self) -> list[Any]:
        if self._work.weights is not None:
            return [self._tensor(self._work.weights)[None, None]]
        ndim = self._x.ndim
        shape = list(self._padded.shape)
        prepared = []
        for axis, taps in enumerate(self._work.taps):
            row = self._tensor(taps)
            if axis == ndim - 1:
                prepared.append(row.expand(shape[-2], 1, -1).contiguous())
            elif self._along_only():
                groups = [n for a, n in enumerate(shape) if a != axis][-1]
                prepared.append(row.expand(groups, 1, -1).contiguous())
            else:
                kernel = row.view(1, -1) if axis == ndim - 2 else row.view(-1, 1)
                weights = kernel.expand(shape[-1], 1, *kernel.shape)
                prepared.append(weights.contiguous(memory_format=self._torch.channels_last))
            shape[axis] -= len(taps) - 1
        return prepared

    def _tensor(self, values: Taps) -> Any:
        return self._torch.from_numpy(values.astype(self._work.dtype))
