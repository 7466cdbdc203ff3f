"""The list of filter works, with what each is asked to reach."""

from __future__ import annotations

from benchmarks import peers
from benchmarks.results import COPY, ONE_THREAD, SCIPY, SECONDS, Target
from benchmarks.works import Taps, Variant, Work, disk, gaussian_taps, uneven_taps

TWO_D, THREE_D, SHAPES, DIRECT, CALL = (
    "2-D",
    "3-D",
    "Other kernels and shapes",
    "Kernels that do not separate",
    "Call overhead",
)

NATIVE, AVX2 = Variant("native"), Variant("AVX2", target="v3")
AVX2_SHARE = 0.4  # the AVX2 path is to reach this share of each target
TWO_THREADS = 1.8  # times one thread, where arithmetic and not memory is the limit

# (sigma, radius) of the two Gaussians: SciPy's radius at truncate=4
GAUSSIANS = {9: (1.0, 4), 25: (3.0, 12)}


def works() -> list[Work]:
    """Return all filter works, in the order they are reported."""
    return [*_two_d(), *_three_d(), *_shapes(), *_direct(), _call()]


def _two_d() -> list[Work]:
    size = (4096, 4096)
    asked = {9: _targets(1.5, scipy=60, opencv=3), 25: _targets(2.2, opencv=6, compute_bound=True)}
    return [
        _gaussian(f"2d-{taps}{suffix}", TWO_D, size, (120, 136), taps, dtype, targets)
        for dtype, suffix in (("float32", ""), ("float64", "-f64"))
        for taps, targets in ((n, asked[n] if dtype == "float32" else ()) for n in GAUSSIANS)
    ]


def _three_d() -> list[Work]:
    asked = {9: _targets(2.2, scipy=45), 25: _targets(4.0, scipy=35, compute_bound=True)}
    small, large = (256, 256, 256), (384, 512, 512)
    quick = (24, 30, 34)
    return [
        *(_gaussian(f"3d-256-{n}", THREE_D, small, quick, n, "float32", asked[n]) for n in GAUSSIANS),
        *(_gaussian(f"3d-512-{n}", THREE_D, large, quick, n, "float32", asked[n]) for n in GAUSSIANS),
        *(_gaussian(f"3d-256-{n}-f64", THREE_D, small, quick, n, "float64", ()) for n in GAUSSIANS),
    ]


def _shapes() -> list[Work]:
    uneven = (uneven_taps(9, 1), uneven_taps(9, 2))
    flat = (gaussian_taps(0.5, 2), gaussian_taps(2.5, 10))
    volume = (gaussian_taps(0.5, 2), gaussian_taps(1.0, 4), gaussian_taps(1.5, 6))
    size, cube = (4096, 4096), (256, 256, 256)
    return [
        _taps("2d-uneven", "9 uneven taps (no symmetry to fold)", size, (120, 136), uneven),
        _taps("2d-anisotropic", "5 and 21 taps, Gaussians of their own per axis", size, (120, 136), flat),
        _taps(
            "3d-anisotropic", "5, 9 and 13 taps, Gaussians of their own per axis", cube, (24, 30, 34), volume
        ),
        _gaussian("rgb-9", SHAPES, (2048, 3072, 3), (60, 68, 3), 9, "float32", (), axes=2),
        _gaussian("2d-odd-9", SHAPES, (1023, 1537), (61, 77), 9, "float32", ()),
        _gaussian("3d-odd-9", SHAPES, (127, 255, 301), (23, 29, 37), 9, "float32", ()),
    ]


def _direct() -> list[Work]:
    variants = (
        Variant("direct", method="direct"),
        Variant("auto"),
        Variant("direct, AVX2", target="v3", method="direct"),
    )
    return [
        Work(
            name=f"direct-{2 * radius + 1}",
            group=DIRECT,
            kind=f"disk {2 * radius + 1} x {2 * radius + 1}",
            shape=(2048, 2048),
            quick_shape=(72, 84),
            weights=disk(radius),
            variants=variants,
            targets=(Target(ONE_THREAD, TWO_THREADS, "direct", 2),),
        )
        for radius in (3, 7)
    ]


def _call() -> Work:
    sigma, radius = GAUSSIANS[9]
    variants = (Variant("new output", style="new"), Variant("output="), Variant("plan", style="plan"))
    return Work(
        name="call",
        group=CALL,
        kind="9 taps, whole call",
        shape=(64, 64),
        quick_shape=(64, 64),
        taps=(gaussian_taps(sigma, radius),) * 2,
        sigma=sigma,
        variants=variants,
        targets=(Target(SECONDS, 12e-6, "new output"),),
        threads=(1,),
    )


def _gaussian(
    name: str,
    group: str,
    shape: tuple[int, ...],
    quick_shape: tuple[int, ...],
    taps: int,
    dtype: str,
    targets: tuple[Target, ...],
    axes: int | None = None,
) -> Work:
    sigma, radius = GAUSSIANS[taps]
    over = "" if axes is None else f" over axes {tuple(range(axes))}"
    return Work(
        name=name,
        group=group,
        kind=f"Gaussian of {taps} taps{over}",
        shape=shape,
        quick_shape=quick_shape,
        dtype=dtype,
        taps=(gaussian_taps(sigma, radius),) * (axes or len(shape)),
        sigma=sigma,
        variants=(NATIVE, AVX2),
        targets=targets,
    )


def _taps(
    name: str, kind: str, shape: tuple[int, ...], quick_shape: tuple[int, ...], taps: tuple[Taps, ...]
) -> Work:
    return Work(name, SHAPES, kind, shape, quick_shape, (NATIVE, AVX2), taps=taps)


def _targets(
    copy: float, scipy: float | None = None, opencv: float | None = None, compute_bound: bool = False
) -> tuple[Target, ...]:
    """Return the targets of the native path, their share for AVX2, and of two threads."""
    targets = [Target(COPY, copy, NATIVE.label), Target(COPY, copy / AVX2_SHARE, AVX2.label)]
    if scipy is not None:
        targets.append(Target(SCIPY, scipy, NATIVE.label))
        targets.append(Target(SCIPY, AVX2_SHARE * scipy, AVX2.label))
    if opencv is not None:
        targets.append(Target(peers.OPENCV, opencv, NATIVE.label))
        targets.append(Target(peers.OPENCV, max(1.0, AVX2_SHARE * opencv), AVX2.label))
    else:
        targets.append(Target(peers.OPENCV_SLICES, 1.0, AVX2.label))
    if compute_bound:
        targets.append(Target(ONE_THREAD, TWO_THREADS, NATIVE.label, 2))
    return tuple(targets)
