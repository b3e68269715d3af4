"""A terminal of so many columns, and what stands on it when a command has ended.

The command is a process of its own on a pseudo-terminal, as in a person's shell. What it writes is
put on a screen here, so that a line that is drawn again and again is seen as it was last.
"""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass

ROWS = 50
PATIENCE_SECONDS = 60
_ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


@dataclass
class Screen:
    """What a person saw: the last state of each line, and everything that was ever written."""

    code: int
    lines: list[str]
    raw: str

    @property
    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.lines)


def seen(
    arguments: list[str],
    columns: int,
    *,
    typed: str = "",
    on_text: Callable[[str, int], None] | None = None,
    **environment: str,
) -> Screen:
    """Run a command on a terminal; `on_text` is given what was written so far, and the pid."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in _HIDING}
    child = subprocess.Popen(
        [sys.executable, "-m", "penstock.cli.main", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**kept, "TERM": "xterm", "LANG": "C.UTF-8", **environment},
    )
    os.close(theirs)
    try:
        os.write(ours, typed.encode())
        raw = _read(ours, child.pid, on_text)
        return Screen(child.wait(PATIENCE_SECONDS), drawn(raw), raw)
    finally:
        os.close(ours)
        if child.poll() is None:
            child.kill()
            child.wait()


_HIDING = frozenset({"COLUMNS", "LINES", "CI", "NO_COLOR", "PENSTOCK_PROGRESS"})
"""Variables of whoever runs the tests that would change what is seen."""


def drawn(raw: str) -> list[str]:
    """Return the lines of a screen: a return begins a line anew, an escape clears what follows."""
    lines = [""]
    column = 0
    at = 0
    while at < len(raw):
        escape = _ESCAPE.match(raw, at)
        if escape is not None:
            if escape[2] == "K":
                lines[-1] = lines[-1][:column]
            at = escape.end()
            continue
        character = raw[at]
        at += 1
        if character == "\r":
            column = 0
        elif character == "\n":
            lines.append("")
            column = 0
        else:
            lines[-1] = lines[-1][:column] + character + lines[-1][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines[: -1 if not lines[-1] else None]]


def _read(ours: int, pid: int, on_text: Callable[[str, int], None] | None) -> str:
    content = b""
    while True:
        ready, _, _ = select.select([ours], [], [], PATIENCE_SECONDS)
        assert ready, content.decode(errors="replace")[-2000:]
        try:
            piece = os.read(ours, 65_536)
        except OSError:
            # Linux says so when the last process of the terminal has ended.
            piece = b""
        if not piece:
            return content.decode(errors="replace")
        content += piece
        if on_text is not None:
            on_text(content.decode(errors="replace"), pid)
