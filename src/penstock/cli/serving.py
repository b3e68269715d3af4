"""What `penstock serve` does with its settings; imported when they are known, and not before."""

import click

from penstock.cli.allocator import share_heaps
from penstock.cli.running import run
from penstock.settings import Settings
from penstock.startup import secret_values
from penstock.store.location import location_of
from penstock.telemetry.log import configure
from penstock.wiring import Server, check


def described(settings: Settings) -> str:
    """Return what a server with these settings would be; raise `ConfigurationError` if none."""
    check(settings)
    vertex = settings.vertex
    return (
        f"role {settings.role}, project {vertex.project or 'none'}, "
        f"bucket {vertex.bucket or 'none'}, database {location_of(settings)}, "
        f"inputs and outputs in {settings.blobs_url or settings.data_dir}, "
        f"working in {settings.data_dir}, listening on {settings.host}:{settings.port}"
    )


def served(settings: Settings) -> bool:
    """Run the server until it is told to end; return whether it had started at all."""
    check(settings)
    share_heaps()
    configure(settings.log_level.upper(), secret_values(settings))
    server = Server(settings)

    async def announce(url: str) -> None:
        key = await server.first_key()
        click.echo(f"url: {url}")
        if key is not None:
            click.echo(f"key: {key}")
            click.echo("This first key is shown once; only its hash is stored.", err=True)

    return run(server, announce)
