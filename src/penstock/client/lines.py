"""The lines of a job as the client reads them: `client.lines(job_id, outcome=["error"])`."""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from penstock.client.wire import Wire, decode

PAGE_LINES: Final = 1_000
"""What is asked for at once; a server with smaller pages gives fewer."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one line; `line` is its number in the input, from 1.

    `outcome` is a word such as `ok`, `blocked` or `error`, `code` says more, `retryable` whether
    another try may mend it. `output` is the line of the output, where it was asked for.
    """

    line: int
    outcome: str
    code: str = ""
    retryable: bool = False
    round: int = 1
    twin: bool = False
    prompt_tokens: int = 0
    output_tokens: int = 0
    output_bytes: int = 0
    hint: str = ""
    output: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Whether there is an answer with nothing wrong."""
        return self.outcome == "ok"

    @property
    def text(self) -> str:
        """What the line says: its error, or the text of the answer; empty without the output."""
        output = self.output or {}
        status = output.get("status")
        return status if isinstance(status, str) and status else _text(output.get("response"))


class LinePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some lines of a job; `total` counts all that the filter wants, `line_count` all there are."""

    lines: list[Line]
    total: int = 0
    line_count: int = 0
    partial: bool = False
    next_cursor: str | None = None


class LineGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Lines that ended in the same way; `message` is what the example says."""

    outcome: str
    code: str = ""
    count: int = 0
    example_line: int = 0
    message: str = ""
    retryable: bool = False
    hint: str = ""


class LineGroups(msgspec.Struct, frozen=True, kw_only=True):
    """In which ways the lines of a job ended: what went wrong first, the commonest first."""

    groups: list[LineGroup]
    line_count: int = 0
    partial: bool = False


class LineList:
    """Lines of a job that a filter wants; each iteration begins anew, and holds one page."""

    def __init__(self, wire: Wire, request_id: str, params: Mapping[str, str | None]) -> None:
        self._wire = wire
        self._request_id = request_id
        self._params = params

    def __iter__(self) -> Iterator[Line]:
        cursor = None
        while True:
            page = self.page(PAGE_LINES, cursor=cursor)
            yield from page.lines
            cursor = page.next_cursor
            if cursor is None:
                return

    def page(self, limit: int, *, cursor: str | None = None) -> LinePage:
        """Return up to `limit` lines, and how many there are in all."""
        params = {**self._params, "limit": limit, "cursor": cursor}
        return decode(self._wire.get(path_of(self._request_id), params), LinePage)

    def first(self, count: int) -> LinePage:
        """Return `count` lines, or as many as there are; a server gives fewer at once."""
        page = self.page(count)
        lines = page.lines
        while page.next_cursor is not None and len(lines) < count:
            page = self.page(count - len(lines), cursor=page.next_cursor)
            lines = lines + page.lines
        return msgspec.structs.replace(page, lines=lines)


def path_of(request_id: str, rest: str = "") -> str:
    """Return the path of a job's lines."""
    return f"/requests/{quote(request_id, safe='')}/lines{rest}"


def one_of(wire: Wire, request_id: str, number: int, *, partial: bool) -> Line:
    """Ask for one line, whole."""
    return decode(wire.get(path_of(request_id, f"/{number}"), _so_far(partial=partial)), Line)


def groups_of(wire: Wire, request_id: str, *, partial: bool) -> LineGroups:
    """Ask in which ways lines ended."""
    return decode(wire.get(path_of(request_id, "/groups"), _so_far(partial=partial)), LineGroups)


def _so_far(*, partial: bool) -> dict[str, str]:
    return {"partial": "true"} if partial else {}


def _text(response: object) -> str:
    """Return the text of the first candidate; a response may have any other shape."""
    candidates = response.get("candidates") if isinstance(response, dict) else None
    first = candidates[0] if isinstance(candidates, list) and candidates else None
    content = first.get("content") if isinstance(first, dict) else None
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, list):
        return ""
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))
