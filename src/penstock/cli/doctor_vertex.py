"""`penstock doctor --vertex`: Google's side of a server, for nothing or, asked, for cents."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Final

import click
import httpx2
import msgspec

from penstock.blobs.bucket import Bucket
from penstock.cli.doctor_findings import lines, speaks_unicode, told, width_of
from penstock.cli.doctor_server import settings_of
from penstock.cli.failure import ExitCode, Failure
from penstock.client.screen import clean
from penstock.clock import SystemClock
from penstock.core.models import Model
from penstock.core.money import usd_text
from penstock.doctor import account, bucket, cleaning, spend
from penstock.doctor.account import Account
from penstock.doctor.assumptions import BY_ID
from penstock.doctor.check import (
    NOT_ALLOWED,
    USAGE,
    Finding,
    Verdict,
    exit_code_of,
    fails,
)
from penstock.doctor.google import Google
from penstock.doctor.lab import Lab, Pace
from penstock.errors import ConfigurationError
from penstock.providers.credentials import GoogleToken
from penstock.providers.fixed_token import FixedToken
from penstock.providers.vertex import TIMEOUT_SECONDS, Vertex
from penstock.settings import Settings, catalogue

MICRO: Final = 1_000_000


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for on the command line."""

    spend: bool
    clean: bool
    yes: bool
    max_cost: float
    model: str | None
    patience: float
    as_json: bool


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """What a visit to Google is made with."""

    settings: Settings
    token: FixedToken | GoogleToken
    model: Model
    location: str
    wish: Wish


def look(
    *,
    as_json: bool,
    config: Path | None,
    data_dir: Path | None,
    emulator: str | None,
    **wishes: bool | float | str | None,
) -> None:
    """Check, and tell; with `spend` run the trials as well."""
    wish = msgspec.convert({"as_json": as_json, **wishes}, Wish)
    try:
        settings = settings_of(config, data_dir, emulator)
        _require(settings)
        visit = _visit(settings, wish)
    except ConfigurationError as error:
        code = NOT_ALLOWED if "credentials" in error.message else USAGE
        check = "credentials" if code == NOT_ALLOWED else "settings"
        told([fails(check, error.message, error.hint or "", code)], as_json=as_json)
        return
    if wish.clean:
        asyncio.run(_clean(visit))
        return
    findings = asyncio.run(_free(visit))
    if not wish.spend:
        told(findings, as_json=as_json)
        if not as_json:
            click.echo(
                "Free so far. --spend tries the rest with tiny jobs, for some cents.", err=True
            )
        return
    if exit_code_of(findings):
        # It would fail at what is known already, and cost all the same.
        click.echo("Nothing was spent: mend this first.", err=True)
        told(findings, as_json=as_json)
        return
    _show(findings, wish)
    _spend(visit, findings)


def _require(settings: Settings) -> None:
    for name, value in (("project", settings.vertex.project), ("bucket", settings.vertex.bucket)):
        if not value:
            raise ConfigurationError(
                f"vertex.{name} is not set.",
                hint=f"Set PENSTOCK_VERTEX_{name.upper()}, or name the server's file: --config.",
            )


def _visit(settings: Settings, wish: Wish) -> Visit:
    models = catalogue(settings)
    if wish.model is not None and wish.model not in models:
        raise ConfigurationError(
            f"{wish.model!r} is not in the catalogue.",
            hint=f"Known models: {', '.join(sorted(models))}.",
        )
    chosen = models[wish.model or settings.default_model]
    if wish.spend and wish.model is None:
        chosen = spend.cheapest(models, settings.vertex.location) or chosen
    given = settings.vertex.access_token
    token = FixedToken(given.reveal()) if given else GoogleToken(settings.vertex.credentials_file)
    location = settings.vertex.location or chosen.location
    return Visit(settings=settings, token=token, model=chosen, location=location, wish=wish)


async def _free(visit: Visit) -> list[Finding]:
    async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as http:
        google = Google(visit.settings.vertex, visit.token, http)
        known = Account(google=google, model=visit.model, location=visit.location)
        findings = await account.look(known, visit.token.described)
        if not findings[0].exit_code:
            findings += await bucket.look(known)
    return findings


