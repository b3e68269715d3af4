"""`penstock orgs`: make organisations, suspend them, set their quotas."""

from typing import Any

import click
import msgspec

from penstock.api.admin import checked_id, checked_name
from penstock.cli.command import group
from penstock.cli.listing import moment
from penstock.cli.operator import Office, at_the_server, data_dir_option
from penstock.core.ids import new_id
from penstock.core.job import OrgId
from penstock.core.quotas import Quotas, checked_overrides, quotas_of
from penstock.store.orgs import Org, OrgChange

_HEADINGS = ("ID", "STATE", "NAME", "CREATED", "QUOTAS")


@group()
@data_dir_option
def orgs() -> None:
    """Make organisations, suspend them, set their quotas; run it with the server's settings.

    \b
    Examples:
      penstock orgs create "Acme Ltd" --id acme
      penstock orgs quotas acme lines_day_max=100000
      penstock orgs suspend acme
    """  # noqa: D301  # click's mark is a real backspace


@orgs.command()
@click.argument("name")
@click.option("--id", "org_id", help="A short one for headers and commands; else one is made up.")
@at_the_server(of_an_org=False)
async def create(office: Office, name: str, org_id: str | None) -> None:
    """Make an organisation and print its id.

    \b
    Examples:
      penstock orgs create "Acme Ltd" --id acme
    """  # noqa: D301  # click's mark is a real backspace
    now = office.clock.now()
    org = Org(
        id=OrgId(new_id("org") if org_id is None else checked_id(org_id)),
        name=checked_name(name),
        created_at=now,
    )
    most = office.settings.limits.orgs_max
    await office.store.orgs.create(org, None, office.actor, now, most)
    office.told(_record(org), org.id)
    click.echo(f"Next: penstock users add ID --org {org.id} --role owner", err=True)


@orgs.command("ls")
@at_the_server(of_an_org=False)
async def list_orgs(office: Office) -> None:
    """List all organisations.

    \b
    Examples:
      penstock orgs ls
    """  # noqa: D301  # click's mark is a real backspace
    found: list[Org] = []
    while page := await office.store.orgs.page(found[-1].id if found else "", 500):
        found += page
    office.show([_record(org) for org in found], _HEADINGS, [_row(org) for org in found])


@orgs.command()
@click.argument("org_id")
@at_the_server(of_an_org=False)
async def show(office: Office, org_id: str) -> None:
    """Show one organisation, and all quotas that hold for it.

    \b
    Examples:
      penstock orgs show acme
    """  # noqa: D301  # click's mark is a real backspace
    org = await office.store.orgs.get(OrgId(org_id))
    quotas = msgspec.to_builtins(quotas_of(office.settings.quotas, org.quotas))
    rows = [
        ("id", org.id),
        ("name", org.name),
        ("state", _state(org)),
        ("created", moment(org.created_at)),
        *((name, str(limit) if limit else "unlimited") for name, limit in quotas.items()),
    ]
    office.show({**_record(org), "quotas_in_force": quotas}, ("WHAT", "VALUE"), rows)


@orgs.command()
@click.argument("org_id")
@click.argument("name")
@at_the_server(of_an_org=False)
async def rename(office: Office, org_id: str, name: str) -> None:
    """Give it another name; its id stays.

    \b
    Examples:
      penstock orgs rename acme "Acme Limited"
    """  # noqa: D301  # click's mark is a real backspace
    await _change(office, org_id, OrgChange(name=checked_name(name)), "renamed")


@orgs.command()
@click.argument("org_id")
@at_the_server(of_an_org=False)
async def suspend(office: Office, org_id: str) -> None:
    """Let nobody of it in, from now on; its jobs go on.

    \b
    Examples:
      penstock orgs suspend acme
    """  # noqa: D301  # click's mark is a real backspace
    await _change(office, org_id, OrgChange(suspended=True), "suspended")


@orgs.command()
@click.argument("org_id")
@at_the_server(of_an_org=False)
async def resume(office: Office, org_id: str) -> None:
    """Let its people in again.

    \b
    Examples:
      penstock orgs resume acme
    """  # noqa: D301  # click's mark is a real backspace
    await _change(office, org_id, OrgChange(suspended=False), "resumed")


@orgs.command()
@click.argument("org_id")
@click.argument("quotas", nargs=-1, metavar="[NAME=NUMBER]...")
@at_the_server(of_an_org=False)
async def quotas(office: Office, org_id: str, quotas: tuple[str, ...]) -> None:
    """Set quotas: 0 is unlimited, `NAME=default` is what the settings say.

    \b
    Examples:
      penstock orgs quotas acme jobs_in_flight_max=20
    """  # noqa: D301  # click's mark is a real backspace
    org = await office.store.orgs.get(OrgId(org_id))
    chosen: dict[str, Any] = msgspec.json.decode(org.quotas or "{}")
    for text in quotas:
        name, _, number = text.partition("=")
        if name not in Quotas.__struct_fields__ or not (number == "default" or _is_whole(number)):
            raise click.UsageError(
                f"{text!r} is not NAME=NUMBER or NAME=default; "
                f"the names are {', '.join(Quotas.__struct_fields__)}."
            )
        chosen.pop(name, None)
        if number != "default":
            chosen[name] = int(number)
    await _change(office, org_id, OrgChange(quotas=checked_overrides(chosen)), "changed")


async def _change(office: Office, org_id: str, change: OrgChange, done: str) -> None:
    now = office.clock.now()
    org = await office.store.orgs.update(OrgId(org_id), change, office.actor, now)
    office.told(_record(org), f"{done} {org.id}")


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18  # noqa: PLR2004  # digits of a bigint


def _state(org: Org) -> str:
    return "active" if org.suspended_at is None else "suspended"


def _row(org: Org) -> tuple[str, ...]:
    return org.id, _state(org), org.name, moment(org.created_at), org.quotas or "-"


def _record(org: Org) -> dict[str, Any]:
    return {**msgspec.structs.asdict(org), "quotas": msgspec.Raw((org.quotas or "{}").encode())}
