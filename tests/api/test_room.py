"""What callers see when there is no room."""

import gzip
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import msgspec
import pytest
from tests.api.driver import BASE, ROOM_LIMITS, Api, files, lines, permit
from tests.fake_clock import FakeClock

from penstock.blobs.room import PIECE_BYTES, DiskUse, Room
from penstock.blobs.spool import Spool
from penstock.core.limits import Limits
from penstock.store.store import Store


@asynccontextmanager
async def server(store: Store, spool: Spool, room: Room) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an API with this room."""
    api = Api(store, spool, FakeClock(), Limits(), room=room)
    async with api.client(await permit(store, "acme")) as client:
        yield client


async def test_too_many_uploads_are_told_to_come_back(store: Store, spool: Spool) -> None:
    """503 with Retry-After when others upload for longer than one may wait."""
    limits = msgspec.structs.replace(ROOM_LIMITS, uploads_concurrency_max=1)
    room = Room(spool.measure, FakeClock(), limits)
    async with server(store, spool, room) as client:
        async with room.reserve("others", 0):
            answer = await client.post(f"{BASE}/requests", json={"input_data": lines(1)})
        again = await client.post(f"{BASE}/requests", json={"input_data": lines(1)})
    assert (answer.status_code, answer.json()["code"]) == (503, "too_busy")
    assert int(answer.headers["retry-after"]) > 0
    assert again.status_code == 200


async def test_a_budget_that_is_used_up_is_told(store: Store, tmp_path: Path) -> None:
    """507 with Retry-After when the inputs of earlier jobs fill what the operator allows."""
    spool = Spool(tmp_path / "data", is_counted=True)
    limits = msgspec.structs.replace(ROOM_LIMITS, spool_bytes_max=2_000)
    async with server(store, spool, Room(spool.measure, FakeClock(), limits)) as client:
        first = await client.post(f"{BASE}/requests", json={"input_data": lines(12)})
        answer = await client.post(f"{BASE}/requests", json={"input_data": lines(12)})
    assert first.status_code == 200
    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
    assert answer.headers["retry-after"] == "60"
    assert len(files(tmp_path / "data" / "jobs")) == 2
    assert files(tmp_path / "data" / "incoming") == []


@pytest.mark.slow
async def test_an_upload_that_outgrows_the_room_leaves_nothing(
    store: Store, spool: Spool, tmp_path: Path
) -> None:
    """A compressed body that becomes more than there is gets 507 in the middle."""
    free = iter([PIECE_BYTES + ROOM_LIMITS.disk_free_bytes_min])

    def measure() -> DiskUse:
        return DiskUse(total_bytes=2**40, free_bytes=next(free, 0), stored_bytes=0)

    # Of random letters, so that its compressed form comes in many pieces.
    text = random.Random(1).randbytes(50_000).hex()  # noqa: S311  # noise, not a secret
    body = gzip.compress((lines(1).replace("Hi", text) * 200).encode(), 1)
    room = Room(measure, FakeClock(), ROOM_LIMITS)
    async with server(store, spool, room) as client:
        answer = await client.post(
            f"{BASE}/requests",
            content=chunks(body),
            headers={"Content-Type": "application/jsonl", "Content-Encoding": "gzip"},
        )
    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
    assert files(tmp_path / "data") == []


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    """The body in pieces."""
    for start in range(0, len(body), 8_192):
        yield body[start : start + 8_192]


async def test_a_full_server_is_not_ready(store: Store, spool: Spool) -> None:
    """`/readyz` names the disk when no upload could begin."""
    limits = msgspec.structs.replace(ROOM_LIMITS, disk_free_bytes_min=2**60)
    async with server(store, spool, Room(spool.measure, FakeClock(), limits)) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"database": "ok", "disk": "full"}
