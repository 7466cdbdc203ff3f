"""A photograph and an MRI volume, filtered by this package and by its peers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .. import __version__, correlate, families, files
from .._base.extras import extra
from .._base.types import Array
from ..report.values import Comparison, Study, study
from .bundled import bundled
from .stopwatch import medians

Show: TypeAlias = Callable[[str, int, int], None]
Runs: TypeAlias = Mapping[str, Callable[[Array], object]]  # library -> filter into this array

OWN, REFERENCE = "separable", "SciPy"

PHOTO = ("skimage", "data/astronaut.png")
MRI = ("nibabel", "tests/data/anatomical.nii")
PHOTO_SIGMA = 3.0  # pixels: 25 taps per axis
DEFOCUS_RADIUS = 8.0  # pixels: 17 x 17 weights
MRI_SIGMA = 2.0  # millimetres: 1 voxel, 9 taps per axis
REPEATS = 8  # copies along each axis for the large works: 4096 x 4096, 264 x 328 x 200


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    Attributes
    ----------
    photos : mapping of str to Image
        The photograph before and after each filter, by caption.
    volumes : mapping of str to Image
        The MRI volume before and after.
    studies : sequence of Study
        A kernel that separates and one that does not.
    comparisons : sequence of Comparison
    versions : mapping of str to str
        Of the libraries compared.
    """

    photos: Mapping[str, files.Image]
    volumes: Mapping[str, files.Image]
    studies: Sequence[Study]
    comparisons: Sequence[Comparison]
    versions: Mapping[str, str]

    @property
    def smooth_photo(self) -> files.Image:
        """The photograph after the Gaussian."""
        return list(self.photos.values())[1]

    @property
    def smooth_volume(self) -> files.Image:
        """The MRI volume after the Gaussian."""
        return list(self.volumes.values())[1]


def run(show: Show) -> Demo:
    """Filter, factor and compare.

    Parameters
    ----------
    show : callable
        Called with (phase, steps done, steps in all).

    Returns
    -------
    Demo

    Raises
    ------
    MissingExtraError
        If a package that is compared with, or that brings the data, is not installed.
    """
    check_available()
    import cv2
    import scipy

    show("filtering", 0, 0)
    photo, volume = files.read(bundled(*PHOTO)), files.read(bundled(*MRI))
    studies = (study("edge kernel", edge_weights()), study("defocus disk", families.disk(DEFOCUS_RADIUS)))
    photos = _photos(photo, studies)
    volumes = _volumes(volume)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        comparisons = _comparisons(photo, volume, studies, show)
    finally:
        cv2.setNumThreads(threads)
    versions = {OWN: __version__, REFERENCE: scipy.__version__, "OpenCV": cv2.__version__}
    return Demo(photos, volumes, studies, comparisons, versions)


def check_available() -> None:
    """Raise MissingExtraError if a package that is compared with, or brings the data, is not installed."""
    with extra("demo"):
        import cv2  # noqa: F401
        import scipy  # noqa: F401
    for package, path in (PHOTO, MRI):
        bundled(package, path)


def edge_weights() -> Array:
    """Return the derivative of a Gaussian along x as dense weights: nobody told the factors."""
    return families.gaussian((PHOTO_SIGMA, PHOTO_SIGMA), order=(0, 1)).dense()


def _photos(photo: files.Image, studies: Sequence[Study]) -> dict[str, files.Image]:
    edges, disk = studies
    setting = files.FilterOptions(axes=photo.spatial)
    blur = families.gaussian((PHOTO_SIGMA, PHOTO_SIGMA))
    return {
        "photograph": photo,
        f"Gaussian, sigma {PHOTO_SIGMA:g} px": files.filtered(photo, blur, setting)[0],
        edges.name: files.filtered(photo, edges.found, setting, np.dtype(np.float32))[0],
        disk.name: files.filtered(photo, disk.found, setting)[0],
    }


