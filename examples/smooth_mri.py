"""Smooth an MRI volume with a Gaussian given in millimetres, from Python.

Run ``python examples/smooth_mri.py [SIGMA]``: it smooths the volume that comes with nibabel and writes
./smooth.nii. From the command line: ``separable filter IN.nii OUT.nii --gaussian 2 --unit mm``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np

import separable as sp

sigma = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0  # millimetres

volume = nib.load(Path(nib.__file__).parent / "tests" / "data" / "anatomical.nii")
samples = np.asanyarray(volume.dataobj)
voxel = nib.affines.voxel_sizes(volume.affine)

# One plan for every volume of this shape: a study has hundreds of them.
kernel = sp.families.gaussian(tuple(sigma / voxel))
plan = sp.plan(kernel, samples.shape, samples.dtype)
print(plan)

smooth = plan(samples, output=samples.dtype)  # rounded and saturated, not cut off
nib.save(nib.Nifti1Image(smooth, volume.affine, volume.header), "smooth.nii")
print(f"sigma {sigma:g} mm; standard deviation of the samples {samples.std():.0f} -> {smooth.std():.0f}")
print("wrote smooth.nii")
