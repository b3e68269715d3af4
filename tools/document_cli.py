"""docs/reference/cli.md: every command of the command line, from the tree of click."""

import re
from collections.abc import Iterator
from typing import Any, Final

import click

from penstock.cli.command import Common
from penstock.cli.main import cli

HEAD: Final = """# Command line

<!-- Written by tools/document_reference.py; do not edit. -->

Made from the commands themselves: `--help` of each says the same.
"""


def build() -> str:
    """Return the page, or raise `SystemExit` with what has no words."""
    context = click.Context(cli, info_name="penstock", **cli.context_settings)
    commands = list(_commands(cli, context, set()))
    lacking = [
        f"{path} has no help: give its function a docstring"
        for path, command, _ in commands
        if not (command.help or "").strip()
    ]
    common: dict[str, dict[str, str]] = {}
    sections = []
    for path, command, inner in commands:
        # Not `get_params`, which adds --help: all have it, and a command keeps the names of it that
        # it first hears, so that the page would depend on who asked before.
        lacking += (
            f"{path}: {parameter.opts[0]} has no help"
            for parameter in command.params
            if isinstance(parameter, click.Option)
            and not parameter.hidden
            and not (parameter.help or "").strip()
        )
        sections.append(_section(path, command, inner, common))
    if lacking:
        raise SystemExit("\n".join(lacking))
    parts = [HEAD, "\n| command | |\n|---|---|\n"]
    parts += (
        f"| [`{path}`](#{_anchor(path)}) | {_cell(_first(command))} |\n"
        for path, command, _ in commands
    )
    parts += _prose(cli.epilog or "", is_page=True)
    if common:
        parts.append("\n## Options that many commands have\n")
        for heading, rows in common.items():
            parts.append(f"\n### {heading}\n\n| option | |\n|---|---|\n")
            parts += (f"| {names} | {text} |\n" for names, text in rows.items())
    return "".join(parts + sections)


def _commands(
    group: click.Group, context: click.Context, seen: set[int]
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield each command once, with the shortest way to it."""
    inner = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            raise SystemExit(f"{context.command_path} lists {name}, and does not have it")
        inner.append((command, click.Context(command, info_name=name, parent=context)))
    inner = [(command, at) for command, at in inner if not command.hidden]
    for command, at in inner:
        if id(command) in seen:
            continue
        if not isinstance(command, click.Group):
            seen.add(id(command))
            yield at.command_path, command, at
    for command, at in inner:
        if isinstance(command, click.Group) and id(command) not in seen:
            seen.add(id(command))
            yield at.command_path, command, at
            yield from _commands(command, at, seen)


def _section(
    path: str, command: click.Command, context: click.Context, common: dict[str, dict[str, str]]
) -> str:
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    parts = [f"\n## {path}\n\n```text\n{usage}\n```\n"]
    parts += _prose(command.help or "")
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None or not record[1]:
            continue
        names, text = f"`{_cell(record[0])}`", _cell(record[1])
        if isinstance(parameter, Common):
            common.setdefault(parameter.section, {})[names] = text
        else:
            rows.append(f"| {names} | {text} |\n")
    if rows:
        parts += ["\n| option | |\n|---|---|\n", *rows]
    if isinstance(command, click.Group):
        names = ", ".join(f"`{name}`" for name in command.list_commands(context))
        parts.append(f"\nCommands: {names}.\n")
    parts += _prose(command.epilog or "")
    return "".join(parts)


def _prose(text: str, *, is_page: bool = False) -> list[str]:
    """Return the paragraphs of a help; those that keep their lines become blocks."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", _dedented(text).split("\f")[0]):
        if not paragraph.strip():
            continue
        if paragraph.lstrip().startswith("\b"):
            lines = paragraph.lstrip()[1:].strip("\n").splitlines()
            title, body = lines[0], lines[1:]
            if body and title.rstrip().endswith(":"):
                title = title.strip().rstrip(":")
                parts.append(f"\n## {title}\n" if is_page else f"\n**{title}**\n")
                lines = body
            inner = "\n".join(lines)
            language = "sh" if "penstock " in inner else "text"
            parts.append(f"\n```{language}\n{_dedented(inner)}\n```\n")
        else:
            parts.append("\n" + " ".join(paragraph.split()) + "\n")
    return parts


def _dedented(text: str) -> str:
    lines = text.expandtabs().splitlines()
    margins = [len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()]
    first = lines[0] if lines else ""
    if first.startswith(" "):
        margins.append(len(first) - len(first.lstrip()))
    margin = min(margins, default=0)
    return "\n".join(
        line[margin:] if line[:margin].isspace() or not margin else line for line in lines
    ).strip("\n")


def _first(command: click.Command) -> str:
    return command.get_short_help_str(limit=200)


def _anchor(path: str) -> str:
    return path.replace(" ", "-")


def _cell(text: Any) -> str:  # noqa: ANN401  # click's help may be a lazy text
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
