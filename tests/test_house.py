"""Rules of the house that hold between modules: rooms, circles, tables of names, and what is asked where."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reference

import separable as sp
from separable.arrays import arguments, boundaries, output
from separable.methods import METHODS, NAMES
from separable.methods.method import Runnable

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "separable"
NOUNS = {"kernel.rounding"}
MOST_MODULES = 12  # in a folder

# What may reach the compiled core.
DOORS = (
    *(
        "_base.progress",
        "calibrate",
        "conv.audits.machine",
        "conv.layers.fused",
        "cost.model",
        "engine.program",
        "filters.core",
    ),
    *("filters.core", "filters.words", "filters.plan", "kernel.passes", "methods."),
)

# One word, two things that never meet: public classes of both frameworks, of filters and of networks.
SHARED_NAMES = {"Audit", "FrontierPoint", "Separation", "Layer", "Separability", "Program"}

# Where modules are tested that no test imports: they are reached by public names, or by the command line.
TESTED_BY = {
    "test_facade.py": "_base.lazy",
    "test_engine_quantised.py": "engine.graph.reference_quantised "
    "engine.program.levels engine.program.steps.integer_products engine.program.steps.quantised",
    "test_engine_real.py": "engine.program.steps.logic engine.program.steps.recurrent",
    "test_argument_types.py": "_base.numbers _base.types factor.arguments families._parameters",
    "test_hints.py": "_base.words.messages arrays.decorators",
    "test_cli_usage.py": "__main__ _base.words.printable cli.app cli.options cli.usage",
    "test_rounding.py": "arrays.exact",
    "test_masking.py": "filters.normalised",
    "test_hardly_known.py": "filters.hardly_known",
    "test_levels.py": "filters.levels",
    "test_filters.py": "filters.core filters.verbs methods.direct methods.terms",
    "test_banks.py": "filters.bank",
    "test_planning.py": "filters.adjoint filters.words.explanation",
    "test_plan.py": "filters.words.plan",
    "test_running.py": "methods.algorithms.recursions",
    "test_stream.py": "stream.pipeline stream.places.arrays stream.places.npy",
    "test_stream_images.py": "stream.places.niftis stream.places.pipe stream.places.tiffs",
    "test_stream_zarr.py": "stream.places.hdf5 stream.places.zarrs",
    "test_stream_chunks.py": "stream.chunks.shard stream.chunks.writer",
    "test_cli_slabs.py": "cli.verbs.filter_slabs stream.places.ngff",
    "test_dask.py": "dask.graph dask.verbs",
    "test_xarray.py": "xarray.accessor",
    "test_napari_widget.py": "napari.events napari.fields",
    "test_cli_pyramid.py": "cli.verbs.pyramid",
    "test_cascade.py": "methods.algorithms.sequence",
    "test_scale.py": "kernel.rounding kernel.scale",
    "test_kernel.py": "kernel.picture",
    "test_cli.py": "cli.kernel_options cli.verbs.filter files.filters",
    "test_cli_several.py": "cli.inputs cli.kernel_argument files.formats.terms",
    "test_cli_factor.py": "cli.verbs.factor",
    "test_cli_calibrate.py": "cli.verbs.calibrate",
    "test_cli_engine.py": "cli.verbs.bench cli.verbs.run",
    "test_cli_models.py": "cli.networks.metric_option cli.networks.pictures cli.verbs.audit "
    "cli.verbs.separate",
    "test_cli_unknown.py": "files.unknown",
    "test_files.py": "files.formats.nifti files.formats.npy files.formats.pillow files.formats.table "
    "files.formats.tiff",
    "test_files_kept.py": "files.formats.tiff_metadata files.names",
    "test_factor.py": "factor.algorithms.single",
    "test_factor_search.py": "factor.search",
    "test_complex_weights.py": "factor.algorithms.complex_parts",
    "test_families.py": "families._edges families._shapes families._smoothers families._waves",
    "test_families_optics.py": "families._optics",
    "test_families_oriented.py": "families._steerable",
    "test_derivatives.py": "families._moments",
    "test_ndimage.py": "ndimage._arguments ndimage._derivatives ndimage._gaussian ndimage._kernels "
    "ndimage._run",
    "test_ndimage_scipy.py": "ndimage._installed ndimage._smoothers ndimage._wide",
    "test_demo.py": "demo.bundled",
    "test_conv_decomposition.py": "conv.algebra.decomposition",
    "test_conv_forms.py": "conv.algebra.terms conv.algebra.witness conv.forms.dense conv.forms.depthwise "
    "conv.forms.spatial",
    "test_conv_fused.py": "conv.layers.fused",
    "test_conv_allocate.py": "conv.algebra.allocate",
    "test_conv_convert.py": "conv.conversion.convert",
    "test_nn_passes.py": "nn.conversion.passes",
    "test_conv_fit.py": "conv.conversion.rectified conv.conversion.regularise",
    "test_nn_audit.py": "nn.audits.count nn.model.layer_counts nn.model.rules nn.model.watch",
    "test_nn_separate.py": "nn.audits.separability nn.model.run nn.model.untouched",
    "test_nn_distill.py": "nn.conversion.checkpoint",
    "test_nn_layers.py": "nn.layers.between nn.layers.pair nn.layers.separable nn.layers.spatial",
    "test_learn.py": "cli.verbs.learn learn.exercises.break_even learn.exercises.freedom "
    "learn.exercises.kernel_factors learn.exercises.khatri_rao learn.exercises.layer_cost "
    "learn.exercises.tasks",
    "test_onnx_audit.py": "onnx.audits.count onnx.costs.bodies",
    "test_onnx_separate.py": "onnx.conversion.outcomes onnx.conversion.replay",
    "test_onnx_hostile.py": "onnx.model.sizes",
    "test_engine_program.py": "engine.loader engine.program.builder engine.program.memory "
    "engine.program.operations report.pages.program report.text.programs",
    "test_engine_bench.py": "engine.peers.measures",
    "test_engine_random.py": "engine.program.steps.arrangement engine.program.chains "
    "engine.program.steps.elements engine.program.steps.windows",
    "test_report_pages.py": "report.pages.audit report.pages.bench report.pages.bench_charts "
    "report.pages.conversion "
    "report.pages.frontier report.text.audits report.text.columns report.text.frontiers",
    "test_cli_frontier.py": "cli.networks.targets cli.verbs.frontier",
}


def modules() -> Iterator[tuple[str, Path]]:
    """Yield every module's name beneath the package, and its file."""
    for file in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        yield name.removesuffix(".__init__"), file


