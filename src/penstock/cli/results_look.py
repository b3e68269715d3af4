"""`penstock results head` and `grep`: some answers, read as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from penstock.cli.command import command
from penstock.cli.connection import Server, connected_with_ids
from penstock.cli.failure import ExitCode
from penstock.cli.ids import job_argument, job_id
from penstock.cli.results_text import row_text, write_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.client import Api
    from penstock.client.results import Result

COUNT_MAX: Final = 100_000
PATTERN_CHARS_MAX: Final = 1_000
PATTERN_BYTES_MAX: Final = 1_048_576
"""What a compiled pattern may take."""

CONTEXT_CHARS: Final = 30
"""Before a hit, where the text is long."""

Outcomes = tuple[str, ...]


def answers(client: Api, request_id: str, outcomes: Outcomes = ()) -> Iterator[Result[str]]:
    """Yield the answers of a job in the order of the input; one is in memory."""
    from penstock.client.blocking.results import Results  # noqa: PLC0415  # lazy: HTTP comes with it

    return iter(Results(client, request_id, outcomes, str))


@command()
@job_argument
@click.option(
    "-n", "count", type=click.IntRange(1, COUNT_MAX), default=10, show_default=True, help="Answers."
)
@click.option("--outcome", "outcomes", multiple=True, metavar="WORD", help="Only these: error, …")
@connected_with_ids
def head(server: Server, *, job: str, count: int, outcomes: Outcomes) -> None:
    """Show the first answers of the job ID, in the order of its input.

    Texts are cut to the width of the terminal; a pipe gets all of them, with tabs between number,
    key, outcome and text. With --json the lines come as they are.

    \b
    Examples:
      penstock results head @last
      penstock results head @last -n 100 --json > first.jsonl
      penstock results head @last --outcome error
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    shown = 0
    with server.client() as client:
        for result in answers(client, job_id(server, client, job), outcomes):
            write_row(server, result, row_text(result))
            shown += 1
            if shown == count:
                return
    if not shown:
        server.hint("there is no such answer")


@command()
@job_argument
@click.argument("text")
@click.option("-i", "--ignore-case", is_flag=True, help="Upper and lower case are the same.")
@click.option("-E", "--regex", is_flag=True, help="TEXT is a regular expression, searched for.")
@click.option(
    "-m", "most", type=click.IntRange(1, COUNT_MAX), default=None, help="End after so many."
)
@click.option("--outcome", "outcomes", multiple=True, metavar="WORD", help="Only these: error, …")
@connected_with_ids
def grep(
    server: Server,
    *,
    job: str,
    text: str,
    most: int | None,
    outcomes: Outcomes,
    **how: Any,  # noqa: ANN401  # two flags
) -> None:
    """Find the answers of the job ID that have TEXT in what they say.

    A regular expression takes time in proportion to the text, whatever it is: there are no
    back-references and no look-around. Without a hit the exit code is 5.

    \b
    Examples:
      penstock results grep @last "not sure"
      penstock results grep @last -E "20[0-9]{2}-" --json
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    finds = finder(text, regex=how["regex"], ignore_case=how["ignore_case"])
    found = 0
    with server.client() as client:
        for result in answers(client, job_id(server, client, job), outcomes):
            said = row_text(result)
            place = finds(said)
            if place is None:
                continue
            write_row(server, result, said if not server.width else _from(said, place))
            found += 1
            if found == most:
                break
    if not found:
        server.hint("no answer has it")
        raise click.exceptions.Exit(ExitCode.NOT_FOUND)


def finder(text: str, *, regex: bool, ignore_case: bool) -> Callable[[str], int | None]:
    """Return what tells where a text is found, or may be; None for nowhere."""
    if not text or len(text) > PATTERN_CHARS_MAX:
        raise click.UsageError(f"TEXT has from 1 to {PATTERN_CHARS_MAX:,} characters")
    if regex:
        return _regex(text, ignore_case=ignore_case)
    wanted = text.casefold() if ignore_case else text

    def plain(said: str) -> int | None:
        place = (said.casefold() if ignore_case else said).find(wanted)
        return None if place < 0 else place

    return plain


def _regex(pattern: str, *, ignore_case: bool) -> Callable[[str], int | None]:
    # Python's own can take for ever over a text that a model wrote. This one is linear.
    from jsonschema_rs import (  # noqa: PLC0415  # lazy: only a search needs it
        RegexOptions,
        ValidationError,
        validator_for,
    )

    schema = {"pattern": f"(?i){pattern}" if ignore_case else pattern}
    options = RegexOptions(size_limit=PATTERN_BYTES_MAX, dfa_size_limit=PATTERN_BYTES_MAX)
    try:
        judge = validator_for(schema, pattern_options=options)
    except (ValidationError, ValueError) as error:
        raise click.UsageError(
            f"{pattern!r} is not a regular expression that can be searched for in linear time"
        ) from error
    return lambda said: 0 if judge.is_valid(said) else None


def _from(said: str, place: int) -> str:
    """Return the text from a little before the hit."""
    start = max(0, place - CONTEXT_CHARS)
    return said if not start else f"…{said[start:]}"
