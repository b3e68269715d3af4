# Made from penstock/client/aio/results.py by tools/make_blocking.py; edit that one.

"""The results of a job: its output line by line, each with the server's verdict."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Generic, TypeVar

from penstock.client.blocking.api import Api
from penstock.client.blocking.wire import Wire
from penstock.client.calls import NOTHING_LEFT, backoff_seconds, decode
from penstock.client.errors import ConnectionFailed, LimitReached, NotFound, ServerFailed
from penstock.client.lines import PAGE_LINES, path_of
from penstock.client.models import JobRecord
from penstock.client.records import output_url
from penstock.client.results import NOT_OK, OK, Result, Verdict, VerdictPage
from penstock.client.stream import Stream

T = TypeVar("T")


class Results(Generic[T]):
    """The lines of an output in the order of the input; each iteration begins anew.

    One line is in memory, and a page of verdicts on those that did not end well. A cut is resumed.
    """

    def __init__(self, api: Api, request_id: str, outcomes: Sequence[str], kind: type[T]) -> None:
        self._api = api
        self._request_id = request_id
        self._outcomes = frozenset(outcomes)
        self._kind = kind

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._request_id!r})"

    def __iter__(self) -> Iterator[Result[T]]:
        job = self._api.get(self._request_id)
        output_url(job)
        can_ask = self._has_verdicts(job)
        if can_ask and self._outcomes and OK not in self._outcomes:
            for result in self._chosen():
                yield result
            return
        for result in self._all(can_ask=can_ask):
            if not self._outcomes or result.outcome in self._outcomes:
                yield result

    def _has_verdicts(self, job: JobRecord) -> bool:
        """Return whether the server can say what became of each line."""
        if job.stats.by_outcome:
            return True
        try:
            self._page((OK,), 1)
        except NotFound:
            # An output from before there was a row index, or a server from then.
            return False
        return True

    def _all(self, *, can_ask: bool) -> Iterator[Result[T]]:
        """Yield each line, with a verdict on it if it is not good."""
        verdicts = iter(self._verdicts(NOT_OK)) if can_ask else None
        verdict = None if verdicts is None else next(verdicts, None)
        numbers = count(1)
        for line in output_lines(self._api.wire, self._locate):
            number = next(numbers)
            if verdicts is None:
                yield Result(line, None, number, self._kind)
            elif verdict is not None and verdict.line == number:
                yield Result(line, verdict, number, self._kind)
                verdict = next(verdicts, None)
            else:
                yield Result(line, Verdict(line=number), number, self._kind)

    def _chosen(self) -> Iterator[Result[T]]:
        """Yield lines that did not end well, without reading the others."""
        for verdict in self._verdicts(sorted(self._outcomes), with_output=True):
            found = verdict
            if not verdict.has_output:
                # It is too large for a page with others.
                path = path_of(self._request_id, f"/{verdict.line}")
                found = decode(self._api.wire.get(path), Verdict)
            yield Result(bytes(found.output), verdict, verdict.line, self._kind)

    def _verdicts(self, outcomes: Sequence[str], *, with_output: bool = False) -> Iterator[Verdict]:
        cursor = None
        while True:
            page = self._page(outcomes, PAGE_LINES, cursor, with_output=with_output)
            yield from page.lines
            cursor = page.next_cursor
            if cursor is None:
                return

    def _page(
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
        return decode(self._api.wire.get(path_of(self._request_id), params), VerdictPage)

    def _locate(self) -> str:
        return output_url(self._api.get(self._request_id))


def output_lines(wire: Wire, locate: Callable[[], str]) -> Iterator[bytes]:
    """Yield the lines of an output; a cut is resumed, and its hash is compared before the last."""
    stream = Stream()
    while True:
        try:
            with wire.stream(locate(), stream.headers()) as answer:
                stream.begin(answer)
                if answer.status_code != NOTHING_LEFT:
                    for piece in answer.iter_raw():
                        for line in stream.feed(piece):
                            yield line
            break
        except (ConnectionFailed, LimitReached, ServerFailed) as error:
            stream.failed(error)
            wire.sleep(backoff_seconds(stream.failures))
    for line in stream.end():
        yield line
