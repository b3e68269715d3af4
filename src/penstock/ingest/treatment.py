"""What becomes of bad lines, and how much is told of the good ones."""

from typing import Final

import msgspec


class Treatment(msgspec.Struct, frozen=True, kw_only=True):
    """How one submission's lines are treated."""

    puts_aside: bool = False
    """Bad lines stay where they are, and what is wrong with each is written beside them; without
    it one of them refuses all."""
    is_trial: bool = False
    """Nothing is kept: all lines are judged and described, and bad ones refuse nothing."""


STRICT: Final = Treatment()


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was seen in, or is to be done to, a number of lines."""

    code: str
    message: str
    lines: int
    first_line: int
    """Counted from 1, blank lines included."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Lines with the same request."""

    lines: int
    first_lines: tuple[int, ...]
    """Some of them, counted from 1, blank lines included."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial found beside the bad lines."""

    warnings: tuple[Done, ...] = ()
    normalisations: tuple[Done, ...] = ()
    duplicate_lines: int = 0
    """Lines whose request a line before them has; they would not be sent."""
    duplicate_groups: int = 0
    duplicates: tuple[Group, ...] = ()
    """The largest groups."""
    unread_lines: int = 0
    """Good lines too long to be looked at for this."""
