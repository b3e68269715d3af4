"""What a submission would be and cost, and whether a person wants that."""

from __future__ import annotations

import os
import sys
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

import click

from penstock.cli.failure import ExitCode, Failure
from penstock.cli.limits import budget, quotas_of
from penstock.cli.validate import judged, refusal, report
from penstock.client.profile import config_path, load
from penstock.client.screen import clean

if TYPE_CHECKING:
    from penstock.cli.connection import Server
    from penstock.client import Api, Validation

CONFIRM_ABOVE_USD: Final = Decimal(20)
"""What a job may be expected to cost before a person is asked, where no profile says another."""

_OF_SENDING_ONLY: Final = ("priority", "idempotency_key", "name", "labels")
"""Terms of a submission that judging a file does not ask for."""

_STDIN: Final = "-"


def planned(server: Server, client: Api, file: str, terms: dict[str, Any]) -> None:
    """Write what would be sent and what it would cost; fail if the file would be refused."""
    found = _judged(server, client, file, terms)
    usage = quotas_of(client)
    sent = {name: value for name, value in terms.items() if name != "idempotency_key"}
    words = [f"{name.replace('_', ' ')}: {_said(value)}" for name, value in sent.items()]
    lines = [
        *report(found, _called(file)),
        *(f"budget: {line}" for line in budget(usage)),
        *(f"would send {clean(line)}" for line in words),
    ]
    value = {"would_send": sent, "validation": found, "usage": usage}
    server.show(value, server.sheet(lines))
    if not found.valid:
        raise refusal(found)
    server.hint("nothing was created; the same command without --plan submits it")


def agreed(server: Server, client: Api, file: str, terms: dict[str, Any]) -> bool:
    """Return whether to go on: always, unless somebody sits there and it is likely to be dear."""
    if file == _STDIN or server.quiet or not _is_attended():
        return True
    found = _judged(server, client, file, terms)
    if not found.valid:
        for line in server.sheet(report(found, _called(file))):
            click.echo(line, err=True)
        raise refusal(found)
    for line in _summary(found):
        server.hint(line)
    cost = found.estimate.cost_usd if found.estimate else None
    most = _confirm_above(server)
    if cost is not None and Decimal(cost.expected) <= most:
        return True
    return click.confirm("Submit?", default=True, err=True)


def _judged(server: Server, client: Api, file: str, terms: dict[str, Any]) -> Validation:
    asked = {name: value for name, value in terms.items() if name not in _OF_SENDING_ONLY}
    return judged(server, client, file, asked)


def _summary(found: Validation) -> list[str]:
    """Return the two or three lines that a person reads before something is sent."""
    lines = [f"valid     {found.line_count:,} requests, {found.input_bytes:,} bytes"]
    estimate = found.estimate
    if estimate is not None:
        cost = estimate.cost_usd
        price = (
            "unknown: the model has no price"
            if cost is None
            else f"${cost.expected} expected (${cost.low} to ${cost.high})"
        )
        lines.append(f"estimate  {price}")
    return lines


def _confirm_above(server: Server) -> Decimal:
    """Return the dollars above which a person is asked."""
    said: object = os.environ.get("PENSTOCK_CONFIRM_ABOVE")
    name = server.caller.profile
    if not said and name is not None:
        said = getattr(load(config_path()).get(name), "confirm_above_usd", None)
    if not said:
        return CONFIRM_ABOVE_USD
    try:
        return Decimal(str(said))
    except InvalidOperation as error:
        raise Failure(
            f"{said!r} is no amount of dollars to ask above",
            code="usage",
            exit_code=ExitCode.USAGE,
            fix="give PENSTOCK_CONFIRM_ABOVE or the profile's confirm_above_usd as 20 or 12.50",
        ) from error


def _is_attended() -> bool:
    """Return whether somebody can read a question and answer it."""
    streams = (sys.stdin, sys.stderr)
    return all(stream is not None and stream.isatty() for stream in streams)


def _called(file: str) -> str:
    return "standard input" if file == _STDIN else file


def _said(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={text}" for key, text in value.items())
    return str(value)
