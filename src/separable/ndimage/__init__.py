"""SciPy's linear filters, with SciPy's signatures, run by this package: `import separable.ndimage as ndi`.

Every function here takes what its namesake in `scipy.ndimage` takes and returns what that returns, but
for the differences that docs/filters/ndimage.md lists. No algorithm lives here: the functions bring SciPy's
arguments to the verbs of this package. `installed` puts them in SciPy's place in code that already exists.
"""

from .._base.lazy import attach


def _hint(name: str, names: list[str]) -> str:
    if name.startswith("_"):
        return ""
    from .._base.words.messages import close_to  # only an error needs it

    close = close_to(name, names, least=0.85)  # median_filter looks like gaussian_filter
    return ": here are SciPy's linear filters alone." + (f" Did you mean {close!r}?" if close else "")


__getattr__, __dir__, __all__ = attach(__name__, __file__, hint=_hint)
