"""Programs of the engine as people read them: printed, profiled, and written as a page."""

from __future__ import annotations

import os
from typing import Any

from .._base.extras import extra
from ..engine.network.compiled import CompiledNetwork
from ..engine.network.records import ProfileRecord
from .text.programs import profile_table, program_table

__all__ = ["Profile", "Program"]


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
