"""Progress on standard error: one line that is rewritten on a terminal, else a line per change."""

import shutil
import sys
from typing import TextIO

import click

from penstock.cli.render import summary
from penstock.client import JobRecord
from penstock.clock import SystemClock

_MEGABYTE = 1_000_000


class Progress:
    """What is going on, for a person; `close` leaves the cursor at the start of a line."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._clock = SystemClock()
        self._started = self._clock.now()
        self._open = False

    def job(self, job: JobRecord) -> None:
        """Tell a change of the job."""
        minutes, seconds = divmod(int(self._clock.now() - self._started), 60)
        self._tell(f"{summary(job)}  {minutes}:{seconds:02}")

    def transfer(self, verb: str, done: int, total: int | None) -> None:
        """Tell how far an upload or a download is; a log has no use for that."""
        if not self._live:
            return
        of = f" of {total / _MEGABYTE:,.1f} MB, {100 * done // total} %" if total else " MB"
        self._tell(f"{verb} {done / _MEGABYTE:,.1f}{of}")

    def count(self, what: str, done: int, total: int) -> None:
        """Tell how many things are done; a log has no use for that."""
        if self._live:
            self._tell(f"{done:,} of {total:,} {what}")

    def close(self) -> None:
        """End the rewritten line, if there is one."""
        if self._open:
            click.echo(file=self._stream)
            self._open = False

    def _tell(self, text: str) -> None:
        if not self._live:
            click.echo(text, file=self._stream)
            return
        width = shutil.get_terminal_size().columns - 1
        click.echo(f"\r\x1b[K{text[:width]}", file=self._stream, nl=False)
        self._open = True
