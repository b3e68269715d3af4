"""`penstock serve`: API and lifecycle in one process, or one of the two."""

import os
from pathlib import Path
from typing import Any

import click

from penstock.cli.command import command
from penstock.cli.running import run
from penstock.settings import Settings, build, emulator_values, read
from penstock.startup import secret_values
from penstock.store.location import location_of
from penstock.telemetry.log import configure
from penstock.wiring import Server, check


@command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="PENSTOCK_CONFIG",
    help="TOML file with settings.",
)
@click.option(
    "--role",
    type=click.Choice(["all", "api", "worker"]),
    help="What this process does; docs/deploy.md says what each role needs.",
)
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Database, inputs and outputs.")
@click.option("--emulator", metavar="URL", help="Use an emulator for Vertex AI and storage.")
@click.option("--check", "only_check", is_flag=True, help="Check the settings and exit.")
def serve(config: Path | None, emulator: str | None, *, only_check: bool, **given: Any) -> None:  # noqa: ANN401
    """Run the server, configured by PENSTOCK_* variables or a TOML file.

    \b
    Examples:
      penstock serve --config penstock.toml
      penstock serve --config penstock.toml --check
      penstock serve --emulator http://127.0.0.1:8081
      penstock serve --role worker
    """  # noqa: D301  # click's mark is a real backspace
    values = read(os.environ, config)
    if emulator is not None:
        values["vertex"] = {**values.get("vertex", {}), **emulator_values(emulator)}
    values |= {name: value for name, value in given.items() if value is not None}
    settings = build(values)
    check(settings)
    if only_check:
        click.echo(f"ok: {_described(settings)}")
        return
    configure(settings.log_level.upper(), secret_values(settings))
    server = Server(settings)

    async def announce(url: str) -> None:
        key = await server.first_key()
        click.echo(f"url: {url}")
        if key is not None:
            click.echo(f"key: {key}")
            click.echo("This first key is shown once; only its hash is stored.", err=True)

    if not run(server, announce):
        raise click.exceptions.Exit(1)


def _described(settings: Settings) -> str:
    vertex = settings.vertex
    return (
        f"role {settings.role}, project {vertex.project or 'none'}, "
        f"bucket {vertex.bucket or 'none'}, database {location_of(settings)}, "
        f"inputs and outputs in {settings.blobs_url or settings.data_dir}, "
        f"working in {settings.data_dir}, listening on {settings.host}:{settings.port}"
    )
