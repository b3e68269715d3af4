"""`penstock users`: who belongs to an organisation, and as what."""

from typing import Any, Final

import click
import msgspec

from penstock.api.admin import checked_id, checked_name
from penstock.cli.command import group
from penstock.cli.listing import moment
from penstock.cli.operator import Office, at_the_server, data_dir_option
from penstock.core.access import Role
from penstock.store.users import Member, NewMember

_HEADINGS: Final = ("ID", "ROLE", "NAME", "CREATED")
_ROLES: Final = click.Choice([role.value for role in Role])


@group()
@data_dir_option
def users() -> None:
    """Add, list and remove the users of an organisation; run it with the server's settings.

    \b
    Examples:
      penstock users add ana --org acme --name "Ana Lima"
      penstock users role ana viewer --org acme
      penstock users rm ana --org acme
    """  # noqa: D301  # click's mark is a real backspace


@users.command()
@click.argument("user_id")
@click.option(
    "--role", type=_ROLES, default=Role.DEVELOPER.value, show_default=True, help="What he may do."
)
@click.option("--name", help="Of a new user; the id if it is left out.")
@at_the_server()
async def add(office: Office, user_id: str, role: str, name: str | None) -> None:
    """Let a user join: a new one gets this id, a known one joins a further organisation.

    \b
    Examples:
      penstock users add ana --org acme --role owner
    """  # noqa: D301  # click's mark is a real backspace
    wanted = NewMember(id=checked_id(user_id), role=Role(role), name=checked_name(name or user_id))
    member = await office.store.users.add(
        office.org_id,
        wanted,
        office.actor,
        office.clock.now(),
        office.settings.limits.users_per_org_max,
    )
    office.told(_record(member), member.id)
    click.echo(f"Next: penstock keys create --org {office.org_id} --user {member.id}", err=True)


@users.command("ls")
@at_the_server()
async def list_users(office: Office) -> None:
    """List the users of an organisation.

    \b
    Examples:
      penstock users ls --org acme
    """  # noqa: D301  # click's mark is a real backspace
    found: list[Member] = []
    while page := await office.store.users.page(office.org_id, found[-1].id if found else "", 500):
        found += page
    rows = [(one.id, one.role, one.name, moment(one.created_at)) for one in found]
    office.show([_record(one) for one in found], _HEADINGS, rows)


@users.command("role")
@click.argument("user_id")
@click.argument("role", type=_ROLES)
@at_the_server()
async def change_role(office: Office, user_id: str, role: str) -> None:
    """Make a user something else; what his keys may do changes at once.

    \b
    Examples:
      penstock users role ana viewer --org acme
    """  # noqa: D301  # click's mark is a real backspace
    member = await office.store.users.change_role(
        office.org_id, user_id, Role(role), office.actor, office.clock.now()
    )
    office.told(_record(member), f"{member.id} is {member.role}")


@users.command("rm")
@click.argument("user_id")
@at_the_server()
async def remove(office: Office, user_id: str) -> None:
    """Remove a user from the organisation, and revoke his keys of it.

    \b
    Examples:
      penstock users rm ana --org acme
    """  # noqa: D301  # click's mark is a real backspace
    await office.store.users.remove(office.org_id, user_id, office.actor, office.clock.now())
    office.told({"removed": user_id}, f"removed {user_id}")


def _record(member: Member) -> dict[str, Any]:
    return msgspec.structs.asdict(member)
