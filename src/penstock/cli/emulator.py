"""`penstock emulator`: Vertex AI and Cloud Storage on this machine."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from penstock.cli.command import command
from penstock.emulator.app import EmulatorSettings
from penstock.emulator.named import BadRule
from penstock.emulator.server import serve


@command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8081, show_default=True, help="Port; 0 takes a free one.")
@click.option("--speed", default=1.0, show_default=True, help="Divides every simulated duration.")
@click.option("--seed", default=0, show_default=True, help="Same seed, same answers.")
@click.option(
    "--log",
    "log_path",
    type=click.Path(path_type=Path),
    help="Append a JSON line per job created, cancelled, finished and per object written.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Keep objects and jobs here over restarts; a temporary directory otherwise.",
)
@click.option(
    "--faults",
    "faults_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A JSON array of fault rules and mixes that stand from the start (docs/emulator.md).",
)
@click.option("--exit-with-stdin", is_flag=True, hidden=True, help="End when standard input ends.")
def emulator(
    *,
    host: str,
    port: int,
    data_dir: Path | None,
    exit_with_stdin: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    """Run the emulator of Vertex AI batches and Cloud Storage alone.

    \b
    Examples:
      penstock emulator --port 8081 --speed 60
      penstock emulator --faults faults.json
      penstock serve --emulator http://127.0.0.1:8081
    """  # noqa: D301  # click's mark is a real backspace
    with ExitStack() as stack:
        if data_dir is None:
            data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-")))
        settings = EmulatorSettings(data_dir=data_dir, **options)
        try:
            serve(
                settings,
                host=host,
                port=port,
                exit_with_stdin=exit_with_stdin,
                on_ready=lambda url: click.echo(f"url: {url}"),
            )
        except BadRule as error:
            raise click.BadParameter(str(error), param_hint="--faults") from error
