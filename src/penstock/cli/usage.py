"""`penstock usage`: what was billed, by day, model, key or organisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.command import command
from penstock.cli.connection import Server, connected

if TYPE_CHECKING:
    from penstock.client import Spent

_MONEY = ("JOBS", "LINES", "IN", "OUT", "COST", "ONLINE", "SAVED", "UNPRICED LINES")
_DROPPED = ("UNPRICED LINES", "ONLINE", "SAVED", "IN", "OUT", "LINES")


@command()
@click.option(
    "--by",
    default="day",
    show_default=True,
    metavar="WORDS",
    help="Some of day, model, key and org, with commas between them; org is for operators.",
)
@click.option("--from", "first", metavar="DAY", help="Such as 2026-11-01.  [default: 30 days ago]")
@click.option("--to", "last", metavar="DAY", help="The last day, UTC.  [default: today]")
@connected
def usage(server: Server, *, by: str, first: str | None, last: str | None) -> None:
    """Show what your organisation's jobs did cost, and what they would have cost online.

    \b
    Examples:
      penstock usage --by model,day
      penstock usage --by key --from 2026-11-01 --json
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    with server.client() as client:
        report = client.spent(first=first, last=last, by=by.split(","))
    names = tuple(report.group_by)
    headings = (*(name.upper() for name in names), *_MONEY)
    rows = [_row(group, names) for group in report.groups]
    server.show(report, server.table(headings, rows, drop=_DROPPED))


def _row(group: Spent, names: tuple[str, ...]) -> tuple[str, ...]:
    return (
        *(str(getattr(group, name, None) or "") for name in names),
        *(str(number) for number in (group.jobs, group.lines)),
        *(str(number) for number in (group.prompt_tokens, group.output_tokens)),
        *(_dollars(text) for text in (group.batch_usd, group.online_usd, group.saved_usd)),
        str(group.unpriced_lines),
    )


def _dollars(text: str | None) -> str:
    return "unknown" if text is None else f"${text}"
