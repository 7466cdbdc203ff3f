"""The verbs of the command line: their arguments, help and examples; the work is next door."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from ..stream.ome.geometry import Pyramid
from . import options, usage
from .kernel_options import Wish
from .networks.calibration_inputs import Data
from .networks.metric_option import Scoring
from .networks.network_inputs import GivenFiles
from .networks.other_inputs import OtherInputs
from .terminal import exits, one_line, say
from .verbs import audit as auditing
from .verbs import bench as timing
from .verbs import calibrate as measuring
from .verbs import demo as demonstrating
from .verbs import factor as factoring
from .verbs import filter as filtering
from .verbs import filter_slabs as slabwise
from .verbs import frontier as comparing
from .verbs import learn as learning
from .verbs import pyramid as halving
from .verbs import run as running
from .verbs import separate as separating

app = typer.Typer(
    help="Find the factors of a kernel, or of a network's layers; know the error; run what is cheaper.",
    epilog="Each verb has examples: separable filter --help",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; wrong usage is one line on stderr."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(words, prog_name="separable", standalone_mode=False)
    except usage.UsageError as error:
        if usage.is_help(error):
            app(["--help"], prog_name="separable", standalone_mode=False)
            return 2
        say(one_line(usage.told(error, words)), stderr=True, style="red")
        return 2
    except typer.Abort:
        say(one_line("interrupted."), stderr=True, style="red")
        return 130
    return code if isinstance(code, int) else 0


def _paragraphs(*texts: str) -> str:
    return "\n\n".join(texts)  # a docstring would keep its line breaks


def _examples(*lines: str) -> str:
    return _paragraphs("[bold]Examples[/]", *(f"separable {line}" for line in lines))


def _print_version(asked: bool) -> None:
    if asked:
        print(f"separable {__version__}")
        raise typer.Exit


@app.callback()
def _separable(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog=_examples("demo", "demo --out /tmp/demo --json"))
@exits
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to; made if it is missing.")] = Path(
        "separable-demo"
    ),
    as_json: options.AsJson = False,
) -> None:
    """Filter a photograph and an MRI volume, convert a network, and compare."""
    demonstrating.run(out, as_json)


@app.command(
    help=_paragraphs(
        "Write a kernel as a sum of separable terms, with a certified error.",
        "A kernel that does not separate is told so: how far it is, and what each number of terms costs.",
        "--plot shows its singular values and what less error costs, and draws them with the kernel, its "
        "terms and the residual. -o keeps the terms, for separable filter --kernel, or names the picture.",
    ),
    epilog=_examples(
        "factor psf.npy",
        "factor psf.npy --rank 3",
        "factor psf.npy --tol 1e-3 --plot",
        "factor psf.npy --tol 1e-3 -o terms.npz",
        "factor measured-psf.tif --tol noise",
        "factor 'rotated_gaussian((5, 2), pi/6)' --tol 1e-2 --json",
    ),
)
@exits
def factor(
    kernel: Annotated[
        str,
        typer.Argument(
            metavar="KERNEL",
            help="A dense kernel: .npy, any image, terms.npz, or a family such as 'disk(12)'.",
        ),
    ],
    tol: options.Tol = None,
    rank: options.Rank = None,
    effort: options.Effort = 1e10,
    plot: options.Plot = False,
    out: options.FactorOut = None,
    as_json: options.AsJson = False,
) -> None:
    """Factor a kernel."""
    factoring.run(kernel, tol, rank, effort, plot=plot, out=out or [], as_json=as_json)


@app.command(
    "filter",
    help=_paragraphs(
        "Filter images or volumes over their axes of space.",
        "Colours and time points are filtered each on their own. Header, affine, voxel size and colour "
        "profile are kept. OUT may be IN; it appears under its name once it is whole. With -o DIR any number "
        "of files are filtered into a directory, under their own names.",
        "What is unknown is left out: the file's own no-data value, --mask, and NaN with --nan omit.",
        "With --memory, and from or into .zarr and .h5, one volume is filtered slab by slab, in memory that "
        "is kept to; what was stopped, by Ctrl-C or otherwise, goes on when it is run again. With "
        "--distributed the workers of a cluster of Dask filter the slabs.",
    ),
    epilog=_examples(
        "filter photo.jpg soft.jpg --gaussian 2",
        "filter scan.nii.gz smooth.nii.gz --fwhm 6 --unit mm",
        "filter stack.tif edges.tif --sobel 1 --dtype float32",
        "filter image.npy out.npy --kernel psf.npy --normalise --tol 1e-3",
        "filter image.npy out.npy --kernel 'disk(5)' --mask known.png --nan omit",
        "filter tiles/*.tif -o smooth --box 5",
        "filter scan.zarr smooth.zarr --gaussian 2 --memory 1GiB --dtype uint16",
        "filter scan.zarr smooth.zarr --gaussian 2 --distributed tcp://10.0.0.1:8786",
    ),
)
@exits
def filter_files(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES",
            help="IN OUT, or with -o any number of inputs: .npy, PNG, JPEG, TIFF (stacks too), NIfTI; IN OUT "
            "also .zarr or .h5.",
        ),
    ],
    gaussian: options.Gaussian = None,
    fwhm: options.Fwhm = None,
    box: options.Box = None,
    sobel: options.Sobel = None,
    log: options.Log = None,
    unsharp: options.Unsharp = None,
    kernel: options.Kernel = None,
    unit: options.SigmaUnit = options.Unit.px,
    order: options.Order = "0",
    truncate: options.Truncate = 4.0,
    amount: options.Amount = 1.0,
    normalise: options.Normalise = False,
    rank: options.KernelRank = None,
    tol: options.KernelTol = None,
    axes: options.Axes = None,
    mode: options.Mode = "reflect",
    cval: options.Cval = 0.0,
    origin: options.Origin = "0",
    mask: options.Mask = None,
    nan: options.Nan = options.NaN.propagate,
    nodata: options.NoData = None,
    out: options.Filtered = None,
    dtype: options.Dtype = None,
    threads: options.Threads = None,
    memory: options.Memory = None,
    resume: options.Resumed = options.Resume.auto,
    distributed: options.Distributed = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Filter files."""
    wish = Wish(
        gaussian=gaussian,
        fwhm=fwhm,
        box=box,
        sobel=sobel,
        log=log,
        unsharp=unsharp,
        kernel=kernel,
        order=order,
        truncate=truncate,
        amount=amount,
        unit=unit.value,
        rank=rank,
        tol=tol,
        normalise=normalise,
    )
    place = filtering.Place(axes, mode, cval, origin, dtype, threads, mask, nan.value, nodata)
    slabs = slabwise.Slabs(memory, resume.value, distributed)
    if slabs.serve(files, out):
        slabwise.run(files, out, wish, place, slabs, as_json=as_json, quiet=quiet)
    else:
        filtering.run(files, out, wish, place, as_json=as_json, quiet=quiet)


