"""What all commands of ours have in common: how their help is laid out, and what is suggested.

A command has options of its own, and those that many have (which server, which form of answer). The
help shows the latter below the others, so that it begins with what is special.
"""

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import click

_SUGGESTIONS_MAX: Final = 3
_CLOSE_ENOUGH: Final = 0.6


class Common(click.Option):
    """An option that many commands have; `section` is the heading above it in the help."""

    def __init__(self, *declarations: Any, section: str, **attributes: Any) -> None:  # noqa: ANN401  # click's own
        super().__init__(*declarations, **attributes)
        self.section = section


class Command(click.Command):
    """A command whose help has the options that many have at its end."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write options by their sections, its own first."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            # What an argument is, the text above says.
            if record is not None and isinstance(parameter, click.Option):
                heading = parameter.section if isinstance(parameter, Common) else "Options"
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


class Entry(NamedTuple):
    """Where a command is, and what it does in a few words; it is imported when it is called."""

    module: str
    attribute: str
    short: str


class Group(click.Group):
    """A group of commands; an unknown one is met with those that are spelled alike."""

    command_class = Command

    aliases: Mapping[str, str] = {"list": "ls", "remove": "rm", "delete": "rm"}
    """Other spellings of a command; only those that the group has count."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name, or of which that is another spelling."""
        return self.find(ctx, cmd_name) or self.find(ctx, self.aliases.get(cmd_name, ""))

    def find(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return the command of exactly that name."""
        return super().get_command(ctx, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called; its help and its errors have its proper name."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None and not name.startswith("-"):
            ctx.fail(f"there is no command {name!r}" + self._suggested(ctx, name))
        found, command, rest = super().resolve_command(ctx, args)
        return (command.name if command is not None else found), command, rest

    def _suggested(self, ctx: click.Context, name: str) -> str:
        known = [*self.list_commands(ctx), *self.aliases]
        close = difflib.get_close_matches(name, known, _SUGGESTIONS_MAX, _CLOSE_ENOUGH)
        close = [one for one in close if self.get_command(ctx, one) is not None]
        return f"; did you mean {' or '.join(close)}?" if close else ""


class Lazy(Group):
    """A group that imports a command when it is called, and not to list it."""

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401  # click's own
        entries: Mapping[str, Entry],
        topics: Mapping[str, Sequence[str]] | None = None,
        aliases: Mapping[str, str] | None = None,
        **attributes: Any,  # noqa: ANN401  # click's own
    ) -> None:
        super().__init__(*arguments, **attributes)
        self.entries = entries
        self.topics = topics or {"Commands": list(entries)}
        self.aliases = {**Group.aliases, **(aliases or {})}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands by topic."""
        del ctx
        return [name for names in self.topics.values() for name in names]

    def find(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the command of exactly that name."""
        del ctx
        entry = self.entries.get(name)
        if entry is None:
            return None
        command: click.Command = getattr(importlib.import_module(entry.module), entry.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each command does, by topic."""
        del ctx
        for topic, names in self.topics.items():
            with formatter.section(topic):
                formatter.write_dl([(name, self.entries[name].short) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete names of commands without importing any of them."""
        from click.shell_completion import (  # noqa: PLC0415  # lazy: for completion only
            CompletionItem,
        )

        found: list[Any] = click.Command.shell_complete(self, ctx, incomplete)
        commands = [
            CompletionItem(name, help=self.entries[name].short)
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return [*commands, *found]


def group(**attributes: Any) -> Callable[[Callable[..., Any]], Group]:  # noqa: ANN401  # click's own
    """Make a group of ours."""
    return click.group(cls=Group, **attributes)


def command(*arguments: Any, **attributes: Any) -> Callable[[Callable[..., Any]], Command]:  # noqa: ANN401  # click's own
    """Make a command of ours that stands at the top, or in a lazy group."""
    return click.command(*arguments, cls=Command, **attributes)
