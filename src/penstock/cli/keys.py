"""`penstock keys`: make, list and revoke API keys, next to the data directory."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from penstock.api.auth import Authenticator
from penstock.clock import SystemClock
from penstock.core.key import new_key
from penstock.directory import make_directory
from penstock.errors import ConfigurationError, NotFound
from penstock.keyring import Keyring, Purpose
from penstock.settings import load
from penstock.store.location import location_of
from penstock.store.store import Store
from penstock.wiring import add_key

_Action = Callable[[Store, Authenticator], Awaitable[None]]


@click.group()
@click.option("--data-dir", type=click.Path(path_type=Path), help="The server's data directory.")
@click.pass_context
def keys(context: click.Context, data_dir: Path | None) -> None:
    """Create, list and revoke API keys; run it with the settings of the server.

    Without PENSTOCK_DATABASE_URL that means beside its data directory.

    \b
    Examples:
      penstock keys create --name ci-nightly
      penstock keys revoke 3f9aZk12
    """  # noqa: D301  # click's mark is a real backspace
    context.obj = data_dir


@keys.command()
@click.option("--name", default="", help="What the key is for.")
@click.pass_obj
def create(data_dir: Path | None, name: str) -> None:
    """Make a key and print it, once."""
    text = new_key()

    async def action(store: Store, authenticator: Authenticator) -> None:
        await add_key(store, authenticator, text, name, SystemClock().now())

    _with_store(data_dir, action)
    click.echo(text)
    click.echo("Shown once; only its hash is stored.", err=True)


@keys.command("ls")
@click.pass_obj
def list_keys(data_dir: Path | None) -> None:
    """List keys, without their secrets."""

    async def action(store: Store, _authenticator: Authenticator) -> None:
        for key in await store.tenants.keys():
            state = "revoked" if key.revoked_at is not None else "active"
            used = _day(key.last_used_at)
            click.echo(
                f"{key.id}\t{state}\t{key.org_id}\t{key.name}\t{_day(key.created_at)}\t{used}"
            )

    _with_store(data_dir, action)


@keys.command()
@click.argument("key_id")
@click.pass_obj
def revoke(data_dir: Path | None, key_id: str) -> None:
    """Revoke a key; requests with it are refused from now on."""

    async def action(store: Store, _authenticator: Authenticator) -> None:
        if not await store.tenants.revoke_key(key_id, SystemClock().now()):
            raise NotFound(f"There is no active key {key_id}.", hint="penstock keys ls")

    _with_store(data_dir, action)
    click.echo(f"revoked {key_id}")


def _with_store(data_dir: Path | None, action: _Action) -> None:
    values: dict[str, Any] = {} if data_dir is None else {"data_dir": str(data_dir)}
    settings = load(os.environ, overrides=values)
    if settings.database_url and not Keyring.is_there(settings.secret, settings.data_dir):
        raise ConfigurationError(
            "secret is not set, and no server of this database would know a key made without it.",
            hint="Set PENSTOCK_SECRET to the secret of the servers.",
        )
    make_directory(settings.data_dir)
    keyring = Keyring.open(settings.secret, settings.data_dir)

    async def run() -> None:
        store = Store.open(location_of(settings))
        try:
            pepper = keyring.key(Purpose.API_KEYS)
            await action(store, Authenticator(store.tenants, pepper, SystemClock()))
        finally:
            await store.close()

    asyncio.run(run())


def _day(at: float | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
