"""Answers as a terminal may show them: what a model wrote is not to be trusted with the cursor."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

import click

from penstock.cli.listing import UNLIMITED, cut

if TYPE_CHECKING:
    from penstock.cli.connection import Answer
    from penstock.client.results import Result

KEY_CELLS: Final = 24
"""Of a key, where the line has to fit."""

_C0: Final = 0x20
_DELETE: Final = 0x7F
_PICTURES: Final = 0x2400
"""Where Unicode has a picture for each control character."""


def symbols(text: str) -> str:
    """Return the text with a picture in the place of each control character.

    What else cannot be printed, such as marks that turn the direction of writing, is escaped.
    """
    return text if text.isprintable() else "".join(map(_symbol, text))


def row_text(result: Result[str]) -> str:
    """Return what a line says: its answer, or why there is none."""
    return result.text if result.ok or result.text else str(result.error)


def write_row(answer: Answer, result: Result[str], text: str) -> None:
    """Write one answer: a line that fits, tabs and the whole text in a pipe, or raw JSON."""
    if answer.as_json:
        click.echo(raw_json(result.raw))
        return
    if answer.quiet:
        click.echo(str(result.line))
        return
    key, shown, width = symbols(result.key or "-"), symbols(text), answer.width
    if not width:
        click.echo("\t".join((str(result.line), key, result.outcome, shown)))
        return
    head = f"{result.line:>7}  {key if width >= UNLIMITED else cut(key, KEY_CELLS)}"
    head += "" if result.ok else f"  {result.outcome}"
    click.echo(cut(f"{head}  {shown}", width))


def raw_json(raw: bytes) -> str:
    """Return a line as it came; on a terminal with escapes for what could move its cursor."""
    text = raw.decode(errors="replace").rstrip("\r\n")
    if not sys.stdout.isatty() or text.isprintable():
        return text
    # Such characters are within strings, where JSON has an escape for each.
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def _symbol(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if code < _C0:
        return chr(_PICTURES + code)
    return "␡" if code == _DELETE else repr(character)[1:-1]
