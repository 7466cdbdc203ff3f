"""How Sphinx builds the site: ``make docs`` puts it into build/docs.

The sources are the pages of this folder and what they link to elsewhere in the repository, so that every link
works on a forge as it does on the site: the root of the sources is the repository, and the site begins at
docs/index. Nothing is read from the network while it is built, and nothing by those who read it.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))  # the drawings, and the order of the gallery

# What is shown goes by the rates that the package brings, not by those of the machine that builds the site.
os.environ["SEPARABLE_CACHE_DIR"] = os.devnull

import drawings  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

import separable  # noqa: E402
from separable.learn import notebook  # noqa: E402
from separable.learn.table import EXERCISES  # noqa: E402

project = "separable"
author = "the separable developers"
project_copyright = f"2026, {author}"
version = release = separable.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "benchmarks/*.md",
    "benchmarks/results/*.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = ["docs/**/GALLERY_HEADER.rst", "docs/reference/_templates/**"]
suppress_warnings = ["myst.header"]  # the changelog begins its lists one level further down
templates_path = [str(ROOT / "docs" / "reference" / "_templates")]

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autosummary_generate = True
autodoc_typehints = "none"  # types stand in the sections of the docstrings
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

sphinx_gallery_conf = {
    "examples_dirs": [str(ROOT / "examples" / room) for room in ("tutorials", "gallery")],
    "gallery_dirs": ["docs/tutorials", "docs/gallery"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "order.GalleryOrder",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "ignore_repr_types": r"matplotlib",  # what the last call of a picture returns is no result
    "remove_config_comments": True,
    "min_reported_time": 1e6,
    "write_computation_times": False,
}

toc_object_entries_show_parents = "hide"
html_theme = "pydata_sphinx_theme"
html_title = "separable"
html_static_path = ["_static"]
html_extra_path = ["_root"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

drawings.draw(ROOT / "docs" / "theory" / "drawings")
for exercise in EXERCISES:
    notebook.write(exercise, ROOT / "docs" / "learn" / "notebooks", again=True)


def mend_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Lead from links to scripts to the pages made of them, and from folders to nothing."""
    source[0] = re.sub(r"\]\([./]*examples/(tutorials|gallery)/(\w+)\.py\)", r"](/docs/\1/\2.rst)", source[0])
    source[0] = re.sub(r"\]\([./]*examples/gallery\)", r"](/docs/gallery/index.rst)", source[0])
    source[0] = re.sub(r"\[([^]]+)\]\(results\)", r"\1", source[0])
    source[0] = re.sub(r"\n\n( *```)$", r"\n\1", source[0], flags=re.MULTILINE)  # where an example ends


def without_private(
    app: Sphinx,
    what: str,
    name: str,
    value: object,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None] | None:
    """Show no parameters of classes whose values only functions make: some of them are private."""
    return ("", returns) if what == "class" and signature and re.search(r"[(\s]_\w", signature) else None


def initials(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Let lines begin with initials, as of authors: reStructuredText takes "K. He" for item K of a list."""
    lines[:] = [re.sub(r"^(\s*(?:\.\. \[[\w-]+\] )?[A-Z])\. ", r"\1\\. ", line) for line in lines]


def setup(app: Sphinx) -> None:
    """Register what this site adds to Sphinx."""
    app.connect("source-read", mend_links)
    app.connect("autodoc-process-signature", without_private)
    app.connect("autodoc-process-docstring", initials, priority=900)
