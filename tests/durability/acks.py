"""Holds a trace to the rule: no answer of success before all that it promises is on the disk.

At the first byte of a 2xx nothing may be dirty, and what the request has to write must have been
written. Whoever is answered may rely on everything that this server wrote before, so the rule does
not ask which thread wrote what for whom: requests are sent one after the other, and whatever is
dirty at an answer counts. What no answer rests on is named by the caller (`Rules.apart`).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec
from tests.durability.disk import Disk, Rules
from tests.durability.trace import Call, read_calls

NAME_HEADER: Final = "X-Request-ID"
"""Names a request; whoever drives the server sets it among the first fields."""

STDOUT: Final = "stdout"
"""The name of the only answer of a command: the first byte of its output."""

_REQUEST: Final = re.compile(r"(?:GET|POST|PATCH|PUT|DELETE|HEAD|OPTIONS) /")
_NAME: Final = re.compile(rf"\\r\\n{NAME_HEADER}: ([\w.-]+)\\r\\n", re.IGNORECASE)
_ANSWER: Final = re.compile(r"HTTP/1\.1 ([2-5]\d\d) ")
_ID: Final = re.compile(r"\b(req|upl)_[0-9a-zA-Z]+")

_WRITES: Final = frozenset(
    {
        *("write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "fallocate"),
        *("copy_file_range", "sendfile"),
    }
)
_SYNCS: Final = frozenset({"fsync", "fdatasync"})
_SENDS: Final = frozenset({"sendto", "sendmsg", "write", "writev"})
_RECEIVES: Final = frozenset({"recvfrom", "recvmsg", "read", "readv"})
_SOCKET: Final = "socket:["
_OUTPUT: Final = 1
"""The descriptor of the standard output."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, and what the disk held at its first byte."""

    name: str
    status: int
    touched: frozenset[str]
    """What was written since the request came and is still there; ids are `*`."""
    unsynced: tuple[str, ...]
    is_handed_over: bool
    """Whether another process was given the client's connection."""

    @property
    def is_success(self) -> bool:
        """Whether it promises anything."""
        return 200 <= self.status < 300


