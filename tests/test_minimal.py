"""What runs with NumPy alone: importing brings not even that, and filtering needs nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

from separable._base.moved import MOVED

# Stands in front of every snippet: refuses to import what a bare `pip install separable` does not bring.
ONLY_NUMPY = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=top)

allowed = {"numpy", "separable"} | sys.stdlib_module_names
"""
REFUSING = ONLY_NUMPY + "sys.meta_path.insert(0, Refuse())\n"


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def output(code: str) -> str:
    done = run(code)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_brings_only_the_standard_library() -> None:
    code = """
    import json, sys
    before = set(sys.modules)
    import separable
    print(json.dumps(sorted(set(sys.modules) - before)))
    """
    brought = json.loads(output(code))
    assert "separable" in brought
    # Not even NumPy, nor anything of the package but the list of its names, until it is asked for: that keeps
    # the import quick. Old names of modules are there for pickles, and stand for nothing until they are used.
    allowed = {"separable"} | sys.stdlib_module_names
    assert [name for name in brought if name.partition(".")[0] not in allowed] == []
    own = {name.removeprefix("separable.") for name in brought if name.startswith("separable.")}
    assert own - set(MOVED) == {"_base", "_base.lazy", "_base.moved"}


def test_verbs_bring_nothing_more() -> None:
    code = (
        REFUSING
        + """
import numpy as np
import separable as sp

assert all(getattr(sp, name) is not None for name in sp.__all__)
kernel = sp.factor(np.outer([1.0, 2.0, 1.0], [1.0, 0.0, -1.0]))
assert kernel.rank == 1 and kernel.error.relative_l1 <= 1e-6
assert sp.is_separable(np.ones((3, 3, 3)))
x = np.arange(20.0, dtype=np.float32).reshape(4, 5)
dense = sp.correlate(x, kernel.dense(), mode="nearest")
assert np.allclose(dense, sp.correlate(x, kernel, mode="nearest"))
assert np.allclose(dense, sp.plan(kernel, x.shape, mode="nearest")(x))
assert np.allclose(sp.gaussian(np.ones((6, 7)), 1.0), 1.0)
assert sp.families.gaussian(1.5, ndim=2).rank == 1
print(sp.core_info()["target"])
"""
    )
    assert output(code).strip()


def test_every_instruction_set_of_this_machine_filters() -> None:
    code = (
        REFUSING
        + """
import numpy as np
import separable as sp
from separable import _core

x = np.random.default_rng(0).standard_normal((37, 53))
taps = np.array([0.25, 0.5, 0.25])
want = sum(taps[k] * np.pad(x, ((1, 1), (0, 0)), mode="edge")[k : k + 37] for k in range(3))
for target in sp.core_info()["targets"]:
    _core.force(target)
    got = sp.correlate(x, taps, axes=0, mode="nearest")
    assert np.abs(got - want).max() < 1e-14, target
print("done")
"""
    )
    assert output(code) == "done\n"


def test_a_missing_extra_says_what_to_install() -> None:
    code = REFUSING + "import separable.cli\nseparable.cli.main(['demo'])\n"
    done = run(code)
    assert done.returncode != 0
    assert "pip install 'separable[cli]'" in done.stderr


def test_dask_xarray_and_napari_are_asked_for_where_they_are_used() -> None:
    code = """
import numpy as np
import separable as sp

uses = {
    "dask": lambda: sp.dask.gaussian(np.ones(3), 1),
    "xarray": lambda: __import__("separable.xarray"),
    "napari": lambda: __import__("separable.napari.widget"),
}
for extra, use in uses.items():
    try:
        use()
    except ImportError as error:
        assert f"pip install 'separable[{extra}]'" in str(error), error
    else:
        raise AssertionError(extra)
print("done")
"""
    assert output(REFUSING + code) == "done\n"
