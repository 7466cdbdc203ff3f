"""Native steps that are added to a program, or noted on a tape to be added to others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .... import _core
from ...._base.types import Array
from ...recorded.tape import Tape, TapeEntry

__all__ = ["RecordedProgram", "append_step", "core_value", "new_program"]


class RecordedProgram:
    """A native program, of which is noted how it is made.

    Parameters
    ----------
    tape : Tape
    entry : TapeEntry
        The program.
    """

    def __init__(self, tape: Tape, entry: TapeEntry) -> None:
        self.tape, self.entry = tape, entry

    def __len__(self) -> int:
        return len(self.entry.value)

    def constant(self, array: Array) -> int:
        """Add a constant; return its number, which follows from those before it."""
        return int(self.tape.done(_core.Program.constant, self.entry, array).value)


def new_program(tape: Tape | None, arena: int, sizes: Sequence[Sequence[int]], images: int) -> Any:
    """Return a native program without steps, noted if there is a tape.

    Parameters
    ----------
    tape : Tape or None
    arena : int
        Elements.
    sizes : sequence of sequence of int
        Elements of the inputs, and of the outputs.
    images : int
        That are run one by one.
    """
    if tape is None:
        return _core.Program(arena, sizes[0], sizes[1], images)
    return RecordedProgram(tape, tape.done(_core.Program, arena, sizes[0], sizes[1], images))


def append_step(program: Any, function: Callable[..., None], *arguments: Any) -> None:
    """Add a step: call a function of the core that does."""
    if type(program) is RecordedProgram:
        program.tape.done(function, program.entry, *arguments)
    else:
        function(program, *arguments)


def core_value(program: Any, kind: Callable[..., Any], *arguments: Any) -> Any:
    """Return a value of the core that a step of a program takes."""
    if type(program) is RecordedProgram:
        return program.tape.noted(kind, *arguments, late=False)
    return kind(*arguments)
