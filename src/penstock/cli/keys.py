"""`penstock keys`: make, list, replace and revoke API keys, next to the database."""

from typing import Any, Final

import click
import msgspec

from penstock.api.admin import checked_name
from penstock.cli.command import group
from penstock.cli.durations import read_seconds
from penstock.cli.listing import moment
from penstock.cli.operator import Office, at_the_server, data_dir_option
from penstock.core.access import ALL, OPERATOR_ORG, parse_scopes
from penstock.core.key import key_id_of, new_key
from penstock.store.tenants import Key
from penstock.wiring import DEFAULT_USER

_HEADINGS: Final = ("ID", "STATE", "ORG", "NAME", "CREATED", "USED", "EXPIRES", "USER", "SCOPES")


@group()
@data_dir_option
def keys() -> None:
    """Create, list, rotate and revoke API keys; run it with the settings of the server.

    Without PENSTOCK_DATABASE_URL that means beside its data directory.

    \b
    Examples:
      penstock keys create --name ci --scopes jobs:write
      penstock keys rotate 3f9aZk12 --overlap 24h
      penstock keys revoke 3f9aZk12
    """  # noqa: D301  # click's mark is a real backspace


@keys.command()
@click.option("--name", default="", help="What the key is for.")
@click.option("--user", help="Whose key; needed for other organisations than the default one.")
@click.option(
    "--scopes", default=ALL, show_default=True, help="Such as jobs:read,jobs:write; * is all."
)
@click.option("--expires-in", callback=read_seconds, help="Such as 12h or 90d; else never.")
@at_the_server()
async def create(
    office: Office, name: str, user: str | None, scopes: str, expires_in: float | None
) -> None:
    """Make a key and print it, once.

    \b
    Examples:
      penstock keys create --name ci --expires-in 90d
      penstock keys create --org acme --user ana
    """  # noqa: D301  # click's mark is a real backspace
    if user is None and office.org_id != OPERATOR_ORG:
        raise click.UsageError(f"--user is needed: whose key of {office.org_id}?")
    now = office.clock.now()
    if scopes != ALL:
        scopes = " ".join(sorted(parse_scopes(scopes.replace(",", " ").split())))
    text, key = _new(
        office,
        now,
        user_id=user or DEFAULT_USER,
        name=checked_name(name, may_be_empty=True),
        scopes=scopes,
        expires_at=None if expires_in is None else now + expires_in,
    )
    most = office.settings.limits.keys_per_user_max
    await office.store.keys.create(office.org_id, key, office.actor, now, most)
    _tell(office, text, key)


@keys.command("ls")
@at_the_server()
async def list_keys(office: Office) -> None:
    """List the keys of an organisation, without their secrets.

    \b
    Examples:
      penstock keys ls --org acme
    """  # noqa: D301  # click's mark is a real backspace
    found: list[Key] = []
    while True:
        last = found[-1].id if found else None
        page = await office.store.keys.page(office.org_id, None, last, 500)
        if not page:
            break
        found += page
    now = office.clock.now()
    rows = [_row(key, now) for key in found]
    office.show([_record(key) for key in found], _HEADINGS, rows)


@keys.command()
@click.argument("key_id")
@click.option(
    "--overlap",
    callback=read_seconds,
    default="24h",
    show_default=True,
    help="How long the old key works beside the new one.",
)
@at_the_server()
async def rotate(office: Office, key_id: str, overlap: float) -> None:
    """Make a key that takes the place of another one, and print it, once.

    \b
    Examples:
      penstock keys rotate 3f9aZk12 --overlap 24h
    """  # noqa: D301  # click's mark is a real backspace
    old = await office.store.keys.get(office.org_id, key_id)
    now = office.clock.now()
    lifetime = None if old.expires_at is None else old.expires_at - old.created_at
    text, key = _new(
        office,
        now,
        user_id=old.user_id,
        name=old.name,
        scopes=old.scopes,
        expires_at=None if lifetime is None else now + lifetime,
        # Nobody's key becomes more than it was.
        made_by=old.made_by,
    )
    ends_at, most = now + overlap, office.settings.limits.keys_per_user_max
    await office.store.keys.rotate(office.org_id, key_id, key, office.actor, ends_at, most)
    _tell(office, text, key)
    click.echo(f"{key_id} works until {moment(min(ends_at, old.expires_at or ends_at))}.", err=True)


@keys.command()
@click.argument("key_id")
@at_the_server()
async def revoke(office: Office, key_id: str) -> None:
    """Revoke a key; requests with it are refused from now on.

    \b
    Examples:
      penstock keys revoke 3f9aZk12
    """  # noqa: D301  # click's mark is a real backspace
    await office.store.keys.revoke(office.org_id, key_id, None, office.actor, office.clock.now())
    office.told({"revoked": key_id}, f"revoked {key_id}")


def _new(office: Office, now: float, **values: Any) -> tuple[str, Key]:  # noqa: ANN401  # the fields of a Key
    text = new_key()
    key = Key(
        id=key_id_of(text) or "",
        org_id=office.org_id,
        digest=office.authenticator.digest(text),
        created_at=now,
        **values,
    )
    return text, key


def _tell(office: Office, text: str, key: Key) -> None:
    office.told({**_record(key), "key": text}, text)
    click.echo("Shown once; only its hash is stored.", err=True)


def _row(key: Key, now: float) -> tuple[str, ...]:
    state = "active"
    if key.revoked_at is not None:
        state = "revoked"
    elif key.expires_at is not None and key.expires_at <= now:
        state = "expired"
    elif key.successor_id is not None:
        state = "replaced"
    times = (moment(key.created_at), moment(key.last_used_at), moment(key.expires_at))
    return (key.id, state, key.org_id, key.name, *times, key.user_id, key.scopes)


def _record(key: Key) -> dict[str, Any]:
    record = msgspec.structs.asdict(key)
    del record["digest"]
    return {**record, "scopes": key.scopes.split()}
