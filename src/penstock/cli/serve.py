"""`penstock serve`: API and lifecycle in one process, or one of the two."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from penstock.cli.command import command
from penstock.late import (
    CIPHERS,
    ENGINE_FILE,
    OBJECT_STORAGE,
    ORM,
    POSTGRES,
    SCHEMAS,
    leave_out,
    put_off,
)
from penstock.settings import Settings, build, emulator_values, read
from penstock.startup import needs_google


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
    leave_out(ORM)
    put_off(unneeded(settings))
    from penstock.cli import serving  # noqa: PLC0415  # lazy: loads what these settings need

    if only_check:
        click.echo(f"ok: {serving.described(settings)}")
    elif not serving.served(settings):
        raise click.exceptions.Exit(1)


def unneeded(settings: Settings) -> Iterator[str]:
    """Yield what a server with these settings may never need."""
    yield from ENGINE_FILE
    yield from OBJECT_STORAGE
    yield from SCHEMAS
    if not settings.database_url:
        yield from POSTGRES
    if not needs_google(settings):
        # Google's credentials are made of it.
        yield from CIPHERS
