"""Reports that are written as a page."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod

from .._base.extras import extra

__all__ = ["Paged"]


class Paged(ABC):
    """A report that can be written as a page of HTML."""

    @abstractmethod
    def _page(self) -> str:
        """Return the page; what draws it is imported here."""

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one HTML page that opens offline: charts, and tables of all that is here.

        It needs ``pip install 'separable[report]'``.

        Parameters
        ----------
        path : path-like
            The file appears there when it is complete.

        Raises
        ------
        FileError
            If it cannot be written.
        MissingExtraError
            If Altair, vl-convert or Jinja2 is not installed.
        """
        with extra("report"):
            from .pages.page import write

            text = self._page()
        write(text, path)
