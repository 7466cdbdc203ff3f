"""Sharpen a microscope's volume by Richardson and Lucy's iteration, with a measured point-spread function.

Run ``python examples/deconvolution.py``: it writes ./deconvolution.png. Filaments are seen through a
widefield microscope, 4 micrometres deep in water under an oil objective, with the noise of counted photons.
The kernel is what one gets from averaged beads, 10 % noise in all. Noise has full rank and the kernel has
not: terms within its noise are cheaper than what was measured, and closer to the truth.
"""

from __future__ import annotations

import numpy as np
import PIL.Image

import separable as sp

SHAPE, ITERATIONS, PHOTONS, BACKGROUND = (20, 80, 80), 20, 60.0, 2.0
rng = np.random.default_rng(7)


def filaments(shape: tuple[int, ...], count: int = 14) -> np.ndarray:
    """Return smooth random paths through a volume."""
    volume = np.zeros(shape, np.float32)
    for _ in range(count):
        place, course = rng.uniform(0, shape), rng.normal(size=3) * (0.2, 1, 1)
        for _ in range(400):
            course = 0.97 * course + 0.12 * rng.normal(size=3) * (0.3, 1, 1)
            place = place + 0.5 * course / np.linalg.norm(course)
            cell = np.rint(place).astype(int)
            if (cell < 0).any() or (cell >= shape).any():
                break
            volume[tuple(cell)] += 1
    return volume


psf = sp.families.widefield_psf(
    *((17, 17, 17), (0.3, 0.13, 0.13)), wavelength=0.52, numerical_aperture=1.25, sample_index=1.33, depth=4.0
)
beads = rng.poisson(2e5 * psf) / 2e5
kernel = sp.factor(beads, tol="noise")
print(f"the kernel: {kernel.rank} terms, {kernel.macs} MACs per voxel, not {kernel.size}")
for name, weights in (("as measured", beads), ("its terms", kernel.dense())):
    print(f"{name}: {100 * np.abs(weights - psf).sum():.1f} % from the true one (relative l1)")

# The object goes on beyond the frame, and its light comes in: it is estimated there as well, by half a
# kernel all around. With zeros outside, `correlate` is the adjoint of `convolve`, exactly.
margin = tuple((n // 2, n // 2) for n in kernel.shape)
frame = tuple(slice(before, -after) for before, after in margin)


def blurred(volume: np.ndarray) -> np.ndarray:
    """Return what the camera sees of an object, in its frame."""
    return sp.convolve(volume, kernel, mode="constant")[frame]


def adjoint(image: np.ndarray) -> np.ndarray:
    """Return each object voxel's share in an image."""
    return sp.correlate(np.pad(image, margin), kernel, mode="constant")


whole = tuple(n + sum(sides) for n, sides in zip(SHAPE, margin, strict=True))
truth = filaments(whole)
exact = sp.convolve(truth, psf, mode="constant")[frame]
image = rng.poisson(PHOTONS / exact.max() * exact + BACKGROUND).astype(np.float32)

x, y = rng.normal(size=whole), rng.normal(size=SHAPE)
left, right = np.vdot(blurred(x), y), np.vdot(x, adjoint(y))
print(f"<A x, y> = {left:.12f}, <x, A' y> = {right:.12f}")

seen = adjoint(np.ones(SHAPE, np.float32))  # how much of each voxel's light reaches the frame
estimate = np.full(whole, (image.mean() - BACKGROUND) / kernel.dense().sum(), np.float32)
for step in range(ITERATIONS):
    expected = np.maximum(blurred(estimate), 0) + BACKGROUND
    if step % 5 == 0 or step == ITERATIONS - 1:
        misfit = 2 * np.mean(expected - image + image * np.log(np.maximum(image, 1e-6) / expected))
        print(f"iteration {step:2d}: deviance {misfit:.3f} per voxel (noise alone: about 1)")
    # Beyond the frame little is seen; the floor keeps what is not from being divided by nothing.
    estimate *= np.maximum(adjoint(image / expected), 0) / np.maximum(seen, 0.02)

soft = truth[frame].astype(np.float32)
for name, volume in (("image", image), ("estimate", estimate[frame])):
    print(f"{name}: correlation with the truth {np.corrcoef(volume.ravel(), soft.ravel())[0, 1]:.3f}")

panels = [volume.max(axis=0) for volume in (image, estimate[frame], soft)]
panels = [np.clip(panel / np.percentile(panel, 99.7), 0, 1) for panel in panels]
picture = np.kron(np.hstack(panels), np.ones((4, 4)))
PIL.Image.fromarray((255 * picture**0.7).astype(np.uint8)).save("deconvolution.png")
print("image, estimate and truth, the brightest voxel of each column: wrote deconvolution.png")
