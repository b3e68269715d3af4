"""The flags of a submission: what it is called, how far to go, what to do with bad lines."""

from collections.abc import Callable
from typing import Any, Final

import click

from penstock.cli.jobs import read_labels

DEFAULT_MODEL: Final = "gemini-3-flash-preview"

_NAMES = (
    click.option("--name", metavar="TEXT", help="What the job is called; it is found by that too."),
    click.option(
        "--label",
        "labels",
        multiple=True,
        metavar="KEY=VALUE",
        callback=read_labels,
        help="What jobs are told apart by; may be given several times.",
    ),
)
_FLAGS = (
    click.option(
        "--max-cost",
        "max_cost_usd",
        metavar="DOLLARS",
        help="Send nothing that is expected to cost more, such as 12.50.",
    ),
    click.option(
        "--quarantine",
        is_flag=True,
        help="Run the good lines; each bad one is an error in the output.",
    ),
    click.option("--no-dedupe", is_flag=True, help="Send lines with the same request each."),
    click.option("--shards", type=click.IntRange(1, 20), help="Cut it into so many provider jobs."),
    click.option(
        "--retry",
        "retry_attempts",
        type=click.IntRange(0, 5),
        help="How often to send lines again that failed.  [default: 1]",
    ),
)


def job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags; `chosen` reads them."""
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def named_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags that name a job."""
    for flag in reversed(_NAMES):
        command = flag(command)
    return command


def chosen(values: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the client for the flags that were given, and all else as it is."""
    rest = {name: value for name, value in values.items() if value is not None}
    if not rest.get("labels", True):
        del rest["labels"]
    if rest.pop("quarantine", False):
        rest["on_invalid"] = "quarantine"
    if rest.pop("no_dedupe", False):
        rest["deduplicate"] = False
    return rest
