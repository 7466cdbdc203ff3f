"""The order of the pages of the gallery: from a photograph to a robot."""

from __future__ import annotations

from typing import Final

PAGES: Final = (
    "blur_sharpen_edges",
    "defocus",
    "scipy_code",
    "vessel_directions",
    "texture_filter_bank",
    "smooth_mri",
    "deconvolve_a_stack",
    "run_a_network",
    "mobile_networks",
    "replace_one_layer",
    "accuracy_and_milliseconds",
    "segment_surfaces",
    "segment_mri",
    "keyword_spotting",
    "line_follower",
)


class GalleryOrder:
    """Sorts scripts as sphinx-gallery asks: those of the gallery as listed here, others by name."""

    def __init__(self, src_dir: str) -> None:
        self.src_dir = src_dir

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __call__(self, filename: str) -> tuple[int, str]:
        """Return what a script is sorted by."""
        name = filename.removesuffix(".py")
        return (PAGES.index(name) if name in PAGES else -1, name)