@app.command(
    help=_paragraphs(
        "Write a volume as an OME-Zarr picture with smaller levels, filtered first if asked for.",
        "The volume is read once, slab by slab, in memory that is kept to; what was stopped goes on when it "
        "is run again. Axes, units, scale and translation are kept, and those of each level say where its "
        "samples lie.",
    ),
    epilog=_examples(
        "pyramid scan.zarr scan.ome.zarr",
        "pyramid scan.ome.zarr smooth.ome.zarr --gaussian 2um --levels 5 --dtype uint16",
        "pyramid stack.tif stack.ome.zarr --isotropic --memory 4GiB",
    ),
)
@exits
def pyramid(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN OUT", help="IN: .zarr, .h5, .npy, NIfTI, TIFF; OUT: a folder, .ome.zarr or .zarr."
        ),
    ],
    levels: options.Levels = None,
    reduction: options.Reduction = options.Reduced.mean,
    isotropic: options.Isotropic = False,
    gaussian: options.Gaussian = None,
    fwhm: options.Fwhm = None,
    box: options.Box = None,
    kernel: options.Kernel = None,
    unit: options.SigmaUnit = options.Unit.px,
    truncate: options.Truncate = 4.0,
    normalise: options.Normalise = False,
    axes: options.Axes = None,
    mode: options.Mode = "reflect",
    cval: options.Cval = 0.0,
    mask: options.Mask = None,
    nan: options.Nan = options.NaN.propagate,
    dtype: options.Dtype = None,
    threads: options.Threads = None,
    memory: options.Memory = None,
    resume: options.Resumed = options.Resume.auto,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Write levels."""
    wish = Wish(
        gaussian=gaussian,
        fwhm=fwhm,
        box=box,
        kernel=kernel,
        truncate=truncate,
        unit=unit.value,
        normalise=normalise,
    )
    place = filtering.Place(axes, mode, cval, "0", dtype, threads, mask, nan.value)
    made = Pyramid(levels, reduction.value, isotropic)
    slabs = slabwise.Slabs(memory, resume.value)
    halving.run(files, wish, place, slabs, made, as_json=as_json, quiet=quiet)


@app.command(
    help=_paragraphs(
        "Measure what filters cost on this machine, once, so that plans choose by it.",
        "Some two hundred filters are timed on one thread, which takes about a minute. Without it plans "
        "choose by the rates of another machine, which come with the package.",
    ),
    epilog=_examples("calibrate", "calibrate --out costs.json --json"),
)
@exits
def calibrate(
    out: options.Rates = None, every: options.EveryTarget = False, as_json: options.AsJson = False
) -> None:
    """Measure this machine."""
    measuring.run(out, every, as_json)


@app.command(
    help=_paragraphs(
        "Count what an ONNX model costs, and say how separable its layers are.",
        "1x, 2x, ... is how far a layer's weights are from a depthwise separable convolution of that depth "
        "multiplier. It does not tell the accuracy that is kept: that takes inputs, see separable separate "
        "--help",
    ),
    epilog=_examples(
        "audit model.onnx",
        "audit model.onnx --shape 1,3,224,224 --measure --html audit.html",
        "audit model.onnx --shape image=1,3,224,224 --shape mask=1,1,224,224",
        "audit speech.onnx --shape frames=512 --input sr=16000 --measure",
        "audit model.onnx --json",
    ),
)
@exits
def audit(
    model: options.Model,
    shapes: options.Shapes = None,
    beside: options.Beside = None,
    measure: options.Measure = False,
    threads: options.ModelThreads = None,
    html: options.Html = None,
    as_json: options.AsJson = False,
) -> None:
    """Audit a model."""
    others = OtherInputs(tuple(beside or ()))
    auditing.run(model, shapes or [], others, measure=measure, threads=threads, html=html, as_json=as_json)


@app.command(
    help=_paragraphs(
        "Convert a trained ONNX model to separable form: no labels, no training.",
        "Each convolution is fitted to give what it gave, for what it now reads; forms and ranks are "
        "chosen together: the fastest on this machine that loses no more than --max-loss, or the least loss "
        "within a --budget. What was lost is stated. A few hundred inputs are enough.",
        "Pictures are scaled to cover the model's input and cut at the centre; where its channels lie is "
        "seen by its shape. Inputs beside the data, such as recurrent state, are zeros unless --input "
        "gives them.",
    ),
    epilog=_examples(
        "separate model.onnx --calibration images.npz -o small.onnx",
        "separate model.onnx --calibration images.npz --max-loss 0.01 -o small.onnx --html report.html",
        "separate model.onnx --calibration images.npz --by macs --budget 0.25 -o small.onnx",
        "separate model.onnx --calibration photos --mean 0.485,0.456,0.406 "
        "--std 0.229,0.224,0.225 -o small.onnx",
        "separate model.onnx --calibration images.npz --runtime onnxruntime --budget 0.5 "
        "--skip '/stem/*' -o small.onnx",
        "separate model.onnx --calibration images.npz --metric accuracy --labels labels.npy -o small.onnx",
        "separate speech.onnx --calibration frames.npy --input sr=16000 -o small.onnx",
    ),
)
@exits
def separate(
    model: options.Model,
    calibration: options.CalibrationData,
    out: options.Converted,
    shapes: options.Shapes = None,
    budget: options.Budget = None,
    max_loss: options.MaxLoss = None,
    by: options.By = options.BudgetUnit.time,
    runtime: options.TimedRuntime = None,
    batch: options.TimedBatch = 1,
    forms: options.Forms = None,
    rank: options.FixedRank = None,
    skip: options.Skip = None,
    allow_slower: options.AllowSlower = False,
    mean: options.Mean = None,
    std: options.Std = None,
    beside: options.Beside = None,
    batch_size: options.BatchSize = 16,
    metric: options.MetricName = None,
    labels: options.Labels = None,
    validation: options.Validation = None,
    threads: options.ModelThreads = None,
    html: options.Html = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Convert a model."""
    left = tuple(skip or ())
    goal = separating.Goal(budget, max_loss, by.value, runtime, batch, forms, rank, left, not allow_slower)
    data, apart = _data(calibration, validation, mean, std, batch_size, beside, shapes)
    separating.run(
        model,
        data,
        goal,
        out,
        scoring=Scoring(metric, labels),
        validation=apart,
        threads=threads,
        html=html,
        as_json=as_json,
        quiet=quiet,
    )