def _spend(visit: Visit, before: list[Finding]) -> None:
    wish = visit.wish
    bound = spend.bound_micro_dollars(visit.model)
    cents = bound / 10_000
    click.echo(
        f"5 tiny jobs with 9 lines that can cost, on {visit.model.id} at {visit.location}: "
        f"at most {cents:.2f} cents, and likely a tenth of it.",
        err=True,
    )
    if bound > wish.max_cost * MICRO:
        raise Failure(
            f"it may cost ${usd_text(bound)}, which is more than --max-cost {wish.max_cost:g}",
            code="cost_over_cap",
            exit_code=ExitCode.LIMIT,
            fix="take a cheaper model (--model), or allow more (--max-cost)",
        )
    if not wish.yes:
        _ask()
    clock = SystemClock()
    begun = clock.now()
    findings = asyncio.run(_run(visit))
    day = datetime.fromtimestamp(begun, UTC).strftime("%Y-%m-%d")
    report = spend.report_of(
        [one for one in [*before, *findings] if one.check in BY_ID],
        day=day,
        model=visit.model.id,
        location=visit.location,
        emulator=bool(visit.settings.vertex.access_token),
        seconds=round(clock.now() - begun, 1),
        bound_micro_dollars=bound,
    )
    _conclude(before, findings, report, as_json=wish.as_json)


def _ask() -> None:
    if not sys.stdin.isatty():
        raise Failure(
            "nobody can be asked here, and --spend costs money",
            code="not_confirmed",
            exit_code=ExitCode.USAGE,
            fix="say so: penstock doctor --vertex --spend --yes",
        )
    click.confirm("Spend it?", abort=True, err=True)


async def _run(visit: Visit) -> list[Finding]:
    pace = Pace(
        patience_seconds=visit.wish.patience,
        list_seconds=visit.settings.timing.fence_seconds,
    )
    async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as http:
        lab = _lab(visit, http, token_hex(4))

        def tell(text: str) -> None:
            click.echo(f"  {clean(text)}", err=True)

        name = visit.model.provider_model or visit.model.id
        return await spend.run(lab, name, visit.location, pace, tell)


def _lab(visit: Visit, http: httpx2.AsyncClient, run: str) -> Lab:
    vertex, clock = visit.settings.vertex, SystemClock()
    return Lab(
        Google(vertex, visit.token, http),
        Vertex(vertex.project, visit.token, http, vertex.base_url or None),
        Bucket(vertex.bucket, vertex.storage_url, visit.token, http, clock),
        clock,
        run=run,
        prefix=vertex.prefix.strip("/"),
    )


async def _clean(visit: Visit) -> None:
    async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as http:
        finding = await cleaning.clean(_lab(visit, http, "0" * 8), visit.location)
    told([finding], as_json=visit.wish.as_json)


def _show(findings: list[Finding], wish: Wish) -> None:
    if wish.as_json:
        return
    for line in lines(findings, width_of(sys.stdout), is_plain=not speaks_unicode(sys.stdout)):
        click.echo(line)


def _conclude(
    before: list[Finding], findings: list[Finding], report: spend.Report, *, as_json: bool
) -> None:
    """Tell what holds, and what is at risk where something does not."""
    if as_json:
        code = exit_code_of([*before, *findings])
        value = {"ok": code == 0, "checks": [*before, *findings], "report": report}
        click.echo(msgspec.json.encode(value))
        if code:
            raise click.exceptions.Exit(code)
        return
    broken = [one for one in findings if one.verdict is Verdict.FAILS and one.check in BY_ID]
    for one in broken:
        about = BY_ID[one.check]
        click.echo(f"\n{one.check}: {about.assumes}", err=True)
        click.echo(f"  rests on it: {about.rests}", err=True)
        click.echo(f"  now: {about.if_not}", err=True)
    counts = [f"{sum(one.verdict is word for one in findings)} {word}" for word in Verdict]
    click.echo(f"{', '.join(counts)}, in {report.seconds:g} s", err=True)
    told(findings, as_json=False)
