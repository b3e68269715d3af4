"""Asks what became of the lines of a job."""

from collections.abc import AsyncIterator, Mapping

import msgspec

from penstock.client.aio.wire import Wire
from penstock.client.calls import decode
from penstock.client.lines import PAGE_LINES, Line, LineGroups, LinePage, path_of, so_far


class AsyncLineList:
    """Lines of a job that a filter wants; each iteration begins anew, and holds one page."""

    def __init__(self, wire: Wire, request_id: str, params: Mapping[str, str | None]) -> None:
        self._wire = wire
        self._request_id = request_id
        self._params = params

    async def __aiter__(self) -> AsyncIterator[Line]:
        cursor = None
        while True:
            page = await self.page(PAGE_LINES, cursor=cursor)
            for line in page.lines:
                yield line
            cursor = page.next_cursor
            if cursor is None:
                return

    async def page(self, limit: int, *, cursor: str | None = None) -> LinePage:
        """Return up to `limit` lines, and how many there are in all."""
        params = {**self._params, "limit": limit, "cursor": cursor}
        return decode(await self._wire.get(path_of(self._request_id), params), LinePage)

    async def first(self, count: int) -> LinePage:
        """Return `count` lines, or as many as there are; a server gives fewer at once."""
        page = await self.page(count)
        lines = page.lines
        while page.next_cursor is not None and len(lines) < count:
            page = await self.page(count - len(lines), cursor=page.next_cursor)
            lines = lines + page.lines
        return msgspec.structs.replace(page, lines=lines)


async def one_of(wire: Wire, request_id: str, number: int, *, partial: bool) -> Line:
    """Ask for one line, whole."""
    path = path_of(request_id, f"/{number}")
    return decode(await wire.get(path, so_far(partial=partial)), Line)


async def groups_of(wire: Wire, request_id: str, *, partial: bool) -> LineGroups:
    """Ask in which ways lines ended."""
    path = path_of(request_id, "/groups")
    return decode(await wire.get(path, so_far(partial=partial)), LineGroups)
