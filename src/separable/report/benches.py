"""Models in several runtimes as people read them: printed, shown in a notebook, and written as a page."""

from __future__ import annotations

from ..engine.times.records import BenchRecord
from .paged import Paged
from .text.benches import notebook, table

__all__ = ["Bench"]


class Bench(BenchRecord, Paged):
    """Models in several runtimes on one machine. Print it, or write it with `to_html` or `to_json`.

    Attributes
    ----------
    models : tuple of ModelTimes
        One for each model and number of threads: its `model`, `inputs`, `threads`, `macs`, the `peak_gflops`
        and `copy_gbs` of the same minutes, `left_out` with the runtimes that refused it, and `times`. Of each
        runtime these hold `runtime`, `version`, all calls in `milliseconds`, `least_ms`, `median_ms`,
        `quantile_ms(share)`, `load_ms`, `memory_bytes` (and `before_bytes`, before the model was read), the
        `error` and `notes`. None is what was not measured.
    machine : BenchMachine
        Its `processor`, `cores`, `target` and `versions`.
    rounds, batch : int
    rest_ms : float
        Before the calls of each round.
    reference : str
        What errors are from.
    missing : tuple of str
        Runtimes that are not installed.
    failed : tuple of FailedModel
        Models that nothing was measured of: `model` and `reason`.
    notes : tuple of str

    Examples
    --------
    >>> from importlib.resources import files
    >>> import separable as sp
    >>> path = files("separable") / "demo" / "textures.onnx"  # a small network that comes with the package
    >>> done = sp.engine.bench(str(path), rounds=2, runtimes=["engine"], times_only=True)
    >>> done.models[0].threads, done.models[0].macs, len(done.models[0].times)
    (1, 4896192, 1)
    >>> "p90" in str(done)
    True
    """

    def __str__(self) -> str:
        return table(self)

    def __repr__(self) -> str:
        names = ", ".join(dict.fromkeys(times.model for times in self.models)) or "no model"
        return f"<Bench of {names}>"

    def _repr_html_(self) -> str:
        return notebook(self)

    def _page(self) -> str:
        from .pages.bench import page

        return page(self)
