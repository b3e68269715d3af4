"""What `strace -f -y` wrote: calls, each with the place where it began and where it ended.

Calls of several threads overlap. What counts for durability is which began after which had ended,
so a call that was interrupted in the trace (`<unfinished ...>`, `<... resumed>`) is put together,
and both of its places are kept.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

CALLS: Final = (
    # What changes the bytes of a file.
    "write,pwrite64,writev,pwritev,pwritev2,truncate,ftruncate,fallocate,copy_file_range,sendfile,"
    # What changes the names of a directory.
    "open,openat,creat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,"
    "mkdir,mkdirat,rmdir,"
    # What makes either durable.
    "fsync,fdatasync,"
    # What a client sends and gets.
    "read,readv,recvfrom,recvmsg,sendto,sendmsg"
)

TEXT_BYTES: Final = 512
"""How much of a text strace writes: the begin of a head, with the name of the request."""

_LINE: Final = re.compile(r"(?P<thread>\d+)\s+(?P<rest>.*)", re.DOTALL)
_RESUMED: Final = re.compile(r"<\.\.\. \w+ resumed>(?P<rest>.*)", re.DOTALL)
_UNFINISHED: Final = "<unfinished ...>"
_WHOLE: Final = re.compile(
    r"(?P<name>\w+)\((?P<arguments>.*)\)\s+= (?P<result>-?\d+|\?)(?P<note>.*)", re.DOTALL
)
_DESCRIPTOR: Final = re.compile(r"(?P<number>\d+)<(?P<target>.*?)>(?P<gone>\(deleted\))?(?:,|$)")
_TEXT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_FOLDER: Final = re.compile(r"(?:AT_FDCWD|\d+)<(?P<target>[^>]*)>")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call of one thread; the places are numbers of lines."""

    thread: int
    name: str
    arguments: str
    result: int | None
    """None if it never came back."""
    note: str
    """What stands behind the result: the error, or the path of a new descriptor."""
    begin: int
    end: int

    @property
    def is_good(self) -> bool:
        """Whether the call did what it was asked."""
        return self.result is not None and self.result >= 0

    @property
    def descriptor(self) -> tuple[int, str] | None:
        """What the call works on, as a descriptor: its number and what it is open on.

        A file that has no name any more is nothing.
        """
        at = self.arguments
        if self.name == "copy_file_range":
            # It names what it reads from first, and a place in it.
            at = at.split(", ", 2)[-1]
        found = _DESCRIPTOR.match(at)
        if found is None or found["gone"] or found["target"].endswith(" (deleted)"):
            return None
        return int(found["number"]), found["target"]

    @property
    def texts(self) -> list[str]:
        """The quoted arguments, still escaped as strace escapes them."""
        return _TEXT.findall(self.arguments)

    @property
    def paths(self) -> list[Path]:
        """The quoted arguments as paths; relative ones lie in the folder that stands before."""
        folders = [found["target"] for found in _FOLDER.finditer(self.arguments)]
        paths = [Path(text) for text in self.texts]
        if len(folders) == len(paths):
            return [Path(folder) / path for folder, path in zip(folders, paths, strict=True)]
        return paths


def read_calls(lines: Iterable[str]) -> Iterator[Call]:
    """Yield the calls of a trace in the order in which they ended.

    Whatever was still going on at the end of the trace comes last, without a result.
    """
    begun: dict[int, tuple[int, str]] = {}
    place = 0
    for place, line in enumerate(lines):
        found = _LINE.match(line.rstrip("\n"))
        if found is None:
            continue
        thread, rest = int(found["thread"]), found["rest"]
        begin = place
        resumed = _RESUMED.match(rest)
        if resumed is not None and thread in begun:
            begin, head = begun.pop(thread)
            rest = head + resumed["rest"]
        if rest.endswith(_UNFINISHED):
            begun[thread] = (begin, rest.removesuffix(_UNFINISHED).rstrip())
            continue
        call = _call(thread, rest, begin, place)
        if call is not None:
            yield call
    for thread, (begin, rest) in begun.items():
        call = _call(thread, f"{rest}) = ?", begin, place + 1)
        if call is not None:
            yield call


def _call(thread: int, text: str, begin: int, end: int) -> Call | None:
    found = _WHOLE.fullmatch(text)
    if found is None:
        # A signal, or the end of a process.
        return None
    return Call(
        thread=thread,
        name=found["name"],
        arguments=found["arguments"],
        result=None if found["result"] == "?" else int(found["result"]),
        note=found["note"],
        begin=begin,
        end=end,
    )


def command(trace: Path) -> list[str]:
    """Return what runs a command under strace, its children included."""
    return [
        *("strace", "--follow-forks", "--seccomp-bpf", "--decode-fds=path", "--quiet=all"),
        *("--signal=none", f"--string-limit={TEXT_BYTES}", f"--trace={CALLS}"),
        *("--output", str(trace), "--"),
    ]


def why_not(folder: Path) -> str:
    """Say why nothing can be traced here, or nothing."""
    if shutil.which("strace") is None:
        return "strace is not installed (apt-get install strace)"
    probe = folder / "probe.strace"
    tried = subprocess.run(
        [*command(probe), sys.executable, "-S", "-c", "pass"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    if tried.returncode or "openat(" not in probe.read_text(encoding="utf-8", errors="replace"):
        return f"strace cannot trace here (ptrace is not permitted): {tried.stderr.decode()[:200]}"
    return ""
