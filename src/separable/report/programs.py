"""Programs of the engine as people read them: printed, profiled, and written as a page."""

from __future__ import annotations

import os
from typing import Any

from .._base.extras import extra
from ..engine.columns.plan import HopPlan
from ..engine.columns.stream import ColumnStream
from ..engine.network.compiled import CompiledNetwork
from ..engine.network.records import ProfileRecord
from .text.programs import profile_table, program_table
from .text.streams import stream_table

__all__ = ["Profile", "Program", "Stream"]


class Profile(ProfileRecord):
    """Where the time of a network goes, step by step. Print it.

    Attributes
    ----------
    network : str
    inputs : tuple of (str, tuple of int)
    steps : tuple of StepRecord
        With the least time of each in `measured_ms`.
    total_ms, median_ms : float
        Least and median time of whole calls.
    repeat : int
        Calls that were timed.
    threads : int
    peak_gflops : float
        Of fused multiply-adds of these threads, as measured.
    memory_bytes : int
        Of one call.

    Examples
    --------
    >>> from importlib.resources import files
    >>> import numpy as np
    >>> import separable as sp
    >>> path = files("separable") / "demo" / "textures.onnx"  # a small network that comes with the package
    >>> profile = sp.engine.load(str(path)).profile(repeat=3)
    >>> profile.total_ms <= profile.median_ms, profile.network
    (True, 'textures')
    >>> print(profile)
    textures ...
    """

    def __str__(self) -> str:
        return profile_table(self)


class Stream(ColumnStream):
    """A network that is given the new columns of a sliding window. `Program.stream` makes it.

    Call `start` with the first window, then the stream with the new columns of each further one: it returns
    what the program returns for the whole window. Layers of which each column depends on a few columns of the
    input are computed where columns are new, and near the ends of the window, where they read padding;
    whatever mixes all columns, such as a mean over time, is computed of the whole window.

    Printing it shows how many columns of each layer a call computes.

    Attributes
    ----------
    hop, window : int
        Columns that are new with each call, and of a window.
    axis : int
        Of time, in the input.
    frames_shape : tuple of int
        Of what a call takes.
    difference : float
        The largest difference from whole windows, over the largest number of an output, in a few hops over
        noise when the stream was made; 0.0 if all were the same bit for bit.
    macs, window_macs : int
        Multiply-adds of a call, and of the program for a whole window.
    nbytes : int
        Of the columns that are kept.
    layers : tuple
        The layers that are computed column by column: `op`, `name`, `columns` of a window, `new` ones, and
        those near the `ends` that are computed for each window.

    Notes
    -----
    A stream holds one window. Several threads may call it; calls take turns. `another` makes more streams of
    the same program, which may run at once.

    Examples
    --------
    >>> from importlib.resources import files
    >>> import numpy as np
    >>> import separable as sp
    >>> path = files("separable") / "demo" / "textures.onnx"  # a small network that comes with the package
    >>> program = sp.engine.load(str(path))
    >>> stream = program.stream(hop=2, axis=3)  # of squares of 20 x 20, two columns at a time
    >>> scores = stream.start(np.zeros((1, 1, 20, 20), np.float32))
    >>> scores = stream(np.ones((1, 1, 20, 2), np.float32))
    >>> stream.frames_shape, stream.window, stream.macs < stream.window_macs
    ((1, 1, 20, 2), 20, True)
    >>> print(stream)
    textures: 2 new columns with each call, of a window of 20 along axis 3; squares is 1 x 1 x 20 x 20
    ...
    """

    def __str__(self) -> str:
        return stream_table(self)

    def __repr__(self) -> str:
        what = f"{self.hop} of {self.window} columns along axis {self.axis}"
        return f"<Stream {self.network.name or 'network'}: {what}>"


class Program(CompiledNetwork):
    """A network as a native program: call it with its input, or with a dict of its inputs. `load` makes it.

    Printing it shows a step a line: what was fused into it, shapes, multiply-adds, bytes, and times.

    Examples
    --------
    >>> from importlib.resources import files
    >>> import numpy as np
    >>> import separable as sp
    >>> path = files("separable") / "demo" / "textures.onnx"  # a small network that comes with the package
    >>> program = sp.engine.load(str(path))
    >>> program.inputs.keys(), program.outputs
    (dict_keys(['squares']), ('scores',))
    >>> program(np.zeros((4, 1, 20, 20), np.float32)).shape
    (4, 3)
    >>> print(program)
    textures
      input squares: float32 4 x 1 x 20 x 20
      output scores: float32 4 x 3
    ...
    """

    def __str__(self) -> str:
        return program_table(self)

    def __repr__(self) -> str:
        ends = f"{', '.join(self.inputs)} -> {', '.join(self.outputs)}"
        return f"<Program {self.name or 'network'}: {ends}>"

    def profile(self, x: Any = None, repeat: int = 20) -> Profile:
        """Run the network some times and say where the time goes.

        Parameters
        ----------
        x : array_like, or mapping of str to array_like, optional
            As for a call; random numbers by default.
        repeat : int, optional

        Returns
        -------
        Profile
            A step a line: the least of its times, its share, speed, and share of the peak. From now on the
            program prints these times too.

        Notes
        -----
        With several threads a step's time includes the wait for the last of them.
        """
        return Profile(**vars(self.measured(x, repeat)))

    def stream(self, hop: int, *, axis: int | None = None, window: int | None = None) -> Stream:
        """Return what runs the network on a window that slides over a signal, computing only what is new.

        Parameters
        ----------
        hop : int
            Columns (samples, frames) that are new with each call. Layers whose stride along time does not
            divide it are computed whole.
        axis : int, optional
            Of time, in the input. Default: the last one, if there is one spatial axis.
        window : int, optional
            Columns of a window, where the network takes any number.

        Returns
        -------
        Stream
            Call `start` with the first window, then the stream with `hop` new columns at a time.

        Raises
        ------
        ValueError
            If the hop divides no layer's stride or leaves nothing of the window, if the first layer mixes all
            columns already, or if the network is in fewer bits, has several inputs, or runs in parts.

        Examples
        --------
        >>> from importlib.resources import files
        >>> import numpy as np
        >>> import separable as sp
        >>> path = files("separable") / "demo" / "textures.onnx"  # it comes with the package
        >>> program = sp.engine.load(str(path))
        >>> picture = np.random.default_rng(0).random((1, 1, 20, 24), np.float32)
        >>> stream = program.stream(hop=2, axis=3)
        >>> scores = stream.start(picture[..., :20])
        >>> for end in (22, 24):
        ...     scores = stream(picture[..., end - 2 : end])
        >>> bool(np.allclose(scores, program(picture[..., -20:]), atol=1e-5))
        True
        """
        return Stream(HopPlan(self, hop, axis, window))

    def to_html(self, path: str | os.PathLike[str], shapes: Any = None) -> None:
        """Write one HTML page that opens offline: steps, times, memory, and what each pass made of the graph.

        It needs ``pip install 'separable[report]'``.

        Parameters
        ----------
        path : path-like
            The file appears there when it is complete.
        shapes : mapping of str to tuple of int, or tuple of int, optional
            Of the inputs; by default those used last, or those of when it was loaded.

        Raises
        ------
        FileError
            If it cannot be written.
        MissingExtraError
            If Altair, vl-convert or Jinja2 is not installed.
        """
        with extra("report"):
            from .pages.page import write
            from .pages.program import page

        write(page(self, shapes), path)