ALL = dict(modules())


def imports(name: str, file: Path) -> set[str]:
    """Return the modules of the package that a file imports, also where it does so late."""
    package = file.relative_to(PACKAGE).parent.parts
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        stem = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
        for alias in node.names:
            full = ".".join([*stem, alias.name])
            found.add(full if full in ALL else ".".join(stem))
    return {each for each in found if each in ALL and each != name}


def test_a_folder_holds_few_modules() -> None:
    count = Counter(file.parent for _, file in modules() if file.name != "__init__.py")
    crowded = {str(folder.relative_to(ROOT)): n for folder, n in count.items() if n > MOST_MODULES}
    assert not crowded


def test_modules_are_named_for_what_they_hold() -> None:
    assert not [name for name in ALL if re.search("ing$", name) and name not in NOUNS]


def variables(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the variables and arguments that a file binds, and the line of each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno


def test_variables_are_named_for_what_they_hold() -> None:
    wrong = []
    for name, file in ALL.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        wrong += [f"{name}:{line}" for variable, line in variables(tree) if variable == "each"]
    assert not wrong


def test_no_file_imports_what_imports_it() -> None:
    graph = {name: imports(name, file) for name, file in ALL.items() if name != "__init__"}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_few_modules_reach_the_core() -> None:
    wrong = []
    for name, file in ALL.items():
        text = file.read_text(encoding="utf-8")
        if re.search(r"^\s*from \.+_core import|^\s*from \.+ import _core", text, re.M):
            wrong += [] if name.startswith(DOORS) else [name]
    assert not wrong


def subclasses(kind: type) -> set[str]:
    return {kind.__name__}.union(*(subclasses(each) for each in kind.__subclasses__()))


def test_only_methods_take_their_forms_apart() -> None:
    forms = subclasses(Runnable)
    wrong = []
    for name, file in ALL.items():
        if name.startswith("methods") or name == "filters.pickles":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                asked = set(re.findall(r"\w+", ast.unparse(node.args[1])))
                wrong += [f"{name}:{node.lineno}"] if asked & forms else []
    assert not wrong


def test_names_of_methods_come_from_one_table() -> None:
    assert list(METHODS) == [method.name for method in METHODS.values()]
    assert {*typing.get_args(typing.get_args(arguments.Method)[0]), None} == {*NAMES, None}
    listed = re.search(r"method : \{(.*?)\}", sp.Plan.__doc__ or "")
    assert listed
    assert re.findall(r'"(\w+)"', listed[1]) == list(METHODS)
    text = " ".join((sp.Plan.__doc__ or "").split())
    assert [method.about for method in METHODS.values() if method.about not in text] == []
    planning = (ROOT / "docs" / "filters" / "planning.md").read_text(encoding="utf-8")
    assert [name for name in METHODS if f'`"{name}"`' not in planning] == []
    assert [name for name in NAMES if f'"{name}"' not in (sp.correlate.__doc__ or "")] == []


def test_names_of_modes_and_of_storing_come_from_one_table() -> None:
    assert typing.get_args(boundaries.ModeName) == tuple(boundaries.MODES)
    assert reference.MODES == boundaries.CANONICAL
    page = (ROOT / "docs" / "filters" / "boundaries.md").read_text(encoding="utf-8")
    assert [name for name in boundaries.MODES if f"`{name}`" not in page] == []
    helped = (PACKAGE / "cli" / "options.py").read_text(encoding="utf-8")
    assert [name for name in boundaries.CANONICAL if not re.search(rf"\b{name}\b", helped)] == []
    assert typing.get_args(output.Rounding) == output.ROUNDINGS
    assert typing.get_args(output.Overflow) == output.OVERFLOWS
    assert [name for name in boundaries.MODES if f'"{name}"' not in (sp.correlate.__doc__ or "")] == []


def test_a_class_name_means_one_thing() -> None:
    homes = defaultdict(list)
    for name, file in ALL.items():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(name)
    assert not {kind: where for kind, where in homes.items() if len(where) > 1 and kind not in SHARED_NAMES}


def test_every_module_is_tested_somewhere() -> None:
    tested: set[str] = set()
    for file in (ROOT / "tests").glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("separable"):
                stem = (node.module or "").removeprefix("separable").removeprefix(".")
                tested |= {stem, *(f"{stem}.{alias.name}".removeprefix(".") for alias in node.names)}
    told = [name for names in TESTED_BY.values() for name in names.split()]
    assert not [test for test in TESTED_BY if not (ROOT / "tests" / test).exists()]
    assert not [name for name in told if name not in ALL or name in tested], (
        "gone, or imported: no line is needed"
    )
    assert len(set(told)) == len(told)
    wanted = {name for name, file in ALL.items() if file.name != "__init__.py"} - tested - set(told)
    assert not sorted(wanted)


VERBS = (sp.correlate, sp.convolve, sp.gaussian, sp.uniform)


@pytest.mark.parametrize("verb", VERBS[1:])
def test_verbs_share_the_tail_of_their_keywords(verb: Any) -> None:
    first, other = (inspect.signature(each).parameters for each in (VERBS[0], verb))
    shared = [name for name in first if name in other]
    assert [name for name in other if name in shared] == shared
    for name in shared:
        assert (first[name].default, first[name].kind) == (other[name].default, other[name].kind), name
    tail = ["rounding", "overflow", "mask", "nan", "channel_axis"]
    assert [name for name in other if name in tail] == tail
