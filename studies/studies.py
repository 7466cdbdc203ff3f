"""All studies by name, in the order of the site."""

from __future__ import annotations

from typing import Final

from studies import (
    depth,
    equivalence,
    formulas,
    kernels,
    limits,
    order,
    quantisation,
    rank,
    real_networks,
    samples,
    speedup,
)
from studies.study import Study

STUDIES: Final[dict[str, Study]] = {
    module.STUDY.name: module.STUDY
    for module in (
        kernels,
        formulas,
        equivalence,
        speedup,
        limits,
        samples,
        depth,
        rank,
        order,
        quantisation,
        real_networks,
    )
}