def _volumes(volume: files.Image) -> dict[str, files.Image]:
    kernel = families.gaussian(_voxels(volume))
    smooth, _ = files.filtered(volume, kernel, files.FilterOptions(axes=volume.spatial))
    return {"MRI": volume, f"Gaussian, sigma {MRI_SIGMA:g} mm": smooth}


def _voxels(volume: files.Image) -> tuple[float, ...]:
    """Return the demo's sigma in voxels of this volume."""
    return tuple(MRI_SIGMA / (volume.spacing[axis] or 1.0) for axis in volume.spatial)


def _comparisons(
    photo: files.Image, mri: files.Image, studies: Sequence[Study], show: Show
) -> list[Comparison]:
    colour, volume, voxels = _unit_range(photo.data), _unit_range(mri.data), _voxels(mri)
    grey = np.ascontiguousarray(np.tile(colour.mean(axis=2), (REPEATS, REPEATS)))
    large = np.tile(volume, (REPEATS,) * 3)
    works: list[tuple[str, Array, Runs]] = [
        gaussian_work("photo", colour, (PHOTO_SIGMA, PHOTO_SIGMA)),
        *(dense_work(done, colour) for done in studies),
        gaussian_work("photo, tiled", grey, (PHOTO_SIGMA, PHOTO_SIGMA)),
        gaussian_work("MRI", volume, voxels),
        gaussian_work("MRI, tiled", large, voxels),
    ]
    done: list[Comparison] = []
    for name, x, runs in works:
        show("comparing", len(done), len(works))
        done.append(_compare(name, x, runs))
    return done


def _unit_range(samples: Array) -> Array:
    """Return samples as float32 in 0..1, in C order."""
    result: Array = np.divide(samples, samples.max(), dtype=np.float32, order="C")
    return result


def gaussian_work(name: str, x: Array, sigma: tuple[float, ...]) -> tuple[str, Array, Runs]:
    """Return one work: its name, the samples, and how each library smooths the first axes of them."""
    import cv2
    from scipy import ndimage

    kernel = families.gaussian(sigma)
    own = functools.partial(correlate, x, kernel, axes=tuple(range(kernel.ndim)), threads=1)
    sigmas = sigma + (0.0,) * (x.ndim - len(sigma))  # SciPy leaves an axis of sigma 0 alone
    runs: dict[str, Callable[[Array], object]] = {
        OWN: lambda out: own(output=out),
        REFERENCE: lambda out: ndimage.gaussian_filter(x, sigmas, output=out),
    }
    if kernel.ndim == 2:
        along_y, along_x = kernel.terms[0]
        border = cv2.BORDER_REFLECT
        runs["OpenCV"] = lambda out: cv2.sepFilter2D(
            x, cv2.CV_32F, along_x, along_y, dst=out, borderType=border
        )
    return f"{name} {_by(x.shape)}, Gaussian {_by(kernel.shape)}", x, runs


def dense_work(done: Study, x: Array) -> tuple[str, Array, Runs]:
    """Return one work: its name, the samples, and how each library applies a dense 2-D kernel to them."""
    import cv2
    from scipy import ndimage

    weights, border = done.weights, cv2.BORDER_REFLECT
    runs: dict[str, Callable[[Array], object]] = {
        OWN: lambda out: correlate(x, weights, axes=(0, 1), output=out, threads=1),
        REFERENCE: lambda out: ndimage.correlate(x, weights[..., np.newaxis], output=out),
        "OpenCV": lambda out: cv2.filter2D(x, cv2.CV_32F, weights, dst=out, borderType=border),
    }
    return (
        f"photo {_by(x.shape)}, {done.name} {_by(weights.shape)}",
        x,
        runs,
    )


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _compare(work: str, x: Array, runs: Runs) -> Comparison:
    outs = {name: np.empty_like(x) for name in runs}
    for name, call in runs.items():  # warm up; this is also the result that is compared
        call(outs[name])
    difference = float(np.abs(outs[OWN] - outs[REFERENCE]).max())
    seconds = medians({name: functools.partial(call, outs[name]) for name, call in runs.items()})
    return Comparison(work, seconds, difference)
