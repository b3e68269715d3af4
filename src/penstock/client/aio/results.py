"""The results of a job: its output line by line, each with the server's verdict."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import count
from typing import Generic, TypeVar

from penstock.client.aio.api import AsyncApi
from penstock.client.aio.wire import Wire
from penstock.client.calls import NOTHING_LEFT, backoff_seconds, decode
from penstock.client.errors import ConnectionFailed, LimitReached, NotFound, ServerFailed
from penstock.client.lines import PAGE_LINES, path_of
from penstock.client.models import JobRecord
from penstock.client.records import output_url
from penstock.client.results import NOT_OK, OK, Result, Verdict, VerdictPage
from penstock.client.stream import Stream

T = TypeVar("T")


class AsyncResults(Generic[T]):
    """The lines of an output in the order of the input; each iteration begins anew.

    One line is in memory, and a page of verdicts on those that did not end well. A cut is resumed.
    """

    def __init__(
        self, api: AsyncApi, request_id: str, outcomes: Sequence[str], kind: type[T]
    ) -> None:
        self._api = api
        self._request_id = request_id
        self._outcomes = frozenset(outcomes)
        self._kind = kind

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._request_id!r})"

    async def __aiter__(self) -> AsyncIterator[Result[T]]:
        job = await self._api.get(self._request_id)
        output_url(job)
        can_ask = await self._has_verdicts(job)
        if can_ask and self._outcomes and OK not in self._outcomes:
            async for result in self._chosen():
                yield result
            return
        async for result in self._all(can_ask=can_ask):
            if not self._outcomes or result.outcome in self._outcomes:
                yield result

    async def _has_verdicts(self, job: JobRecord) -> bool:
        """Return whether the server can say what became of each line."""
        if job.stats.by_outcome:
            return True
        try:
            await self._page((OK,), 1)
        except NotFound:
            # An output from before there was a row index, or a server from then.
            return False
        return True

    async def _all(self, *, can_ask: bool) -> AsyncIterator[Result[T]]:
        """Yield each line, with a verdict on it if it is not good."""
        verdicts = aiter(self._verdicts(NOT_OK)) if can_ask else None
        verdict = None if verdicts is None else await anext(verdicts, None)
        numbers = count(1)
        async for line in output_lines(self._api.wire, self._locate):
            number = next(numbers)
            if verdicts is None:
                yield Result(line, None, number, self._kind)
            elif verdict is not None and verdict.line == number:
                yield Result(line, verdict, number, self._kind)
                verdict = await anext(verdicts, None)
            else:
                yield Result(line, Verdict(line=number), number, self._kind)

    async def _chosen(self) -> AsyncIterator[Result[T]]:
        """Yield lines that did not end well, without reading the others."""
        async for verdict in self._verdicts(sorted(self._outcomes), with_output=True):
            found = verdict
            if not verdict.has_output:
                # It is too large for a page with others.
                path = path_of(self._request_id, f"/{verdict.line}")
                found = decode(await self._api.wire.get(path), Verdict)
            yield Result(bytes(found.output), verdict, verdict.line, self._kind)

    async def _verdicts(
        self, outcomes: Sequence[str], *, with_output: bool = False
    ) -> AsyncIterator[Verdict]:
        cursor = None
        while True:
            page = await self._page(outcomes, PAGE_LINES, cursor, with_output=with_output)
            for verdict in page.lines:
                yield verdict
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _page(
        self,
        outcomes: Sequence[str],
        limit: int,
        cursor: str | None = None,
        *,
        with_output: bool = False,
    ) -> VerdictPage:
        params = {
            "outcome": ",".join(outcomes),
            "limit": limit,
            "cursor": cursor,
            "include": "output" if with_output else None,
        }
        return decode(await self._api.wire.get(path_of(self._request_id), params), VerdictPage)

    async def _locate(self) -> str:
        return output_url(await self._api.get(self._request_id))


async def output_lines(wire: Wire, locate: Callable[[], Awaitable[str]]) -> AsyncIterator[bytes]:
    """Yield the lines of an output; a cut is resumed, and its hash is compared before the last."""
    stream = Stream()
    while True:
        try:
            async with wire.stream(await locate(), stream.headers()) as answer:
                stream.begin(answer)
                if answer.status_code != NOTHING_LEFT:
                    async for piece in answer.aiter_raw():
                        for line in stream.feed(piece):
                            yield line
            break
        except (ConnectionFailed, LimitReached, ServerFailed) as error:
            stream.failed(error)
            await wire.sleep(backoff_seconds(stream.failures))
    for line in stream.end():
        yield line
