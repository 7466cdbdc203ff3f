"""Wrong usage in one line: the errors of the command line's parser, reworded."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from typing import Any, Final

import typer

# The parser's own exceptions: from the package click, or from typer where that has one inside.
UsageError: Final[type[Exception]] = typer.BadParameter.__mro__[1]

_NUMBERS: Final = {"integer": "a whole number, such as 4", "float": "a number, such as 1.5"}


def told(error: Any, arguments: Sequence[str]) -> str:
    """Return what is wrong with a command line, and where the help is.

    Parameters
    ----------
    error : UsageError
    arguments : sequence of str
        The command line: the parser's errors do not hold the value that was refused.
    """
    verb = " ".join(["separable", *itertools.takewhile(lambda word: word[:1] != "-", arguments[:1])])
    if error.ctx is not None:
        verb = error.ctx.command_path
    return f"{_what(error, verb, arguments)} See {verb} --help"


def is_help(error: Exception) -> bool:
    """Whether no argument was given, which shows the help."""
    return type(error).__name__ == "NoArgsIsHelpError"


def _what(error: Any, verb: str, arguments: Sequence[str]) -> str:
    kind, message = type(error).__name__, str(error.message)
    if kind == "NoSuchOption":
        return (
            f"`{error.option_name}` is no option of {verb}.{_meant(error.option_name, _options(error.ctx))}"
        )
    if kind == "MissingParameter" and error.param is not None:
        return f"{_name(error.param)} is missing."
    if kind == "BadOptionUsage":
        lacks = "requires" in message
        return f"`{error.option_name}` {'needs a value' if lacks else 'takes no value'}."
    if kind == "BadParameter" and error.param is not None:
        return _bad_value(error.param, message, arguments)
    if match := re.match(r"No such command '(.*?)'\.", message):
        verbs = list(error.ctx.command.commands)
        return f"`{match[1]}` is no verb; expected one of {', '.join(verbs)}.{_meant(match[1], verbs)}"
    if match := re.match(r"Got unexpected extra argument\S* \((.*)\)", message):
        return f"`{match[1]}` is more than {verb} takes."
    return f"{message.rstrip('.')}."


def _bad_value(parameter: Any, message: str, arguments: Sequence[str]) -> str:
    """Return what is wrong with the value of an option or an argument."""
    shown = _name(parameter)
    value = _typed(parameter, arguments)
    if value is not None:
        shown = f"{shown[:-1]} {value}`"
    if match := re.search(r"valid (integer|float|number)", message):
        return f"{shown} is not {_NUMBERS['integer' if match[1] == 'integer' else 'float']}."
    if match := re.search(r"is not one of (.*?)\.?$", message):
        allowed = re.findall("'(.*?)'", match[1])
        return f"{shown}: expected one of {', '.join(allowed)}.{_meant(value or '', allowed)}"
    return f"{shown}: {message.rstrip('.')}."


def _typed(parameter: Any, arguments: Sequence[str]) -> str | None:
    """Return the last value that an option was given."""
    value = None
    for word, following in itertools.zip_longest(arguments, arguments[1:]):
        name, equals, rest = word.partition("=")
        if name in parameter.opts:
            value = rest if equals else following
    return value


def _name(parameter: Any) -> str:
    """Return an option as it is typed, and an argument as the help shows it."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return f"`{max(parameter.opts, key=len)}`"


def _options(context: Any) -> list[str]:
    return [option for parameter in context.command.params for option in parameter.opts if option[0] == "-"]


def _meant(typed: str, known: Sequence[str]) -> str:
    bare = {option.lstrip("-"): option for option in known}
    near = difflib.get_close_matches(typed.lstrip("-"), bare, 1)
    return f" Did you mean {bare[near[0]]}?" if near else ""
