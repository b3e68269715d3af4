"""`penstock webhooks`: have the ends of jobs told to an address, and see what was told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.command import group
from penstock.cli.connection import Server, connected, connected_with_ids
from penstock.cli.durations import read_seconds
from penstock.cli.listing import moment

if TYPE_CHECKING:
    from penstock.client import Delivery, Webhook

_HEADINGS = ("ID", "STATE", "EVENTS", "URL", "CREATED")
_DELIVERY_HEADINGS = ("ID", "STATE", "TYPE", "JOB", "TRIES", "NEXT", "LAST")


@group()
def webhooks() -> None:
    """Have the ends of jobs told to an address of yours.

    \b
    Examples:
      penstock webhooks add https://hooks.example.com/batch
      penstock webhooks deliveries whk_01… --limit 10
      penstock webhooks replay whk_01… msg_01…
    """  # noqa: D301  # click's mark is a real backspace


@webhooks.command()
@click.argument("address", metavar="URL")
@click.option("--event", "events", multiple=True, help="Only these; may be given several times.")
@connected
def add(server: Server, address: str, events: tuple[str, ...]) -> None:
    """Make a webhook for URL and print its secret, once.

    \b
    Examples:
      penstock webhooks add https://hooks.example.com/batch
      penstock webhooks add URL --event job.failed
    """  # noqa: D301  # click's mark is a real backspace
    with server.client() as client:
        made = client.webhooks.add(address, events)
    _reveal(server, made)


@webhooks.command("ls")
@connected_with_ids
def list_webhooks(server: Server) -> None:
    """List all webhooks.

    \b
    Examples:
      penstock webhooks ls
    """  # noqa: D301  # click's mark is a real backspace
    with server.client() as client:
        found = client.webhooks.list()
    rows = [
        (one.id, _state(one), " ".join(one.events), one.url, moment(one.created_at))
        for one in found
    ]
    table = server.table(_HEADINGS, rows, drop=("CREATED", "EVENTS"))
    server.show(found, table, ids=[one.id for one in found])


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@connected
def show(server: Server, webhook_id: str) -> None:
    """Show the webhook ID, and why it is disabled if it is.

    \b
    Examples:
      penstock webhooks show whk_01jd8q
    """  # noqa: D301  # click's mark is a real backspace
    with server.client() as client:
        one = client.webhooks.get(webhook_id)
    rows = [
        ("id", one.id),
        ("url", one.url),
        ("events", " ".join(one.events)),
        ("state", _state(one)),
        ("created", f"{moment(one.created_at)} by {one.created_by}"),
        ("failing since", moment(one.failing_since)),
        ("disabled", f"{moment(one.disabled_at)} {one.disabled_reason or ''}".strip()),
        ("two secrets until", moment(one.old_secret_until)),
    ]
    server.show(one, server.table(("WHAT", "VALUE"), rows))


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@connected
def rm(server: Server, webhook_id: str) -> None:
    """Remove the webhook ID; what waits for it is given up.

    \b
    Examples:
      penstock webhooks rm whk_01jd8q
    """  # noqa: D301  # click's mark is a real backspace
    with server.client() as client:
        client.webhooks.remove(webhook_id)
    server.show({"id": webhook_id}, [f"removed {webhook_id}"])


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@click.option(
    "--overlap",
    metavar="DURATION",
    callback=read_seconds,
    help="How long the old secret signs as well: 0, 30m, 2h.  [default: the server's]",
)
@connected
def rotate(server: Server, webhook_id: str, overlap: float | None) -> None:
    """Replace the secret of the webhook ID and print the new one, once.

    \b
    Examples:
      penstock webhooks rotate whk_01jd8q --overlap 2h
    """  # noqa: D301  # click's mark is a real backspace
    seconds = None if overlap is None else int(overlap)
    with server.client() as client:
        made = client.webhooks.rotate(webhook_id, overlap_seconds=seconds)
    _reveal(server, made)


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@connected
def enable(server: Server, webhook_id: str) -> None:
    """Enable the webhook ID again; what waits for it is sent from now on.

    \b
    Examples:
      penstock webhooks enable whk_01jd8q
    """  # noqa: D301  # click's mark is a real backspace
    with server.client() as client:
        one = client.webhooks.enable(webhook_id)
    server.show(one, [f"{one.id}\t{_state(one)}"])


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@click.option(
    "--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many."
)
@click.option("--after", metavar="ID", help="Go on after this delivery.")
@connected_with_ids
def deliveries(server: Server, webhook_id: str, limit: int, after: str | None) -> None:
    """List what the webhook ID was told or is to be told, newest first.

    \b
    Examples:
      penstock webhooks deliveries whk_01jd8q --limit 10
    """  # noqa: D301  # click's mark is a real backspace
    with server.client() as client:
        page = client.webhooks.deliveries(webhook_id, limit=limit, after=after)
    rows = [_row(one) for one in page.deliveries]
    table = server.table(_DELIVERY_HEADINGS, rows, drop=("NEXT", "JOB", "TYPE"))
    server.show(page, table, ids=[one.id for one in page.deliveries])
    if page.next is not None:
        server.hint(f"more with --after {page.next}")


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@click.argument("delivery_id", metavar="DELIVERY")
@connected
def replay(server: Server, webhook_id: str, delivery_id: str) -> None:
    """Have DELIVERY sent to the webhook ID again, with the same id and body.

    \b
    Examples:
      penstock webhooks replay whk_01jd8q msg_01jd8q
    """  # noqa: D301  # click's mark is a real backspace
    with server.client() as client:
        one = client.webhooks.replay(webhook_id, delivery_id)
    server.show(one, ["\t".join(_row(one))])


def _reveal(server: Server, made: Webhook) -> None:
    server.show(made, [f"{made.id}\t{made.secret}"])
    click.echo("The secret is shown once; your receiver verifies signatures with it.", err=True)


def _state(webhook: Webhook) -> str:
    if webhook.disabled_at is not None:
        return "disabled"
    return "active" if webhook.failing_since is None else "failing"


def _row(one: Delivery) -> tuple[str, ...]:
    last = one.last_error or ("-" if one.last_status is None else str(one.last_status))
    return (
        one.id,
        one.state,
        one.type,
        one.request_id,
        str(one.tries),
        moment(one.next_at),
        last,
    )
