"""`penstock dev` as a child process: whole once it has announced itself, ended with its parent."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple

from penstock.errors import ConfigurationError

START_SECONDS_MAX: Final = 30.0
STOP_SECONDS_MAX: Final = 15.0
_LOG_CHARACTERS_SHOWN: Final = 2_000
_LOG_NAME: Final = "penstock.log"
_PREFIX: Final = "PENSTOCK_"


class ServerDidNotStart(ConfigurationError):
    """`penstock dev` ended, or said nothing for too long; the message has its last words."""


class Announced(NamedTuple):
    """What the child says of itself once it takes requests."""

    url: str
    key: str
    emulator_url: str


@contextmanager
def dev(
    folder: Path, arguments: list[str], settings: Mapping[str, str], seconds_max: float
) -> Iterator[Announced]:
    """Run `penstock dev` below `folder` on free ports, with no settings but those given."""
    command = [sys.executable, "-m", "penstock.cli.main", "dev", "--port", "0"]
    command += ["--data-dir", str(folder / "data"), "--exit-with-stdin", *arguments]
    # A test must never reach the database or the bucket that the developer's own shell names.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX)}
    log = folder / _LOG_NAME
    with (
        log.open("ab") as errors,
        subprocess.Popen(  # noqa: S603  # our own command line
            command,
            # An open pipe that nobody writes to: it closes when this process ends, however it ends.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**inherited, **settings},
            # Ctrl-C in the terminal is for the tests; they end this child in their own time.
            start_new_session=True,
        ) as child,
    ):
        try:
            yield _announced(child, log, seconds_max)
        finally:
            end(child)


def _announced(child: subprocess.Popen[str], log: Path, seconds_max: float) -> Announced:
    # A child that hangs would keep `readline` waiting for ever; a killed one ends its output.
    alarm = threading.Timer(seconds_max, child.kill)
    alarm.start()
    try:
        said = _said(child.stdout)
    finally:
        alarm.cancel()
    try:
        return Announced(said["url"], said["key"], said["emulator"])
    except KeyError as error:
        words = log.read_text(encoding="utf-8", errors="replace")[-_LOG_CHARACTERS_SHOWN:].strip()
        raise ServerDidNotStart(
            f"`penstock dev` did not start within {seconds_max:g} s: {words or 'it said nothing'}",
            hint=f"All that it said is in {log}.",
        ) from error


def _said(output: IO[str] | None) -> dict[str, str]:
    said: dict[str, str] = {}
    for line in output or ():
        name, _, value = line.strip().partition(": ")
        said[name] = value
        if name == "emulator":
            break
    return said


def end(child: subprocess.Popen[str], seconds_max: float = STOP_SECONDS_MAX) -> None:
    """Ask a child to end, and after a while end it."""
    child.terminate()
    try:
        child.wait(seconds_max)
    except subprocess.TimeoutExpired:
        # Nothing in a test's folder is worth waiting longer for.
        child.kill()
