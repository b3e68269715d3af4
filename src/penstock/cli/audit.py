"""`penstock audit`: read the audit log, and prove that nobody changed it."""

import re
from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec

from penstock.cli.command import group
from penstock.cli.failure import ExitCode, Failure
from penstock.cli.listing import moment
from penstock.cli.operator import Office, at_the_server, data_dir_option
from penstock.core.job import OrgId
from penstock.errors import NotFound
from penstock.store.audit import Entry, Verdict

_HEADINGS: Final = ("NUMBER", "AT", "USER", "KEY", "ACTION", "OBJECT", "RESULT", "ADDRESS")
_HEAD: Final = re.compile(r"(?P<org>[^:]+):(?P<number>[1-9][0-9]{0,17}):(?P<hash>[0-9a-f]{64})\Z")

Heads = Mapping[str, tuple[int, str]]


@group()
@data_dir_option
def audit() -> None:
    """Read the audit log, and prove that nobody changed it; run it with the server's settings.

    \b
    Examples:
      penstock audit ls --org acme --action key.
      penstock audit verify
      penstock audit verify --head acme:1204:5f0c…
    """  # noqa: D301  # click's mark is a real backspace


@audit.command("ls")
@click.option("--action", help="Such as key.create, or key. for all that begin so.")
@click.option("--before", type=click.IntRange(min=1), help="Rows older than this number.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many."
)
@at_the_server()
async def list_rows(office: Office, action: str | None, before: int | None, limit: int) -> None:
    """List what was done in an organisation, newest first.

    \b
    Examples:
      penstock audit ls --org acme --action key.
    """  # noqa: D301  # click's mark is a real backspace
    found = await office.store.audit.page(office.org_id, before, limit, action)
    records = [
        {**msgspec.structs.asdict(row), "detail": msgspec.Raw(row.detail.encode())} for row in found
    ]
    office.show(records, _HEADINGS, [_row(row) for row in found])


def _read_heads(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[int, str]]:
    heads = {}
    for value in values:
        match = _HEAD.match(value)
        if match is None:
            raise click.BadParameter(
                f"{value!r} is not ORG:NUMBER:HASH as verify prints it", ctx=ctx, param=param
            )
        heads[match["org"]] = (int(match["number"]), match["hash"])
    return heads


@audit.command()
@click.option("--org", "only", help="One organisation only; else all.")
@click.option(
    "--head",
    "heads",
    multiple=True,
    callback=_read_heads,
    metavar="ORG:NUMBER:HASH",
    help="What verify printed before: shows whether rows were cut off since. Repeatable.",
)
@at_the_server(of_an_org=False)
async def verify(office: Office, only: str | None, heads: Heads) -> None:
    """Work out the whole log again; the exit code is 0 if every row is as it was written.

    Keep what it prints somewhere else, and give it to the next one with --head.

    \b
    Examples:
      penstock audit verify
      penstock audit verify --head acme:1204:5f0c…
    """  # noqa: D301  # click's mark is a real backspace
    wanted = await _orgs(office) if only is None else [only]
    unknown = sorted(set(heads) - set(wanted))
    if unknown:
        raise NotFound(f"There is no log of {', '.join(unknown)}.", hint="penstock orgs ls")
    found: dict[str, Verdict] = {}
    for org_id in wanted:
        await office.store.orgs.get(OrgId(org_id))
        found[org_id] = await office.store.audit.verify(OrgId(org_id), heads.get(org_id))
    rows = [
        (_head(org_id, one), f"{one.rows} rows", "whole" if one.broken_at is None else "BROKEN")
        for org_id, one in found.items()
    ]
    office.show(
        {org_id: msgspec.structs.asdict(one) for org_id, one in found.items()},
        ("HEAD", "VERIFIED", "STATE"),
        rows,
    )
    broken = {org_id: one.broken_at for org_id, one in found.items() if one.broken_at is not None}
    if broken:
        places = ", ".join(f"row {number} of {org_id}" for org_id, number in broken.items())
        raise Failure(
            f"the audit log is not as it was written, from {places} on",
            code="audit_broken",
            exit_code=ExitCode.UNEXPECTED,
            fix="compare with a backup; if all logs are broken, is it the secret of this server?",
        )


async def _orgs(office: Office) -> list[str]:
    found: list[str] = []
    while page := await office.store.orgs.page(found[-1] if found else "", 500):
        found += [org.id for org in page]
    return found


def _head(org_id: str, verdict: Verdict) -> str:
    return f"{org_id}:{verdict.rows}:{verdict.head or '-'}"


def _row(row: Entry) -> tuple[Any, ...]:
    who = (row.user_id, row.key_id or "-")
    what = (row.action, row.object or "-", row.result, row.address or "-")
    return (str(row.number), moment(row.at), *who, *what)