class _Request:
    """A request without an answer."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.touched: set[Path] = set()
        self.is_handed_over = False


class Watch:
    """Goes through a trace once and collects the answers."""

    def __init__(self, rules: Rules, there: Iterable[Path] = (), *, is_command: bool) -> None:
        """Watch a server, or a command, which has one answer and nobody who asks."""
        self._rules = rules
        self._disk = Disk(rules, there)
        self._is_command = is_command
        self._requests: dict[str, _Request] = {}
        """By the socket that the request came on."""
        self._first_thread: int | None = None
        """What a command starts for itself has a standard output of its own."""
        if is_command:
            self._requests[STDOUT] = _Request(STDOUT)
        self.answers: list[Answer] = []

    def begins(self, call: Call) -> None:
        """Take the moment at which a call begins: what is sent may be read from now on."""
        self._first_thread = self._first_thread or call.thread
        if call.descriptor is None:
            return
        number, target = call.descriptor
        if target.startswith(_SOCKET):
            if call.name in _SENDS:
                self._sends(call, target)
        elif self._is_output(call, number):
            self._answer(STDOUT, 200)
        elif call.name in _WRITES and self._rules.is_ours(Path(target)):
            self._disk.write_begins(Path(target))

    def _is_output(self, call: Call, number: int) -> bool:
        return (
            self._is_command
            and call.thread == self._first_thread
            and number == _OUTPUT
            and call.name in _SENDS
        )

    def ends(self, call: Call) -> None:
        """Take the moment at which a call ends: what it asked for is done."""
        if call.name in _BY_PATH:
            if call.is_good:
                _BY_PATH[call.name](self, call)
        elif call.descriptor is not None:
            self._ends_on(call, call.descriptor[1])

    def _ends_on(self, call: Call, target: str) -> None:
        if call.name in _SYNCS:
            if call.is_good:
                self._disk.sync(Path(target), call.begin)
        elif target.startswith(_SOCKET):
            if call.name in _RECEIVES:
                self._receives(call, target)
        elif call.name in _WRITES and self._rules.is_ours(Path(target)):
            self._disk.write_ends(Path(target), call.end)
            self._touch(Path(target))

    # -- names -----------------------------------------------------------------------------------

    def opened(self, call: Call) -> None:
        """Take an open, which may make a file or empty one."""
        path = call.paths[0]
        if not self._rules.is_ours(path):
            return
        if not self._disk.is_there(path):
            if call.name == "creat" or "O_CREAT" in call.arguments:
                self.named(call)
        elif call.name == "creat" or "O_TRUNC" in call.arguments:
            self._disk.write_ends(path, call.end)
            self._touch(path)

    def truncated(self, call: Call) -> None:
        """Take the cut of a file that is not open."""
        if self._rules.is_ours(call.paths[0]):
            self._disk.write_ends(call.paths[0], call.end)
            self._touch(call.paths[0])

    def renamed(self, call: Call) -> None:
        """Take a move."""
        source, target = call.paths
        if self._rules.is_ours(source) and self._rules.is_ours(target):
            self._disk.rename(source, target, call.end)
            self._touch(source.parent)
            self._touch(target)

    def named(self, call: Call) -> None:
        """Take a new name; where there are two, the last one is new."""
        path = call.paths[-1]
        if self._rules.is_ours(path):
            self._disk.add(path, call.end)
            self._touch(path)

    def unnamed(self, call: Call) -> None:
        """Take a name that goes."""
        path = call.paths[0]
        if self._rules.is_ours(path):
            self._disk.remove(path, call.end)
            self._touch(path.parent)

    # -- requests --------------------------------------------------------------------------------

    def _receives(self, call: Call, target: str) -> None:
        text = "".join(call.texts)
        if target not in self._requests and _REQUEST.match(text):
            name = _NAME.search(text)
            self._requests[target] = _Request("" if name is None else name[1])

    def _sends(self, call: Call, target: str) -> None:
        if "SCM_RIGHTS" in call.arguments:
            for socket, request in self._requests.items():
                request.is_handed_over |= f"<{socket}>" in call.arguments
        found = _ANSWER.match("".join(call.texts))
        if found is not None and target in self._requests:
            self._answer(target, int(found[1]))

    def _answer(self, target: str, status: int) -> None:
        request = self._requests.pop(target, None)
        if request is not None:
            self.answers.append(
                Answer(
                    name=request.name,
                    status=status,
                    touched=frozenset(map(self._shown, filter(self._is_left, request.touched))),
                    unsynced=tuple(_ID.sub(r"\1_*", one) for one in self._disk.unsynced()),
                    is_handed_over=request.is_handed_over,
                )
            )

    def _touch(self, path: Path) -> None:
        for request in self._requests.values():
            request.touched |= {path, path.parent}

    def _is_left(self, path: Path) -> bool:
        return self._disk.is_there(path) and path != self._rules.root

    def _shown(self, path: Path) -> str:
        # A newer SQLite commits to the log beside the database.
        name = str(path.relative_to(self._rules.root)).removesuffix("-wal")
        return _ID.sub(r"\1_*", name)


_BY_PATH: Final[Mapping[str, Callable[[Watch, Call], None]]] = MappingProxyType(
    dict.fromkeys(("open", "openat", "creat"), Watch.opened)
    | dict.fromkeys(("rename", "renameat", "renameat2"), Watch.renamed)
    | dict.fromkeys(
        ("mkdir", "mkdirat", "link", "linkat", "symlink", "symlinkat"),
        Watch.named,
    )
    | dict.fromkeys(("unlink", "unlinkat", "rmdir"), Watch.unnamed)
    | {"truncate": Watch.truncated}
)


def answers(
    lines: Iterable[str], rules: Rules, there: Iterable[Path] = (), *, is_command: bool = False
) -> list[Answer]:
    """Return all answers of a trace, in their order."""
    moments: list[tuple[int, Callable[[Call], None], Call]] = []
    watch = Watch(rules, there, is_command=is_command)
    for call in read_calls(lines):
        # A call that was not interrupted begins and ends on one line; sorting keeps that order.
        moments += [(call.begin, watch.begins, call), (call.end, watch.ends, call)]
    for _, take, call in sorted(moments, key=itemgetter(0)):
        take(call)
    return watch.answers
