"""`penstock …` commands in pages, held against the command line itself."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import click

from penstock.cli.main import cli

_START = re.compile(
    r"(?:^|[|;&(`{]|\b(?:do|then|else|exec|time)\s|^\$)\s*(?:[A-Z_]+=\S*\s+)*(?:\.venv/bin/)?"
    r"penstock(?=\s|$)",
    re.MULTILINE,
)
_REDIRECT = re.compile(r"\d?>>?&?\d?|\d?<+")
_UNSURE = re.compile(r"[$…]|^\.\.\.$|^<.*>$")


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words after `penstock` of each command in a block of shell."""
    text = re.sub(r"\\\n\s*", " ", text)
    text = re.sub(r"(?m)(?:^|(?<=\s))#.*$", "", text)
    for match in _START.finditer(text):
        yield _words(text, match.end())


def _words(text: str, start: int) -> list[str]:
    # What follows the `&` of a redirection such as `>&2` is none of ours, so the end is right.
    words = shlex.split(text[start : _end(text, start)], comments=False)
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif _REDIRECT.fullmatch(word):
            skip = "&" not in word
        elif not re.match(r"\d?[<>]", word):
            kept.append(word)
    return kept


def _end(text: str, start: int) -> int:
    """Return where the command ends that begins there."""
    quote, depth = "", 0
    for end in range(start, len(text)):
        letter = text[end]
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            # A quote that is closed nowhere belongs to what is around the command: "$(penstock …)".
            if letter not in text[end + 1 :].partition("\n")[0]:
                return end
            quote = letter
        elif text.startswith("$(", end):
            depth += 1
        elif letter == ")" and depth:
            depth -= 1
        elif not depth and (letter in "|;&)\n`" or text.startswith(" #", end)):
            return end
    return len(text)


def complaint(words: list[str], *, whole: bool = True) -> str | None:
    """Return what is wrong with a command, or nothing; one that is not whole may lack arguments."""
    command: click.Command = cli
    context = click.Context(cli, info_name="penstock", **cli.context_settings)
    rest = list(words)
    while isinstance(command, click.Group):
        while rest and rest[0].startswith("-"):
            # Options of the groups have no values, but for those that end the command.
            if rest[0] in {"--help", "-h", "--version"}:
                return None
            if not any(rest[0] in parameter.opts for parameter in command.get_params(context)):
                return f"{context.command_path} has no option {rest[0]}"
            rest.pop(0)
        if not rest or _UNSURE.search(rest[0]):
            return None if not whole or not rest else "the subcommand is not said"
        name = rest.pop(0)
        inner = command.get_command(context, name)
        if inner is None:
            return f"{context.command_path} has no command {name}"
        command = inner
        context = click.Context(inner, info_name=name, parent=context)
    return _complaint(command, context, rest, whole=whole)


def _complaint(
    command: click.Command, context: click.Context, words: list[str], *, whole: bool
) -> str | None:
    if {"--help", "-h"} & set(words):
        return None
    context.allow_extra_args = True
    if not whole:
        words = [word for word in words if not _UNSURE.search(word)]
    try:
        values, left, _ = command.make_parser(context).parse_args(list(words))
    except click.UsageError as error:
        if not whole and isinstance(error, click.BadOptionUsage):
            # In prose an option may stand without its value.
            return None
        return f"{context.command_path}: {error.format_message()}"
    if left:
        return f"{context.command_path} takes no {' '.join(left)}"
    return _arguments(command, context, values, whole=whole)


def _arguments(
    command: click.Command, context: click.Context, values: dict[str, Any], *, whole: bool
) -> str | None:
    for parameter in command.get_params(context):
        said = _values(values.get(parameter.name or ""))
        if whole and isinstance(parameter, click.Argument) and parameter.required and not said:
            return f"{context.command_path} needs {parameter.human_readable_name}"
        if isinstance(parameter.type, click.Choice):
            for value in said:
                if not _UNSURE.search(value) and value not in map(str, parameter.type.choices):
                    return f"{context.command_path}: {parameter.opts[-1]} cannot be {value}"
    return None


def _values(given: object) -> list[str]:
    if isinstance(given, str):
        return [given]
    if isinstance(given, list | tuple):
        return [value for one in given for value in _values(one)]
    return []
