"""A torch model as a program of the engine: exported in memory, checked, and called with tensors."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Literal, NoReturn

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils import _pytree as trees

from ..._base.extras import extra
from ..._base.types import Array
from ...arrays import arguments
from ...conv.audits.differences import largest_difference
from ..model.run import call_of, check_model, description
from ..model.untouched import untouched

with extra("compile"):
    import onnxscript  # noqa: F401 (torch's exporter needs it)
    from onnx.onnx_ml_pb2 import ModelProto

    from ...engine.loader import Profile, Program, UnsupportedOperationsError, load

__all__ = ["CompiledModel", "compile", "exported"]

_SEED: Final = 0


def compile(
    model: nn.Module,
    example: Any,
    *,
    threads: int | None = None,
    tol: float = 1e-4,
    fallback: Literal["onnxruntime"] | None = None,
) -> CompiledModel:
    """Return a model as a native program, which runs in float32 on the CPU, for inference.

    The model is exported to ONNX in memory, in inference mode, and read by the engine; what comes of it is
    compared with what torch gives on the example. The model itself is left as it is. It needs
    ``pip install 'separable[compile]'``.

    Parameters
    ----------
    model : Module
        In float32 on the CPU; in training mode or not.
    example : Tensor, tuple, mapping, or shape
        What the model is called with: one tensor, a tuple of arguments, a mapping of keyword arguments, or
        the shape of one tensor of random numbers. All of its values are tensors. The first axis, the batch,
        may have another length in later calls, if the model allows that; other lengths stay as they are.
    threads : int, optional
        Default: SEPARABLE_NUM_THREADS if set, else all cores that the process may use.
    tol : float, optional
        Largest difference from torch that is allowed, relative to the largest number of each output.
    fallback : {"onnxruntime"}, optional
        What runs the operations that the engine does not, as for `separable.engine.load`.

    Returns
    -------
    CompiledModel
        Call it as the model is called.

    Raises
    ------
    TypeError, ValueError
        If `model` or `example` is not what is expected; if the model cannot be exported; if the results are
        further from torch's than `tol`.
    UnsupportedOperationsError
        If it holds operations that the engine does not run.

    Examples
    --------
    >>> import torch
    >>> import separable as sp
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()
    >>> fast = sp.nn.compile(net, (1, 3, 32, 32))
    >>> fast(torch.rand(4, 3, 32, 32)).shape
    torch.Size([4, 8, 30, 30])
    """
    _check(model, tol)
    count = arguments.thread_count(threads)
    given, options = _call(model, example)
    leaves, spec = trees.tree_flatten((given, options))
    _check_leaves(leaves)
    with untouched(model, _buffer_copy), torch.no_grad():
        copies = trees.tree_unflatten(
            [leaf.detach().clone() for leaf in leaves], spec
        )  # it may write to them
        wanted, result_spec = trees.tree_flatten(_run(model, *copies))
        if not all(isinstance(tensor, Tensor) for tensor in wanted):
            raise TypeError(
                "`model` gives something that is no tensor; compile the part of it that gives tensors."
            )
        refused: list[str] = []
        for export in _exports(model, spec, [leaf.detach().clone() for leaf in leaves]):
            try:
                program = load(export(), threads=count, fallback=fallback)
                compiled = CompiledModel(program, spec, result_spec, type(model).__name__)
                difference = largest_difference(compiled._run(leaves), list(map(_values, wanted)))
            except UnsupportedOperationsError as error:
                raise error.of(f"`model` ({type(model).__name__})") from None
            except (_ExportError, ValueError) as error:
                said = str(error).removeprefix("`path_or_model`: ")
                refused.append(
                    f"cannot be exported to ONNX on {description((given, options))}, and read: {said}"
                )
                continue
            compiled.difference = difference
            if difference <= tol:
                return compiled
            refused.append(
                f"gives other results in the engine: off by {difference:.2g} of the largest output, and "
                f"`tol={tol:g}`. Raise tol if that is near enough; else please report it."
            )
    raise ValueError(f"`model` ({type(model).__name__}) {refused[-1]}")


class CompiledModel:
    """A torch model that the engine runs; `compile` makes it.

    Call it with what the model takes: tensors, or arrays. It gives tensors, in the structure in which the
    model does. It has no derivatives, and it keeps the weights that the model had. It is not pickled: pickle
    the model, and compile it where it is read.

    Attributes
    ----------
    program : Program
        Print it, profile it.
    difference : float
        The largest difference from torch on the example, relative to the largest number of each output.

    Examples
    --------
    >>> import torch
    >>> import separable as sp
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()
    >>> fast = sp.nn.compile(net, (1, 3, 16, 16))
    >>> x = torch.randn(2, 3, 16, 16)
    >>> bool(torch.allclose(fast(x), net(x), atol=1e-5)), fast.difference < 1e-5
    (True, True)
    >>> list(fast.program.inputs)
    ['input']
    """

    def __init__(self, program: Program, spec: Any, result_spec: Any, name: str) -> None:
        self.program = program
        self.difference = math.inf  # until it is known
        self._spec, self._result_spec, self._name = spec, result_spec, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model.

        Parameters
        ----------
        *args, **kwargs : Tensor or array_like
            As the model was called with in the example.

        Returns
        -------
        Tensor, or what the model's own results are

        Raises
        ------
        TypeError, ValueError
            If the arguments are not those of the example, or of other lengths than the batch; if derivatives
            are wanted.
        """
        leaves, spec = trees.tree_flatten((args, kwargs))
        if spec != self._spec:
            raise TypeError(
                f"`{self._name}` was compiled for other arguments: expected {_structure(self._spec)}, got "
                f"{_structure(spec)}. Call it as in the example."
            )
        results = [torch.from_numpy(array) for array in self._run(leaves)]
        return trees.tree_unflatten(results, self._result_spec)

    def _run(self, leaves: list[Any]) -> list[Array]:
        names = list(self.program.inputs)
        given = {name: _array(name, leaf) for name, leaf in zip(names, leaves, strict=True)}
        results = self.program(given)
        if not isinstance(results, dict):
            return [results]
        return [results[name] for name in self.program.outputs]

    def profile(self, x: Any = None, repeat: int = 20) -> Profile:
        """Run it some times and say where the time goes, as `Program.profile` does."""
        return self.program.profile(x, repeat)

    def __repr__(self) -> str:
        return f"<CompiledModel {self._name}: off torch by {self.difference:.1e} of the largest output>"

    def __str__(self) -> str:
        return str(self.program)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a CompiledModel is neither pickled nor copied: it is packed for this machine. Pickle the model, "
            "and compile it where it is read."
        )


