"""The verbs of the command line: their arguments, help and examples; the work is next door."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from separable import __version__

from . import demonstrating, factoring, filtering, options
from .terminal import exits
from .wish import Wish

app = typer.Typer(
    help="Find the factors of a convolution kernel, know the error, and run the cheaper filter fast.",
    epilog="Each verb has examples: separable filter --help",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    """Filter a photograph and an MRI volume, and compare with SciPy and OpenCV."""
    demonstrating.run(out, as_json)


@app.command(
    help=_paragraphs(
        "Write a kernel as a sum of separable terms, with a certified error.",
        "A kernel that does not separate is told so: how far it is, and what each number of terms costs.",
    ),
    epilog=_examples("factor psf.npy", "factor psf.npy --rank 3", "factor psf.npy --tol 1e-3 --json"),
)
@exits
def factor(
    kernel: Annotated[Path, typer.Argument(metavar="KERNEL.npy", help="A dense kernel: .npy or any image.")],
    tol: options.Tol = None,
    rank: options.Rank = None,
    as_json: options.AsJson = False,
) -> None:
    """Factor a kernel."""
    factoring.run(kernel, tol, rank, as_json)


@app.command(
    "filter",
    help=_paragraphs(
        "Filter an image or a volume over its axes of space.",
        "Colours and time points are filtered each on their own. Header, affine, voxel size and colour "
        "profile are kept. OUT may be IN; it appears under its name once it is whole.",
    ),
    epilog=_examples(
        "filter photo.jpg soft.jpg --gaussian 2",
        "filter scan.nii.gz smooth.nii.gz --gaussian 3 --unit mm",
        "filter stack.tif edges.tif --sobel 1 --dtype float32",
        "filter image.npy out.npy --kernel psf.npy --tol 1e-3",
    ),
)
@exits
def filter_file(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A .npy, PNG, JPEG, TIFF (stacks too) or NIfTI file.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Where to; the suffix names the format.")],
    gaussian: options.Gaussian = None,
    box: options.Box = None,
    sobel: options.Sobel = None,
    log: options.Log = None,
    unsharp: options.Unsharp = None,
    kernel: options.Kernel = None,
    unit: options.SigmaUnit = options.Unit.px,
    order: options.Order = "0",
    truncate: options.Truncate = 4.0,
    amount: options.Amount = 1.0,
    rank: options.KernelRank = None,
    tol: options.KernelTol = None,
    axes: options.Axes = None,
    mode: options.Mode = "reflect",
    cval: options.Cval = 0.0,
    origin: options.Origin = "0",
    dtype: options.Dtype = None,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Filter a file."""
    in_mm = unit is options.Unit.mm
    wish = Wish(gaussian, box, sobel, log, unsharp, kernel, order, truncate, amount, in_mm, rank, tol)
    place = filtering.Place(axes, mode, cval, origin, dtype, threads)
    filtering.run(source, target, wish, place, as_json=as_json, quiet=quiet)