def _data(
    calibration: Path,
    validation: Path | None,
    mean: str | None,
    std: str | None,
    batch_size: int,
    beside: list[str] | None,
    shapes: list[str] | None,
) -> tuple[Data, Data | None]:
    """Return the calibration data and the validation data, as typed."""
    others, sizes = OtherInputs(tuple(beside or ())), tuple(shapes or ())
    data = Data(calibration, mean, std, batch_size, others, shapes=sizes)
    if validation is None:
        return data, None
    # Arrays beside pictures, and the other way round, are scaled as they are.
    scales = (mean, std) if validation.is_dir() and calibration.is_dir() else (None, None)
    return data, Data(validation, *scales, batch_size, others, "validation", sizes)


@app.command(
    help=_paragraphs(
        "Convert a trained ONNX model to several budgets, and show what it loses over how long it takes.",
        "The layers are measured once. Each result is timed as a whole beside the original, and its loss "
        "measured on inputs that were left out of the fit. A budget that cannot be met, or gives nothing "
        "new, is named with the reason.",
        "The arguments are those of separable separate.",
    ),
    epilog=_examples(
        "frontier model.onnx --calibration images.npz",
        "frontier model.onnx --calibration images.npz --budgets 0.5,0.25 --html frontier.html --save models",
        "frontier model.onnx --calibration images.npz --runtime onnxruntime --batch 8",
        "frontier model.onnx --calibration images.npz --metric accuracy --labels labels.npy --json",
    ),
)
@exits
def frontier(
    model: options.Model,
    calibration: options.CalibrationData,
    budgets: options.Budgets = None,
    by: options.By = options.BudgetUnit.time,
    runtime: options.TimedRuntime = None,
    batch: options.TimedBatch = 1,
    forms: options.Forms = None,
    skip: options.Skip = None,
    allow_slower: options.KeepSlower = False,
    shapes: options.Shapes = None,
    mean: options.Mean = None,
    std: options.Std = None,
    beside: options.Beside = None,
    batch_size: options.BatchSize = 16,
    metric: options.MetricName = None,
    labels: options.Labels = None,
    validation: options.Validation = None,
    threads: options.ModelThreads = None,
    save: options.SavedModels = None,
    html: options.Html = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Convert a model to several budgets."""
    left = tuple(skip or ())
    goal = separating.Goal(None, None, by.value, runtime, batch, forms, None, left, not allow_slower)
    data, apart = _data(calibration, validation, mean, std, batch_size, beside, shapes)
    comparing.run(
        model,
        data,
        budgets,
        goal,
        comparing.FrontierFiles(html, save),
        scoring=Scoring(metric, labels),
        validation=apart,
        threads=threads,
        as_json=as_json,
        quiet=quiet,
    )


@app.command(
    help=_paragraphs(
        "Run a whole ONNX model on files, in float32 on the CPU, or with --precision in fewer bits.",
        "Without -o the largest values of each sample are printed.",
        "Pictures are scaled to cover the model's input and cut at the centre.",
    ),
    epilog=_examples(
        "run model.onnx x.npy -o y.npy",
        "run model.onnx image=x.npy mask=m.npy -o results.npz",
        "run model.onnx cat.jpg dog.jpg --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
        "run model.onnx x.npy --profile --html program.html",
        "run model.onnx x.npy --precision int8 --calibration samples.npy",
        "run model.onnx x.npy --precision bf16 --calibration samples.npy",
    ),
)
@exits
def run(
    model: options.Model,
    inputs: options.NetworkInputs,
    out: options.NetworkOutput = None,
    shapes: options.Shapes = None,
    fallback: options.EngineFallback = None,
    threads: options.EngineThreads = None,
    precision: options.RunPrecision = options.Precision.float32,
    calibration: options.RunCalibration = None,
    profile: options.Profile = False,
    mean: options.PictureMean = None,
    std: options.PictureStd = None,
    beside: options.Beside = None,
    html: options.Html = None,
    as_json: options.AsJson = False,
) -> None:
    """Run a model."""
    others = OtherInputs(tuple(beside or ()))
    given = GivenFiles(tuple(inputs), mean, std, others)
    setting = running.NetworkSetting(
        shapes or [],
        threads,
        None if fallback is None else "onnxruntime",
        precision.value,
        None if calibration is None else GivenFiles(tuple(calibration), mean, std, others),
    )
    running.run(model, given, setting, out, profile=profile, html=html, as_json=as_json)


@app.command(
    help=_paragraphs(
        "Measure models in the engine and in the runtimes that are installed, side by side.",
        "ONNX Runtime and OpenVINO are taken where they are installed, in float32. All are called in turn in "
        "one process, with pauses; load time and memory are those of processes of their own. ours: how many "
        "times as long as the engine a runtime takes, by the least of its times.",
    ),
    epilog=_examples(
        "bench model.onnx",
        "bench model.onnx --threads 1,2 --batch 8 --html page.html",
        "bench dense.onnx separable.onnx --shape height=224,width=224 --json",
        "bench model.onnx --runtimes engine,onnxruntime --rounds 100 --times-only",
    ),
)
@exits
def bench(
    models: options.TimedModels,
    shapes: options.Shapes = None,
    batch: options.TimedBatch = 1,
    threads: options.TimedThreads = "1",
    runtimes: options.TimedRuntimes = None,
    rounds: options.Rounds = 20,
    fallback: options.EngineFallback = None,
    times_only: options.TimesOnly = False,
    html: options.Html = None,
    as_json: options.AsJson = False,
) -> None:
    """Time models side by side."""
    setting = timing.TimingSetting(
        shapes or [],
        batch,
        threads,
        runtimes,
        rounds,
        None if fallback is None else "onnxruntime",
        times_only,
    )
    timing.run(models, setting, html, as_json)


@app.command(
    help=_paragraphs(
        "Eight exercises in the order of a course, each with a check that says what is wrong.",
        "Without a number they are listed, with how far you are. With one the exercise is shown, and a file "
        "to complete is written into --folder; a file that is there is never touched. --check runs it.",
        "The last two need onnx and onnxruntime, all others NumPy alone.",
    ),
    epilog=_examples("learn", "learn 3", "learn 3 --check", "learn 3 --hint", "learn --notebooks course"),
)
@exits
def learn(
    number: options.ExerciseNumber = None,
    check: options.CheckExercise = False,
    hint: options.Hint = False,
    solution: options.Solution = False,
    folder: options.LearnFolder = Path("separable-learn"),
    notebooks: options.Notebooks = None,
    as_json: options.AsJson = False,
) -> None:
    """Learn by exercises."""
    learning.run(number, learning.Wanted(check, hint, solution), folder, notebooks, as_json)
