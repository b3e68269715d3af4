"""`penstock dev`: server and emulator in one command, no account needed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from penstock.cli.command import command
from penstock.cli.running import run
from penstock.core.key import new_key
from penstock.errors import ConfigurationError
from penstock.settings import build, emulator_values, read
from penstock.startup import LOOPBACK, WILDCARDS
from penstock.telemetry.log import configure
from penstock.wiring import Server

_KEY_FILE: Final = "dev-key"

FAST: Final = {
    "poll_seconds_min": 0.25,
    "poll_seconds_max": 2.0,
    "retry_seconds_min": 0.25,
    "retry_seconds_max": 5.0,
    # The emulator is on this machine and never lands a create late unless it is asked to.
    "settle_seconds": 5.0,
    "fence_seconds": 2.0,
    "stage_seconds": 0.25,
    "cancel_check_seconds": 0.25,
}
"""Waits that suit a provider on the same machine."""


@command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, help="Port; 0 takes a free one.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path(".penstock-dev"),
    show_default=True,
    help="Jobs, inputs, outputs and the emulator's bucket.",
)
@click.option("--key", help="API key to accept; otherwise one is made and kept.")
@click.option("--speed", default=60.0, show_default=True, help="Speeds the emulator's clock up.")
@click.option("--seed", default=0, show_default=True, help="Same seed, same answers.")
@click.option(
    "--faults",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Fault rules for the emulator, as of `penstock emulator --faults`.",
)
@click.option("--exit-with-stdin", is_flag=True, hidden=True, help="End when standard input ends.")
def dev(
    *,
    host: str,
    port: int,
    data_dir: Path,
    key: str | None,
    exit_with_stdin: bool,
    **emulation: Any,  # noqa: ANN401
) -> None:
    """Run API, worker and emulator here; prints `url: …` and `key: …`.

    Nothing leaves this machine and nothing costs anything.

    \b
    Examples:
      penstock dev
      penstock dev --port 9000 --speed 600
    """  # noqa: D301  # click's mark is a real backspace
    data_dir.mkdir(parents=True, exist_ok=True)
    text = key or _kept_key(data_dir / _KEY_FILE)
    if not (text.isascii() and text.isprintable()) or text != text.strip() or " " in text:
        raise click.BadParameter("a key is printable ASCII without blanks", param_hint="--key")
    configure("WARNING")
    with _emulator(data_dir / "emulator", **emulation) as emulator_url:
        values: dict[str, Any] = read(os.environ, None)
        values["vertex"] = {**values.get("vertex", {}), **emulator_values(emulator_url)}
        values["timing"] = {**FAST, **values.get("timing", {})}
        # Whoever names a public address here asks for it; there is nothing but test data behind it.
        values |= {"host": host, "port": port, "allow_public_bind": True}
        values |= {"data_dir": str(data_dir)}
        if host not in LOOPBACK | WILDCARDS:
            # The address is a name, too; of `0.0.0.0` nobody knows which one clients use.
            name = f"[{host}]" if ":" in host else host
            values["hosts_allowed"] = [*values.get("hosts_allowed", ()), name]
        server = Server(build(values))

        async def announce(url: str) -> None:
            await server.permit(text, "dev")
            if exit_with_stdin:
                threading.Thread(target=_end_with_stdin, daemon=True).start()
            click.echo(f"url: {url}")
            click.echo(f"key: {text}")
            click.echo(f"emulator: {emulator_url}")
            click.echo("Everything stays on this machine. Ctrl-C ends it.", err=True)

        if not run(server, announce):
            raise click.exceptions.Exit(1)


def _end_with_stdin() -> None:
    """Ask this process to end when the parent's end of the pipe closes, even by `kill -9`."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _kept_key(path: Path) -> str:
    """Return the development key of this directory, made at the first start."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        text = new_key()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
        return text


@contextmanager
def _emulator(data_dir: Path, speed: float, seed: int, faults: Path | None) -> Iterator[str]:
    """Run the emulator as a child that ends with us, even if we are killed: its stdin closes."""
    command = [sys.executable, "-m", "penstock.cli.main", "emulator", "--port", "0"]
    command += ["--data-dir", str(data_dir), "--speed", str(speed), "--seed", str(seed)]
    command += ["--log", str(data_dir / "log.jsonl"), "--exit-with-stdin"]
    command += [] if faults is None else ["--faults", str(faults)]
    data_dir.mkdir(parents=True, exist_ok=True)
    # A process of its own: the emulator works as hard as the server, and its memory and its crashes
    # are not the server's. A session of its own: Ctrl-C reaches the server first.
    with subprocess.Popen(  # noqa: S603  # our own command line
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            line = child.stdout.readline() if child.stdout else ""
            if not line.startswith("url: "):
                raise ConfigurationError("The emulator did not start; its output is above.")
            yield line.removeprefix("url: ").strip()
        finally:
            child.terminate()
