# Made from penstock/client/aio/lines.py by tools/make_blocking.py; edit that one.

"""Asks what became of the lines of a job."""

from collections.abc import Iterator, Mapping

import msgspec

from penstock.client.blocking.wire import Wire
from penstock.client.calls import decode
from penstock.client.lines import PAGE_LINES, Line, LineGroups, LinePage, path_of, so_far


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


def one_of(wire: Wire, request_id: str, number: int, *, partial: bool) -> Line:
    """Ask for one line, whole."""
    path = path_of(request_id, f"/{number}")
    return decode(wire.get(path, so_far(partial=partial)), Line)


def groups_of(wire: Wire, request_id: str, *, partial: bool) -> LineGroups:
    """Ask in which ways lines ended."""
    path = path_of(request_id, "/groups")
    return decode(wire.get(path, so_far(partial=partial)), LineGroups)
