"""The operator's commands: they work on the database itself, next to the server.

Whoever can run them has the master secret, so they ask for no key and may do everything. What they
change is in the audit log of the organisation as done by `operator`.
"""

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from penstock.api.auth import Authenticator
from penstock.cli.connection import Answer, answering_with_ids
from penstock.clock import Clock, SystemClock
from penstock.core.access import OPERATOR_ORG, Actor
from penstock.core.job import OrgId
from penstock.directory import make_directory
from penstock.errors import ConfigurationError, NotFound
from penstock.keyring import Keyring, Purpose
from penstock.settings import Settings, load
from penstock.store.keys import no_key
from penstock.store.location import location_of
from penstock.store.orgs import no_org
from penstock.store.store import Store
from penstock.store.users import no_user
from penstock.wiring import ensure_owner

USER: Final = "operator"
"""Who is told in the audit log."""

_HINTS: Final = {
    no_org().hint: "penstock orgs ls",
    no_user().hint: "penstock users ls --org …",
    no_key().hint: "penstock keys ls --org …",
}
"""What to do instead of the call that the API would name."""


class Office(msgspec.Struct, frozen=True, kw_only=True):
    """What a command works with."""

    store: Store
    authenticator: Authenticator
    settings: Settings
    clock: Clock
    org_id: OrgId
    answer: Answer

    @property
    def actor(self) -> Actor:
        """Who does it."""
        return Actor(org_id=self.org_id, user_id=USER, key_id="", address="", request_id="")

    def show(self, value: object, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table, or the value as JSON; what stands first in a row names it."""
        lines = self.answer.table(headings, rows, drop=headings[:2:-1])
        self.answer.show(value, lines, ids=[row[0] for row in rows])

    def told(self, value: object, line: str) -> None:
        """Write the outcome of a change: one line, or the value as JSON."""
        self.answer.show(value, [line])

    def hint(self, text: str) -> None:
        """Say on standard error what to do next."""
        self.answer.hint(text)


def data_dir_option(group: Callable[..., None]) -> Callable[..., None]:
    """Give a group `--data-dir`, which its commands find in the context."""

    @click.option(
        "--data-dir", type=click.Path(path_type=Path), help="The server's data directory."
    )
    @click.pass_context
    @functools.wraps(group)
    def with_directory(context: click.Context, data_dir: Path | None) -> None:
        context.obj = data_dir

    return with_directory


def at_the_server(
    *, of_an_org: bool = True
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Make a command of what works in an office; with `--org` unless it is about all of them."""

    def decorate(action: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @functools.wraps(action)
        def command(
            answer: Answer,
            *,
            org: str = OPERATOR_ORG,
            **options: Any,  # noqa: ANN401  # the command's own options
        ) -> None:
            def work(office: Office) -> Awaitable[None]:
                return action(office, **options)

            data_dir = click.get_current_context().obj
            asyncio.run(_work(data_dir, OrgId(org), answer, work))

        decorated = answering_with_ids(command)
        if not of_an_org:
            return decorated
        option = click.option(
            "--org", default=OPERATOR_ORG, show_default=True, help="The organisation's id."
        )
        return option(decorated)

    return decorate


async def _work(
    data_dir: Path | None,
    org_id: OrgId,
    answer: Answer,
    action: Callable[[Office], Awaitable[None]],
) -> None:
    values: dict[str, Any] = {} if data_dir is None else {"data_dir": str(data_dir)}
    settings = load(os.environ, overrides=values)
    keyring = _keyring(settings)
    clock = SystemClock()
    store = Store.open(location_of(settings), keyring.key(Purpose.AUDIT))
    try:
        # On a new database it is the place where the log of all that follows begins.
        await ensure_owner(store, clock.now())
        await store.orgs.get(org_id)
        office = Office(
            store=store,
            authenticator=Authenticator(store.tenants, keyring.key(Purpose.API_KEYS), clock),
            settings=settings,
            clock=clock,
            org_id=org_id,
            answer=answer,
        )
        await action(office)
    except NotFound as error:
        raise NotFound(error.message, hint=_HINTS.get(error.hint, error.hint)) from error
    finally:
        await store.close()


def _keyring(settings: Settings) -> Keyring:
    if settings.database_url and not Keyring.is_there(settings.secret, settings.data_dir):
        raise ConfigurationError(
            "secret is not set, and no server of this database would know a key made without it.",
            hint="Set PENSTOCK_SECRET to the secret of the servers.",
        )
    make_directory(settings.data_dir)
    return Keyring.open(settings.secret, settings.data_dir)
