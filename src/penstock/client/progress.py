"""Who shows how far a job is, and where: a bar, HTML in a notebook, lines in a log, or nobody.

`auto` chooses. All of them take the same calls, and none of them ever raises because of what it was
told to show. What is drawn is in `progress_text` and `notebook`, as functions without a stream.
"""

import importlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self, TextIO, runtime_checkable

from penstock.client import notebook
from penstock.client.models import JobRecord
from penstock.client.progress_text import (
    Style,
    count_line,
    detail,
    job_line,
    transfer_line,
)
from penstock.client.screen import clean

REDRAW_SECONDS_MIN: Final = 0.1
"""A bar is drawn again after so long at the soonest, but for what is final."""
NOTEBOOK_SECONDS_MIN: Final = 0.5
"""The same of a notebook, which stores each state that it is given."""
LOG_SECONDS_MIN: Final = 30.0
"""A log has a line after so long at the soonest, but for the first and the last one."""
LOG_COLUMNS: Final = 200

_COLUMNS: Final = 80

Mode = Literal["auto", "bar", "lines", "notebook", "none"]
Show = Callable[[str, str], Callable[[str, str], None]]
"""Shows HTML, with a plain text for those who cannot, and gives what replaces it."""


@runtime_checkable
class Progress(Protocol):
    """What somebody is told of a job; yours may be given wherever `progress=` is taken."""

    def job(self, record: JobRecord) -> None:
        """Take the job as it is now."""

    def transfer(self, verb: str, done: int, total: int | None) -> None:
        """Take how many bytes were sent or fetched, of how many if that is known."""

    def count(self, what: str, done: int, total: int) -> None:
        """Take how many of some things are done."""

    def note(self, text: str) -> None:
        """Take a sentence that shall stay."""

    def close(self) -> None:
        """End: nothing follows."""


Choice = Progress | Mode | bool | None
"""What `progress=` takes: True is "auto", False and None are "none"."""


