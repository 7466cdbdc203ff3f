"""Wrong usage in one line: what the parser of the command line refuses, in our words."""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

import typer

# The parser's own exceptions: from the package click, or from typer where that has one inside.
UsageError: Final[type[Exception]] = typer.BadParameter.__mro__[1]

_KINDS: Final = {"integer": "a whole number, such as 4", "float": "a number, such as 1.5"}


def told(error: Any) -> str:
    """Return what is wrong with a command line, and where the help is.

    Parameters
    ----------
    error : UsageError
    """
    verb = error.ctx.command_path if error.ctx is not None else "separable"
    return f"{_what(error, verb)} See {verb} --help"


def is_help(error: Exception) -> bool:
    """Whether no argument was given, which shows the help."""
    return type(error).__name__ == "NoArgsIsHelpError"


def _what(error: Any, verb: str) -> str:
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
        return _bad_value(_name(error.param), message)
    if found := re.match(r"No such command '(.*?)'\.", message):
        verbs = list(error.ctx.command.commands)
        return f"`{found[1]}` is no verb; expected one of {', '.join(verbs)}.{_meant(found[1], verbs)}"
    if found := re.match(r"Got unexpected extra arguments? \((.*)\)", message):
        return f"`{found[1]}` is more than {verb} takes."
    return f"{message.rstrip('.')}."


def _bad_value(name: str, message: str) -> str:
    """Return what is wrong with the value of an option or an argument."""
    number = re.match(r"'(.*)' is not a valid (?:integer|float)\b", message)
    if number:
        kind = "integer" if "integer" in message else "float"
        return f"{_with_value(name, number[1])} is not {_KINDS[kind]}."
    choice = re.match(r"'(.*)' is not one of (.*?)\.?$", message)
    if choice:
        allowed = re.findall("'(.*?)'", choice[2])
        return f"{_with_value(name, choice[1])}: expected one of {', '.join(allowed)}." + _meant(
            choice[1], allowed
        )
    return f"{name}: {message.rstrip('.')}."


def _with_value(name: str, value: str) -> str:
    return f"{name[:-1]} {value}`" if name.startswith("`") else f"{name} `{value}`"


def _name(parameter: Any) -> str:
    """Return an option as it is typed, and an argument as the help shows it."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return f"`{max(parameter.opts, key=len)}`"


def _options(context: Any) -> list[str]:
    return [option for parameter in context.command.params for option in parameter.opts if option[0] == "-"]


def _meant(typed: str, known: list[str]) -> str:
    near = difflib.get_close_matches(typed, known, 1)
    return f" Did you mean {near[0]}?" if near else ""
