"""Events of napari that a widget listens to, until it stops or is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakMethod


class Links:
    """Connections from emitters of napari to methods of one widget, which they do not keep alive.

    napari compares callbacks as it forgets one. Methods of a widget that Qt has deleted cannot be compared,
    so that plain functions stand between.
    """

    def __init__(self) -> None:
        self._made: list[tuple[Any, Callable[..., None]]] = []

    def add(self, emitters: Iterable[Any], method: Callable[[], None]) -> None:
        """Call a method at each event of these emitters."""
        known = WeakMethod(method)

        def heard(*_: Any) -> None:
            call = known()
            if call is not None:
                call()

        for emitter in emitters:
            emitter.connect(heard)
            self._made.append((emitter, heard))

    def clear(self, *_: Any) -> None:
        """Stop listening."""
        for emitter, heard in self._made:
            emitter.disconnect(heard)
        self._made.clear()