class _Shown:
    """What all have in common: a beginning, a last time, and an end."""

    seconds_min = 0.0

    def __init__(self, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self._now = now
        self._wall = wall
        self._started = now()
        self._drawn: float | None = None
        self._status = ""
        self._verb = ""
        self._verb_began = self._started

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End: nothing follows."""

    @property
    def elapsed_seconds(self) -> float:
        """The time since somebody began to look."""
        return self._now() - self._started

    def _is_due(self, *, always: bool) -> bool:
        """Return whether it is time to show something again, and take it as shown."""
        now = self._now()
        if not always and self._drawn is not None and now - self._drawn < self.seconds_min:
            return False
        self._drawn = now
        return True

    def _is_news(self, record: JobRecord) -> bool:
        """Return whether the job's state is another than the last time."""
        before, self._status = self._status, record.status
        return before != record.status

    def _transfer_seconds(self, verb: str) -> float:
        """Return for how long this transfer has been going on."""
        if verb != self._verb:
            self._verb, self._verb_began = verb, self._now()
        return self._now() - self._verb_began


class Silent:
    """Shows nothing, but for notes, which somebody must see."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def job(self, record: JobRecord) -> None:
        """Show nothing."""

    def transfer(self, verb: str, done: int, total: int | None) -> None:
        """Show nothing."""

    def count(self, what: str, done: int, total: int) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Write the sentence, if there is a place for it."""
        if self._stream is not None:
            _write(self._stream, clean(text) + "\n")

    def close(self) -> None:
        """Do nothing."""


class Bar(_Shown):
    """One line of a terminal that is drawn again and again; `close` leaves it as it was last."""

    seconds_min = REDRAW_SECONDS_MIN

    def __init__(
        self,
        stream: TextIO,
        *,
        style: Style | None = None,
        columns: Callable[[], int] | None = None,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(now, wall)
        self._stream = stream
        self._style = style_of(stream, os.environ) if style is None else style
        self._columns = columns or (lambda: columns_of(stream))
        self._is_open = False
        self._last = ""

    def job(self, record: JobRecord) -> None:
        """Draw the job."""
        if self._is_due(always=self._is_news(record) or record.done):
            elapsed, now = self.elapsed_seconds, self._wall()
            self._draw(job_line(record, self._room, elapsed, now_seconds=now, style=self._style))

    def transfer(self, verb: str, done: int, total: int | None) -> None:
        """Draw how far an upload or a download is."""
        elapsed = self._transfer_seconds(verb)
        if self._is_due(always=done == total):
            style = self._style
            self._draw(
                transfer_line(verb, done, total, self._room, elapsed_seconds=elapsed, style=style)
            )

    def count(self, what: str, done: int, total: int) -> None:
        """Draw how many things are done."""
        if self._is_due(always=done == total):
            self._draw(count_line(what, done, total, self._room, style=self._style))

    def note(self, text: str) -> None:
        """Write the sentence above the line that is drawn."""
        _write(self._stream, ("\r\x1b[K" if self._is_open else "") + clean(text) + "\n")
        if self._is_open:
            _write(self._stream, self._last)

    def close(self) -> None:
        """End the line, so that what follows begins at the left."""
        if self._is_open:
            _write(self._stream, "\n")
            self._is_open = False

    @property
    def _room(self) -> int:
        # The last column stays free: a cursor beyond it would begin the next line.
        return self._columns() - 1

    def _draw(self, line: str) -> None:
        _write(self._stream, f"\r\x1b[K{line}")
        self._is_open, self._last = True, line


class Lines(_Shown):
    """Lines of a log: the first state, the last one, and between them one every half a minute."""

    seconds_min = LOG_SECONDS_MIN

    def __init__(
        self,
        stream: TextIO,
        *,
        seconds_min: float = LOG_SECONDS_MIN,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(now, wall)
        self._stream = stream
        self._said = ""
        self.seconds_min = seconds_min

    def job(self, record: JobRecord) -> None:
        """Write the job, with the server's own sentence where it is a new one."""
        if not self._is_due(always=record.done and self._status != record.status):
            return
        self._is_news(record)
        style = Style(is_unicode=_takes(self._stream, "…"), has_bar=False)
        elapsed, now = self.elapsed_seconds, self._wall()
        line = job_line(record, LOG_COLUMNS, elapsed, now_seconds=now, style=style)
        said = detail(record)
        news = f"  {said}" if said and said != self._said else ""
        self._said = said
        _write(self._stream, f"{clean(record.request_id)}  {line}{news}\n")

    def transfer(self, verb: str, done: int, total: int | None) -> None:
        """Write nothing: a log has no use for single bytes."""

    def count(self, what: str, done: int, total: int) -> None:
        """Write nothing: a log has no use for that."""

    def note(self, text: str) -> None:
        """Write the sentence."""
        _write(self._stream, clean(text) + "\n")


class Notebook(_Shown):
    """HTML below a cell, replaced as the job goes on; no widgets, no scripts."""

    seconds_min = NOTEBOOK_SECONDS_MIN

    def __init__(
        self,
        show: Show,
        *,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(now, wall)
        self._show = show
        self._replace: Callable[[str, str], None] | None = None
        self._notes: list[str] = []
        self._body = ""
        self._text = ""

    def job(self, record: JobRecord) -> None:
        """Show the job."""
        if self._is_due(always=self._is_news(record) or record.done):
            elapsed, now = self.elapsed_seconds, self._wall()
            self._body = notebook.job_html(record, elapsed_seconds=elapsed, now_seconds=now)
            self._text = job_line(record, _COLUMNS, elapsed, now_seconds=now)
            self._update()

    def transfer(self, verb: str, done: int, total: int | None) -> None:
        """Show how far an upload or a download is."""
        elapsed = self._transfer_seconds(verb)
        if self._is_due(always=done == total):
            self._text = transfer_line(verb, done, total, _COLUMNS, elapsed_seconds=elapsed)
            self._body = notebook.transfer_html(verb, done, total, elapsed_seconds=elapsed)
            self._update()

    def count(self, what: str, done: int, total: int) -> None:
        """Show how many things are done."""
        if self._is_due(always=done == total):
            self._text = count_line(what, done, total, _COLUMNS)
            self._body = notebook.count_html(what, done, total)
            self._update()

    def note(self, text: str) -> None:
        """Keep the sentence above what is shown."""
        self._notes.append(text)
        self._update()

    def _update(self) -> None:
        html = notebook.with_notes(self._notes, self._body)
        text = "\n".join([*map(clean, self._notes), self._text]).strip()
        if self._replace is None:
            self._replace = self._show(html, text)
        else:
            self._replace(html, text)


def auto(
    stream: TextIO | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    modules: Mapping[str, Any] | None = None,
) -> Progress:
    """Return what suits the place: a notebook, a terminal, or a log (CI and pipes).

    `PENSTOCK_PROGRESS` says otherwise: bar, lines, notebook or none. `stream` is standard error.
    """
    stream = sys.stderr if stream is None else stream
    environ = os.environ if environ is None else environ
    shell = in_notebook(sys.modules if modules is None else modules)
    mode = environ.get("PENSTOCK_PROGRESS", "")
    if mode == "none":
        return Silent(stream)
    if shell is not None and mode in {"", "auto", "notebook"}:
        return Notebook(shell)
    if mode == "bar" or (mode != "lines" and _is_live(stream, environ)):
        return Bar(stream, style=style_of(stream, environ))
    return Lines(stream)


def chosen(progress: Choice, stream: TextIO | None = None) -> Progress:
    """Return what a caller asked for as `progress=`."""
    if progress is True or progress == "auto":
        return auto(stream)
    if progress is False or progress is None:
        return Silent(sys.stderr if stream is None else stream)
    if isinstance(progress, str):
        return auto(stream, environ={**os.environ, "PENSTOCK_PROGRESS": progress})
    return progress


def in_notebook(modules: Mapping[str, Any]) -> Show | None:
    """Return how to show HTML below a cell, or None where this is no notebook.

    A notebook has imported IPython long before us, so that it need not be imported to be asked.
    """
    ipython = modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    display = modules.get("IPython.display") or importlib.import_module("IPython.display")

    def show(html: str, text: str) -> Callable[[str, str], None]:
        handle = display.display(_bundle(html, text), raw=True, display_id=True)

        def replace(html: str, text: str) -> None:
            handle.update(_bundle(html, text), raw=True)

        return replace

    return show


def style_of(stream: TextIO, environ: Mapping[str, str]) -> Style:
    """Return what the stream can show; `NO_COLOR` is honoured."""
    colour = not environ.get("NO_COLOR") and _is_live(stream, environ)
    return Style(colour=colour, is_unicode=_takes(stream, "█░…"))


def columns_of(stream: TextIO) -> int:
    """Return how wide the stream's terminal is, 80 where it has none."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        # Not a terminal, or not even a file: whoever draws there gets the usual width.
        return _COLUMNS


def _bundle(html: str, text: str) -> dict[str, str]:
    return {"text/html": html, "text/plain": text}


def _is_live(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether a line of the stream can be drawn again, and somebody looks."""
    if environ.get("CI") or environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def _takes(stream: TextIO, characters: str) -> bool:
    try:
        characters.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        # An old terminal, which gets plain letters instead.
        return False
    return True


def _write(stream: TextIO, text: str) -> None:
    """Write at once; a name that the stream's encoding lacks is written as `?`."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()