# -- in ----------------------------------------------------------------------------------------------


def _check(model: nn.Module, tol: float) -> None:
    check_model(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError("`model` is a ScriptModule, which is not exported; pass the module it was made of.")
    if isinstance(tol, (bool, str)) or not float(tol) >= 0:
        raise ValueError(f"`tol={tol!r}` is no relative difference; expected a number such as 1e-4.")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.device.type != "cpu":
            raise ValueError(
                f"`model` holds `{name}` on the device {tensor.device}; pass a copy on the CPU, "
                "copy.deepcopy(model).cpu()."
            )
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise ValueError(
                f"`model` holds `{name}` in {_name(tensor)}, and the engine computes in float32; pass "
                "copy.deepcopy(model).float()."
            )


def _call(model: nn.Module, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of an example; of a shape, random numbers: zeros would hide what is wrong."""
    given, options = call_of(model, example)
    if isinstance(example, (tuple, list)) and all(type(length) is int for length in example) and example:
        generator = torch.Generator().manual_seed(_SEED)
        given = (torch.randn(tuple(example), generator=generator),)
    return given, options


def _check_leaves(leaves: list[Any]) -> None:
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise TypeError(
                f"`example` holds {leaf!r}, which is no tensor; set it inside of a Module whose forward "
                "takes tensors alone."
            )
        if leaf.device.type != "cpu":
            raise ValueError(f"`example` holds a tensor on the device {leaf.device}; pass it as x.cpu().")
    if not leaves:
        raise ValueError("`example` holds no tensor; pass what the model is called with.")


def _array(name: str, leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    if leaf.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            f"input `{name}` wants derivatives, and a compiled model has none; call it under torch.no_grad()."
        )
    if leaf.device.type != "cpu":
        raise ValueError(f"input `{name}` is on the device {leaf.device}; pass x.cpu().")
    if leaf.dtype == torch.bfloat16:
        raise TypeError(f"input `{name}` is of bfloat16; pass x.float().")
    return leaf.detach().numpy()


def _values(tensor: Tensor) -> Array:
    values: Array = tensor.detach().cpu().numpy()
    return values


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _structure(spec: Any) -> str:
    """Return the arguments of a call without their values: (*, *), key=*."""
    given, options = trees.tree_unflatten(["*"] * spec.num_leaves, spec)
    return ", ".join(
        [*(str(star).replace("'", "") for star in given), *(f"{key}={star}" for key, star in options.items())]
    )


def _buffer_copy(tensor: Tensor) -> Tensor:
    """Return what a forward may write to; parameters it only reads."""
    return tensor if isinstance(tensor, nn.Parameter) else tensor.detach().clone()


def _run(model: nn.Module, given: tuple[Any, ...], options: dict[str, Any]) -> Any:
    try:
        return model(*given, **options)
    except Exception as error:
        raise ValueError(
            f"`model` ({type(model).__name__}) does not run on `example` ({description((given, options))}): "
            f"{type(error).__name__}: {error}"
        ) from error


# -- export ------------------------------------------------------------------------------------------


class _Flat(nn.Module):
    """A model whose arguments and results are rows of tensors, in the order of the trees that they make."""

    def __init__(self, model: nn.Module, spec: Any) -> None:
        super().__init__()
        self.model, self.spec = model, spec
        self.training = False

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given, options = trees.tree_unflatten(list(tensors), self.spec)
        return tuple(trees.tree_leaves(self.model(*given, **options)))


class _ExportError(Exception):
    """Torch's exporter did not take the model as it was offered."""


def exported(model: nn.Module, example: Any) -> tuple[ModelProto, dict[str, Array]]:
    """Return a model as one of ONNX, and what it is given by name.

    Parameters
    ----------
    model : Module
    example : tuple of (arguments, keyword arguments)

    Returns
    -------
    model : ModelProto
    feeds : dict of str to ndarray

    Raises
    ------
    ValueError
        If it cannot be exported.
    """
    leaves, spec = trees.tree_flatten(example)
    try:
        with torch.no_grad():
            proto = _export(_Flat(model, spec), leaves, _names(model, spec), is_open=False)
    except _ExportError as error:
        raise ValueError(f"`model` ({type(model).__name__}) cannot be exported to ONNX: {error}") from error
    names = [entry.name for entry in proto.graph.input]
    return proto, {name: _array(name, leaf) for name, leaf in zip(names, leaves, strict=True)}


def _exports(model: nn.Module, spec: Any, leaves: list[Tensor]) -> list[Callable[[], ModelProto]]:
    """Return ways to export a model, the best first: for any batch, at last for the example's lengths alone.

    A batch of one would be taken for a constant, as it is where one image stands for all others: the model is
    exported with two then.
    """
    flat, names = _Flat(model, spec), _names(model, spec)
    found = [partial(_export, flat, leaves, names, is_open=is_open) for is_open in (True, False)]
    if {len(leaf) for leaf in leaves if leaf.dim()} == {1}:
        twice = [torch.cat([leaf, leaf]) if leaf.dim() else leaf for leaf in leaves]
        found[0] = partial(_export, flat, twice, names, is_open=True)
    return list(found)


def _export(flat: _Flat, tensors: list[Tensor], names: list[str], *, is_open: bool) -> ModelProto:
    shapes = tuple({0: Dim.AUTO} if tensor.dim() else None for tensor in tensors)
    with _quietly():
        try:
            exported = torch.onnx.export(
                flat,
                tuple(tensors),
                dynamo=True,
                input_names=names,
                dynamic_shapes=(shapes,) if is_open else None,
                verbose=False,
            )
        except Exception as error:  # of many kinds
            raise _ExportError(_in_short(error)) from error
    assert exported is not None  # nothing is written to a file
    proto: ModelProto = exported.model_proto
    _name_batch(proto)
    return proto


def _names(model: nn.Module, spec: Any) -> list[str]:
    """Return the tensors' names: those of the parameters of forward, with the place of what lies within."""
    parameters = list(inspect.signature(model.forward).parameters)
    paths, _ = trees.tree_flatten_with_path(trees.tree_unflatten(["*"] * spec.num_leaves, spec))
    names: list[str] = []
    for path, _ in paths:
        side, first, *rest = map(str, path)  # "[0]", "[1]", or "[1]", "['key']"
        place = first.strip("[]'")
        if side == "[0]":
            place = parameters[int(place)] if int(place) < len(parameters) else f"x{place}"
        name = re.sub(r"\W+", "_", "_".join([place, *rest])).strip("_")
        name = re.sub("_+", "_", name)
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def _name_batch(model: ModelProto) -> None:
    """Call the open first axis "batch"; torch calls it by a number."""
    graph = model.graph
    firsts = [info.type.tensor_type.shape.dim[:1] for info in graph.input]
    symbols = dict.fromkeys(dim.dim_param for dims in firsts for dim in dims if dim.dim_param)
    if len(symbols) != 1:
        return
    symbol = next(iter(symbols))
    for info in (*graph.input, *graph.output, *graph.value_info):
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", "batch", dim.dim_param)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep torch's exporter from telling its own news: what matters is raised."""
    logger = logging.getLogger("torch")
    before = {log: log.level for log in (logger, *_children(logger))}
    for log in before:
        log.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in before.items():
            log.setLevel(level)


def _children(logger: logging.Logger) -> list[logging.Logger]:
    named = logging.Logger.manager.loggerDict.items()
    below = f"{logger.name}."
    return [log for name, log in named if name.startswith(below) and isinstance(log, logging.Logger)]


def _in_short(error: BaseException) -> str:
    """Return what was wrong at first, in a line: torch's exporter tells of its own steps above that."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
