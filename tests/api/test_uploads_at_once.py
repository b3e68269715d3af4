"""Several requests for one upload at once: one writes, the others are told."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.api.driver import Api, Scripted, job_ids, lines
from tests.api.uploading import (
    GOOD,
    JSONL,
    Client,
    begun,
    limits,
    offset_of,
    piece,
    scripted,
    uploaded,
)
from tests.fake_clock import FakeClock

from penstock.api.uploads import _undivided
from penstock.blobs.partial import Partials
from penstock.blobs.spool import INPUT, Spool
from penstock.store.store import Store

__all__ = ["limits", "scripted"]


class Slow:
    """A body whose rest comes when the test says so."""

    def __init__(self, first: bytes, rest: bytes) -> None:
        self._first, self._rest = first, rest
        self.has_begun = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first
        self.has_begun.set()
        await self.may_go_on.wait()
        yield self._rest


async def test_of_two_pieces_at_once_one_is_refused(acme: Client, clock: FakeClock) -> None:
    """The second PATCH meets 423 without an offset; the first one is not disturbed."""
    where = await begun(acme)
    slow = Slow(GOOD[:30], GOOD[30:60])
    first = asyncio.create_task(piece(acme, where, 0, slow))
    await slow.has_begun.wait()
    second = await piece(acme, where, 0, GOOD[:30])
    assert second.status_code == 423
    assert second.headers["retry-after"] == "1"
    assert "upload-offset" not in second.headers
    slow.may_go_on.set()
    assert (await first).headers["upload-offset"] == "60"
    assert clock.slept == []


async def test_the_question_for_the_offset_ends_a_piece(acme: Client) -> None:
    """HEAD stops a piece that is still coming: what came is counted, and its sender is told."""
    where = await begun(acme)
    slow = Slow(GOOD[:30], GOOD[30:60])
    first = asyncio.create_task(piece(acme, where, 0, slow))
    await slow.has_begun.wait()
    assert await offset_of(acme, where) == 30
    ended = await first
    assert ended.status_code == 409
    assert ended.json()["code"] == "upload_interrupted"
    assert ended.headers["upload-offset"] == "30"
    done = await piece(acme, where, 30, GOOD[30:], "?1")
    assert done.status_code == 200


async def test_two_questions_at_once_end_a_piece_once(acme: Client) -> None:
    """Both wait for the same end and are told the same."""
    where = await begun(acme)
    slow = Slow(GOOD[:30], b"")
    first = asyncio.create_task(piece(acme, where, 0, slow))
    await slow.has_begun.wait()
    assert await asyncio.gather(*(offset_of(acme, where) for _ in range(3))) == [30] * 3
    assert (await first).status_code == 409


async def test_a_removal_ends_a_piece(acme: Client, tmp_path: Path) -> None:
    """DELETE does not wait for a sender; its piece is refused, and nothing stays."""
    where = await begun(acme)
    slow = Slow(GOOD[:30], GOOD[30:60])
    first = asyncio.create_task(piece(acme, where, 0, slow))
    await slow.has_begun.wait()
    assert (await acme.delete(where)).status_code == 204
    assert (await first).status_code == 409
    assert uploaded(tmp_path) == []


async def test_a_request_that_is_ended_keeps_what_came(acme: Client) -> None:
    """A server that stops ends its requests; what they brought is counted."""
    where = await begun(acme)
    slow = Slow(GOOD[:30], GOOD[30:60])
    first = asyncio.create_task(piece(acme, where, 0, slow))
    await slow.has_begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await offset_of(acme, where) == 30


async def test_a_thread_is_waited_for_however_often_its_request_is_ended() -> None:
    """Two threads never write to one file, because a request does not leave its thread behind."""
    may_end = threading.Event()
    call = asyncio.create_task(_undivided(may_end.wait))
    for _ in range(3):
        await asyncio.sleep(0)
        call.cancel()
    await asyncio.sleep(0)
    assert not call.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_lost_bytes_do_not_become_a_job(acme: Client, api: Api, store: Store) -> None:
    """When somebody took bytes away, the finish fails and no job is made of the others."""
    where = await begun(acme)
    await piece(acme, where, 0, GOOD)
    (partial,) = api.partials.all()
    api.partials.path(partial.id).write_bytes(lines(4).encode())
    assert (await piece(acme, where, len(GOOD), b"", "?1")).status_code == 500
    assert await job_ids(store) == set()


async def test_racing_pieces_append_once(acme: Client, spool: Spool) -> None:
    """Of many equal pieces at once exactly one is appended."""
    where = await begun(acme)
    answers = await asyncio.gather(*(piece(acme, where, 0, GOOD[:70]) for _ in range(6)))
    assert min(answer.status_code for answer in answers) == 204
    assert {answer.status_code for answer in answers} <= {204, 409, 423}
    assert [answer.status_code for answer in answers].count(204) == 1
    done = await piece(acme, where, 70, GOOD[70:], "?1")
    assert spool.path(done.json()["request_id"], INPUT).read_bytes() == GOOD


async def test_racing_finishes_make_one_job(acme: Client, api: Api, store: Store) -> None:
    """Of many finishes at once one makes the job; the others wait their turn or are told it."""
    where = await begun(acme)
    await piece(acme, where, 0, GOOD)
    answers = await asyncio.gather(*(piece(acme, where, len(GOOD), b"", "?1") for _ in range(6)))
    assert {answer.status_code for answer in answers} <= {200, 423}
    assert api.accepted == 1
    (job_id,) = await job_ids(store)
    told = {answer.json()["request_id"] for answer in answers if answer.status_code == 200}
    assert told == {job_id}


async def test_nothing_ends_a_finish(scripted: Scripted, acme: Client) -> None:
    """While the job is made, HEAD answers, and DELETE and PATCH meet 423."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        reached.set()
        await go_on.wait()

    scripted.before = wait
    where = await begun(acme)
    finishing = asyncio.create_task(piece(acme, where, 0, GOOD, "?1"))
    await reached.wait()
    told = await acme.head(where)
    assert told.headers["upload-offset"] == str(len(GOOD))
    assert told.headers["upload-complete"] == "?0"
    assert (await acme.delete(where)).status_code == 423
    assert (await piece(acme, where, len(GOOD), b"", "?1")).status_code == 423
    go_on.set()
    assert (await finishing).status_code == 200


async def test_an_upload_outlives_its_server(acme: Client, api: Api, tmp_path: Path) -> None:
    """The next process finds the offset and the head of the upload, and finishes it."""
    where = await begun(acme, Upload_Length=str(len(GOOD)))
    await piece(acme, where, 0, GOOD[:64])
    (left,) = Partials(tmp_path / "data").all()
    assert left == api.partials.get(left.id)
    assert (left.offset, left.length, left.org_id) == (64, len(GOOD), "acme")
    assert left.headers == {"content-type": JSONL}
