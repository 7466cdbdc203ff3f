"""The options of the verbs: how each is written and what its help says."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer


class Unit(str, Enum):
    """What a standard deviation is measured in."""

    px = "px"
    m = "m"
    cm = "cm"
    mm = "mm"
    um = "um"
    nm = "nm"


class Resume(str, Enum):
    """Whether a run goes on where an earlier one stopped."""

    auto = "auto"
    never = "never"


class Reduced(str, Enum):
    """What a sample of a smaller level is."""

    mean = "mean"
    sample = "sample"


class NaN(str, Enum):
    """What NaN in a file means."""

    propagate = "propagate"
    omit = "omit"


def _option(metavar: str | None, text: str, panel: str | None = None) -> Any:
    return typer.Option(metavar=metavar, help=text, rich_help_panel=panel)


_KERNEL, _TUNING, _PLACE = "Kernel (one of)", "Kernel, in detail", "Where and how"
_UNKNOWN, _RESULT = "What is unknown", "What comes out"
_LARGE = "Volumes larger than memory"

# filter: which kernel
Gaussian: TypeAlias = Annotated[
    str | None, _option("S[,S..]", "Gaussian of standard deviation S: in samples, or such as 2um.", _KERNEL)
]
Fwhm: TypeAlias = Annotated[
    str | None, _option("W[,W..]", "Gaussian W wide at half its height: W = 2.355 S.", _KERNEL)
]
Box: TypeAlias = Annotated[str | None, _option("N[,N..]", "Mean over N samples.", _KERNEL)]
Sobel: TypeAlias = Annotated[int | None, _option("AXIS", "Edges: the derivative along an axis.", _KERNEL)]
Log: TypeAlias = Annotated[str | None, _option("S[,S..]", "Laplacian of Gaussian.", _KERNEL)]
Unsharp: TypeAlias = Annotated[str | None, _option("S[,S..]", "Sharpen what is finer than S.", _KERNEL)]
Kernel: TypeAlias = Annotated[
    str | None,
    _option("K", "Weights from a file, terms of separable factor -o, or such as 'disk(5)'.", _KERNEL),
]

# filter: what belongs to one kernel or another
SigmaUnit: TypeAlias = Annotated[
    Unit, _option(None, "Of S and W without a unit of their own; all but px go by the voxel size.", _TUNING)
]
Order: TypeAlias = Annotated[str, _option("D[,D..]", "Gaussians: derivative along each axis.", _TUNING)]
Truncate: TypeAlias = Annotated[float, _option("T", "Cut Gaussians at T standard deviations.", _TUNING)]
Amount: TypeAlias = Annotated[float, _option("A", "--unsharp: its strength.", _TUNING)]
Normalise: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--normalise",
        "--normalize",
        help="--kernel: divide it by its sum, so that a constant stays one.",
        rich_help_panel=_TUNING,
    ),
]
KernelRank: TypeAlias = Annotated[int | None, _option("R", "--kernel: the most terms allowed.", _TUNING)]
KernelTol: TypeAlias = Annotated[float | None, _option("T", "--kernel: relative l1 error allowed.", _TUNING)]

# filter: where it is applied
Axes: TypeAlias = Annotated[
    str | None, _option("A[,A..]", "Axes to filter. [dim]\\[default: space; not colour, not time][/]", _PLACE)
]
Mode: TypeAlias = Annotated[
    str, _option("M[,M..]", "Beyond the border: reflect, constant, nearest, mirror or wrap.", _PLACE)
]
Cval: TypeAlias = Annotated[float, _option("V", "The value beyond the border in mode constant.", _PLACE)]
Origin: TypeAlias = Annotated[str, _option("N[,N..]", "Shift of the kernel's centre.", _PLACE)]

# filter: what is unknown
Mask: TypeAlias = Annotated[
    Path | None, _option("FILE", "0 where a sample is unknown, in the shape of IN or of its space.", _UNKNOWN)
]
Nan: TypeAlias = Annotated[NaN, _option(None, "omit: what is NaN is unknown.", _UNKNOWN)]
NoData: TypeAlias = Annotated[
    str | None,
    _option("V|none", "Samples that are V are unknown. [dim]\\[default: as IN says][/]", _UNKNOWN),
]

# filter: slab by slab
Memory: TypeAlias = Annotated[
    str | None,
    _option("SIZE", "Filter in slabs, in this memory: 300MiB, 4GiB. [dim]\\[.zarr, .h5: 1GiB][/]", _LARGE),
]
Resumed: TypeAlias = Annotated[Resume, _option(None, "never: begin anew what a run left.", _LARGE)]
Distributed: TypeAlias = Annotated[
    str | None, _option("ADDRESS", "Filter slabs on the workers of this scheduler of Dask.", _LARGE)
]

# pyramid
_LEVELS = "Levels"


Levels: TypeAlias = Annotated[
    int | None,
    _option("N", "With the largest. [dim]\\[default: until the smallest fits into a chunk][/]", _LEVELS),
]
Reduction: TypeAlias = Annotated[
    Reduced,
    _option(None, "mean of the samples of the largest that it stands for, or the first of them.", _LEVELS),
]
Isotropic: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--isotropic",
        help="Do not halve axes with samples twice as far apart as the finest's.",
        rich_help_panel=_LEVELS,
    ),
]

# filter: what comes out
Filtered: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Where to, instead of OUT: a directory, made if it is missing. Of one file also a file.",
        rich_help_panel=_RESULT,
    ),
]
Dtype: TypeAlias = Annotated[
    str | None,
    _option("NAME", "Of the samples; integers round and saturate. [dim]\\[default: as IN][/]", _RESULT),
]
Threads: TypeAlias = Annotated[
    int | None, _option("N", "Threads at most. [dim]\\[default: all cores][/]", _PLACE)
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]

# factor
Tol: TypeAlias = Annotated[
    str | None,
    _option("T|noise", "Relative l1 error allowed; noise: the kernel's own. [dim]\\[default: 1e-6][/]"),
]
Rank: TypeAlias = Annotated[int | None, _option("R", "The most terms allowed.")]
Effort: TypeAlias = Annotated[
    float, _option("N", "Multiplications that the search may take: 1e10 are a few seconds.")
]
Plot: TypeAlias = Annotated[
    bool, typer.Option("--plot", help="Show spectrum and cost, and draw them: KERNEL-factors.png.")
]
FactorOut: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help=".npz: the terms; .png, .svg or .pdf: the picture. May be repeated.",
    ),
]

# calibrate
Rates: TypeAlias = Annotated[
    Path | None, typer.Option("--out", metavar="R.json", help="Where to, instead of the user's cache.")
]
EveryTarget: TypeAlias = Annotated[
    bool, typer.Option("--every", help="Measure every instruction set of this machine.")
]

# audit, separate: the model
_MODEL = "Model"
Model: TypeAlias = Annotated[
    Path, typer.Argument(metavar="MODEL.onnx", help="A trained model, operator set 7 or newer.")
]
Shapes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="[NAME=]N,..",
        help="What the model leaves open: height=48,width=320, or an input, x=1,3,48,320; may be repeated.",
        rich_help_panel=_MODEL,
    ),
]
Measure: TypeAlias = Annotated[
    bool, typer.Option("--measure", help="Time the model and each layer here.", rich_help_panel=_MODEL)
]
ModelThreads: TypeAlias = Annotated[
    int | None,
    _option("N", "Of ONNX Runtime. [dim]\\[default: its own choice][/]", _MODEL),
]
Html: TypeAlias = Annotated[
    Path | None, typer.Option("--html", metavar="R.html", help="Write a page that opens offline.")
]

# run, bench: the engine
_RUN, _PICTURES, _TIMES = "How it runs", "Pictures", "What is timed"


class Fallback(str, Enum):
    """What runs the operations that the engine does not."""

    onnxruntime = "onnxruntime"


class Precision(str, Enum):
    """What convolutions and products are computed in."""

    float32 = "float32"
    int8 = "int8"
    bf16 = "bf16"


NetworkInputs: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="IN...",
        help=".npy, or .npz by the names of inputs; NAME=FILE where there are several; or PNG and JPEG.",
    ),
]
NetworkOutput: TypeAlias = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="OUT", help=".npy, or .npz of several; default: a summary."),
]
EngineFallback: TypeAlias = Annotated[
    Fallback | None,
    typer.Option("--fallback", help="Runs operations that the engine does not.", rich_help_panel=_RUN),
]
EngineThreads: TypeAlias = Annotated[
    int | None, _option("N", "Threads at most. [dim]\\[default: all cores][/]", _RUN)
]
RunPrecision: TypeAlias = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help="Of convolutions: int8, 8-bit numbers; bf16, bfloat16 numbers.",
        rich_help_panel=_RUN,
    ),
]
RunCalibration: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--calibration",
        metavar="IN",
        help="For int8, bf16: inputs that the error, and ranges, come from; may be repeated.",
        rich_help_panel=_RUN,
    ),
]
Profile: TypeAlias = Annotated[
    bool, typer.Option("--profile", help="Time each step, and print a line for each.", rich_help_panel=_RUN)
]
PictureMean: TypeAlias = Annotated[
    str | None, _option("M[,M,M]", "Taken off each channel, which is 0 to 1.", _PICTURES)
]
PictureStd: TypeAlias = Annotated[str | None, _option("S[,S,S]", "Divided by then.", _PICTURES)]
TimedModels: TypeAlias = Annotated[
    list[Path], typer.Argument(metavar="MODEL.onnx...", help="Models, operator set 7 or newer.")
]
TimedBatch: TypeAlias = Annotated[
    int,
    typer.Option(
        "--batch",
        metavar="N",
        help="Inputs of a call, where the model takes any number.",
        rich_help_panel=_TIMES,
    ),
]
TimedThreads: TypeAlias = Annotated[
    str, _option("N[,N..]", "Of each runtime; several are timed in turn.", _TIMES)
]
TimedRuntimes: TypeAlias = Annotated[
    str | None,
    _option("NAME[,NAME..]", "engine, onnxruntime, openvino. [dim]\\[default: all installed][/]", _TIMES),
]
Rounds: TypeAlias = Annotated[
    int,
    typer.Option(
        "--rounds", metavar="N", help="In each, all runtimes are called in turn.", rich_help_panel=_TIMES
    ),
]
TimesOnly: TypeAlias = Annotated[
    bool,
    typer.Option("--times-only", help="Leave out load time and memory.", rich_help_panel=_TIMES),
]

# separate: the calibration data and the goal
_DATA, _GOAL, _SCORE = "Calibration", "Goal", "Score"


class BudgetUnit(str, Enum):
    """The cost that a budget limits."""

    time = "time"
    macs = "macs"
    params = "params"
    latency = "latency"


CalibrationData: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--calibration",
        metavar="DATA",
        help="Inputs as the model will see them: .npz, .npy, or a folder of .npy files or of pictures.",
        rich_help_panel=_DATA,
    ),
]
Mean: TypeAlias = Annotated[
    str | None, _option("M[,M,M]", "Pictures: taken off each channel, which is 0 to 1.", _DATA)
]
Std: TypeAlias = Annotated[str | None, _option("S[,S,S]", "Pictures: divided by then.", _DATA)]
Beside: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=FILE|N",
        help="An input: .npy or a number; those that nobody gives are zeros. May be repeated.",
        rich_help_panel="Beside the data",
    ),
]
MetricName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="Taken before and after: accuracy, cer, or MODULE:FUNCTION of outputs and labels.",
        rich_help_panel=_SCORE,
    ),
]
Labels: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help=".npy, or .txt with a line for each input; default: the original's own outputs.",
        rich_help_panel=_SCORE,
    ),
]
Validation: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--validation",
        metavar="DATA",
        help="Inputs, as --calibration, that serve for the metric alone; the labels are theirs then.",
        rich_help_panel=_SCORE,
    ),
]
BatchSize: TypeAlias = Annotated[
    int, typer.Option("--batch-size", metavar="N", help="Inputs run at a time.", rich_help_panel=_DATA)
]
Budget: TypeAlias = Annotated[float | None, _option("F", "What may be left of the cost.", _GOAL)]
Budgets: TypeAlias = Annotated[
    str | None,
    _option("F[,F..]", "What may be left of the cost. [dim]\\[default: six, from 0.75 on][/]", _GOAL),
]
By: TypeAlias = Annotated[
    BudgetUnit,
    typer.Option(
        "--by", help="The cost; time is measured here, latency in ONNX Runtime.", rich_help_panel=_GOAL
    ),
]
MaxLoss: TypeAlias = Annotated[
    float | None,
    _option("L", "Instead: change of the outputs, or drop of --metric. [dim]\\[default: 0.005][/]", _GOAL),
]
TimedRuntime: TypeAlias = Annotated[
    str | None,
    _option("R", "Where times are measured: engine, onnxruntime. [dim]\\[default: engine][/]", _GOAL),
]
Forms: TypeAlias = Annotated[
    str | None,
    _option("F[,F..]", "Of dw-pw, pw-dw, spatial, low-rank. [dim]\\[default: all][/]", _GOAL),
]
FixedRank: TypeAlias = Annotated[
    str | None,
    _option("N|full", "This rank everywhere, in the first of --forms; no budget.", _GOAL),
]
Skip: TypeAlias = Annotated[
    list[str] | None,
    _option("PATTERN", "Layers to leave alone, such as '/stem/*'; may be repeated.", _GOAL),
]
AllowSlower: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--allow-slower",
        help="Do not time the result here and put back what does not pay: it will run elsewhere.",
        rich_help_panel=_GOAL,
    ),
]
SavedModels: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--save",
        metavar="DIR",
        help="Write the models, MODEL-0.5.onnx and so on; the folder is made if it is missing.",
    ),
]
KeepSlower: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--allow-slower",
        help="Put nothing back that does not pay here: it will run elsewhere.",
        rich_help_panel=_GOAL,
    ),
]
Converted: TypeAlias = Annotated[
    Path, typer.Option("--out", "-o", metavar="OUT.onnx", help="Where to; appears once it is whole.")
]

# every verb
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object, no table.")]

# learn
ExerciseNumber: TypeAlias = Annotated[int | None, typer.Argument(metavar="N", help="The exercise, from 1.")]
CheckExercise: TypeAlias = Annotated[
    bool, typer.Option("--check", help="Run your file, and say what is wrong.")
]
Hint: TypeAlias = Annotated[bool, typer.Option("--hint", help="A nudge.")]
Solution: TypeAlias = Annotated[bool, typer.Option("--solution", help="Code that passes.")]
LearnFolder: TypeAlias = Annotated[Path, _option("DIR", "Where your files are; made if it is missing.")]
Notebooks: TypeAlias = Annotated[Path | None, _option("DIR", "Write all exercises there as notebooks.")]
