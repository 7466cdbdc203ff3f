"""Text that came from outside, where people read it."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return text that does nothing to a terminal: names come out of files that anyone may have made."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
