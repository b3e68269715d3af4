"""`penstock lines`: what became of each line of a job, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from penstock.cli.command import command
from penstock.cli.connection import Server, connected_with_ids
from penstock.cli.ids import job_argument, job_id
from penstock.client.screen import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.client import Line, LineGroup

_HEADINGS = ("LINE", "OUTCOME", "CODE", "RETRYABLE", "ROUND", "IN", "OUT")
_GROUP_HEADINGS = ("COUNT", "OUTCOME", "CODE", "RETRYABLE", "EXAMPLE", "MESSAGE", "HINT")
_DROPPED = ("OUT", "IN", "ROUND", "RETRYABLE")
_GROUP_DROPPED = ("EXAMPLE", "HINT", "RETRYABLE", "MESSAGE")
_LINES_MAX = 100_000


@command()
@job_argument
@click.argument("number", metavar="[NUMBER]", type=click.IntRange(min=1), required=False)
@click.option("--outcome", multiple=True, metavar="WORD", help="Only these: error, blocked, …")
@click.option("--code", metavar="TEXT", help="Only this code, such as 429.")
@click.option(
    "-n", "count", type=click.IntRange(1, _LINES_MAX), default=20, show_default=True, help="Lines."
)
@click.option("--text", "with_output", is_flag=True, help="Show what each says, too.")
@click.option("--groups", "is_grouped", is_flag=True, help="Show in which ways lines ended.")
@click.option("--partial", is_flag=True, help="Of a running job: what is finished so far.")
@connected_with_ids
def lines(
    server: Server,
    *,
    job: str,
    number: int | None,
    count: int,
    is_grouped: bool,
    **wanted: Any,  # noqa: ANN401  # options of click that go to the client as they are
) -> None:
    """Show what became of the lines of the job ID, or one line whole.

    With --quiet there are the numbers of the lines alone.

    \b
    Examples:
      penstock lines @last --outcome error --code 429 --text
      penstock lines @last 1204 --json
      penstock lines @last --groups
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    partial = bool(wanted["partial"])
    is_list = number is None and not is_grouped
    if not is_list and (wanted["outcome"] or wanted["code"] or wanted["with_output"]):
        raise click.UsageError("--outcome, --code and --text are for lists of lines")
    if number is not None and is_grouped:
        raise click.UsageError("--groups is of all lines, not of one")
    with server.client() as client:
        request_id = job_id(server, client, job)
        if number is not None:
            line = client.line(request_id, number, partial=partial)
            server.show(line, server.sheet(_one(line)), ids=[str(line.line)])
        elif is_grouped:
            groups = client.groups(request_id, partial=partial)
            rows = _grouped(groups.groups)
            server.show(groups, server.table(_GROUP_HEADINGS, rows, drop=_GROUP_DROPPED))
        else:
            page = client.lines(request_id, **wanted).first(count)
            has_text = bool(wanted["with_output"])
            headings = (*_HEADINGS, "TEXT") if has_text else _HEADINGS
            rows = [_row(line, has_text=has_text) for line in page.lines]
            table = server.table(headings, rows, drop=_DROPPED)
            server.show(page, table, ids=[str(line.line) for line in page.lines])
            if page.total > len(page.lines):
                server.hint(f"{len(page.lines):,} of {page.total:,} lines; more with -n")
            elif not page.lines and not server.as_json:
                server.hint(f"no such lines; see how they ended: penstock lines {job} --groups")


def _row(line: Line, *, has_text: bool) -> list[str]:
    cells = [
        str(line.line),
        line.outcome,
        line.code or "-",
        _yes(is_so=line.retryable),
        f"{line.round}{' twin' if line.twin else ''}",
        str(line.prompt_tokens),
        str(line.output_tokens),
    ]
    return [*cells, line.text] if has_text else cells


def _grouped(groups: Sequence[LineGroup]) -> list[list[str]]:
    return [
        [
            str(one.count),
            one.outcome,
            one.code or "-",
            _yes(is_so=one.retryable),
            str(one.example_line),
            one.message,
            one.hint,
        ]
        for one in groups
    ]


def _one(line: Line) -> list[str]:
    """Return everything that a person wants to know of one line, a line each."""
    twin = " (the answer of an identical line, not paid)" if line.twin else ""
    rows = [
        ("line", str(line.line)),
        ("outcome", f"{line.outcome} {line.code}".strip()),
        ("hint", line.hint),
        ("retryable", _yes(is_so=line.retryable)),
        ("round", f"{line.round}{twin}"),
        ("tokens", f"{line.prompt_tokens:,} in, {line.output_tokens:,} out"),
        ("text", line.text),
    ]
    return [f"{name:<9} {clean(text)}" for name, text in rows if text]


def _yes(*, is_so: bool) -> str:
    return "yes" if is_so else "no"
