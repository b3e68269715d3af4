"""`penstock lines`: what became of each line of a job, and what to do about it."""

from collections.abc import Sequence
from typing import Any

import click

from penstock.cli.failure import clean
from penstock.cli.jobs import Server, connected
from penstock.cli.listing import columns, terminal_width
from penstock.client import Line, LineGroup

_HEADINGS = ("LINE", "OUTCOME", "CODE", "RETRYABLE", "ROUND", "IN", "OUT")
_GROUP_HEADINGS = ("COUNT", "OUTCOME", "CODE", "RETRYABLE", "EXAMPLE", "MESSAGE", "HINT")
_LINES_MAX = 100_000


@click.command()
@click.argument("request_id", metavar="ID")
@click.argument("number", metavar="[NUMBER]", type=click.IntRange(min=1), required=False)
@click.option("--outcome", multiple=True, metavar="WORD", help="Only these: error, blocked, …")
@click.option("--code", metavar="TEXT", help="Only this code, such as 429.")
@click.option(
    "-n", "count", type=click.IntRange(1, _LINES_MAX), default=20, show_default=True, help="Lines."
)
@click.option("--text", "with_output", is_flag=True, help="Show what each says, too.")
@click.option("--groups", "is_grouped", is_flag=True, help="Show in which ways lines ended.")
@click.option("--partial", is_flag=True, help="Of a running job: what is finished so far.")
@connected
def lines(
    server: Server,
    *,
    request_id: str,
    number: int | None,
    count: int,
    is_grouped: bool,
    **wanted: Any,  # noqa: ANN401  # options of click that go to the client as they are
) -> None:
    """Show what became of the lines of the job ID, or one line whole.

    \b
    Examples:
      penstock lines ID --outcome error --code 429 --text
      penstock lines ID 1204 --json
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    partial = bool(wanted["partial"])
    is_list = number is None and not is_grouped
    if not is_list and (wanted["outcome"] or wanted["code"] or wanted["with_output"]):
        raise click.UsageError("--outcome, --code and --text are for lists of lines")
    if number is not None and is_grouped:
        raise click.UsageError("--groups is of all lines, not of one")
    with server.client() as client:
        if number is not None:
            line = client.line(request_id, number, partial=partial)
            server.show(line, _one(line))
        elif is_grouped:
            groups = client.groups(request_id, partial=partial)
            server.show(groups, _grouped(groups.groups))
        else:
            page = client.lines(request_id, **wanted).first(count)
            server.show(page, _table(page.lines, has_text=wanted["with_output"]))
            if page.total > len(page.lines):
                click.echo(f"{len(page.lines):,} of {page.total:,} lines; more with -n", err=True)


def _table(rows: Sequence[Line], *, has_text: bool) -> list[str]:
    headings = (*_HEADINGS, "TEXT") if has_text else _HEADINGS
    return columns(headings, [_row(line, has_text=has_text) for line in rows], terminal_width())


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


def _grouped(groups: Sequence[LineGroup]) -> list[str]:
    rows = [
        (
            str(one.count),
            one.outcome,
            one.code or "-",
            _yes(is_so=one.retryable),
            str(one.example_line),
            one.message,
            one.hint,
        )
        for one in groups
    ]
    return columns(_GROUP_HEADINGS, rows, terminal_width())


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
