"""The finish of an upload: once, whatever is killed, fails or is asked again."""

from pathlib import Path

import msgspec
import pytest
from tests.api.driver import ROOM_LIMITS, Api, Scripted, files, job_ids
from tests.api.uploading import (
    BAD,
    GOOD,
    JSONL,
    Client,
    begin,
    begun,
    limits,
    piece,
    scripted,
    uploaded,
)

from penstock.blobs.spool import INPUT, Spool
from penstock.core.job import JobId, new_job_id
from penstock.store.store import Store

__all__ = ["limits", "scripted"]


def remembered(api: Api, where: str, job_id: JobId) -> None:
    """Leave the upload as a finish does that was killed after it had chosen its job's id."""
    partials = api.partials
    partial = partials.get(where.rpartition("/")[2])
    assert partial is not None
    partials.put(msgspec.structs.replace(partial, job_id=job_id, length=partial.offset))


async def test_a_finish_killed_before_the_commit_is_done_again(
    acme: Client, api: Api, store: Store
) -> None:
    """Chosen id, no row: the next finish makes the job, with that id."""
    where = await begun(acme)
    await piece(acme, where, 0, GOOD)
    job_id = new_job_id()
    remembered(api, where, job_id)
    done = await piece(acme, where, len(GOOD), b"", "?1")
    assert done.json()["request_id"] == job_id
    assert await job_ids(store) == {job_id}


async def test_a_finish_killed_after_the_commit_finds_its_job(
    acme: Client, api: Api, store: Store, tmp_path: Path
) -> None:
    """Chosen id and a row: the next finish answers it, and the bytes go."""
    other = (await begin(acme, GOOD, complete="?1")).json()["request_id"]
    where = await begun(acme)
    await piece(acme, where, 0, GOOD)
    remembered(api, where, JobId(other))
    done = await piece(acme, where, len(GOOD), b"", "?1")
    assert done.json()["request_id"] == other
    assert api.accepted == 1
    assert await job_ids(store) == {other}
    assert all(name.endswith(".json") for name in uploaded(tmp_path))


async def broken() -> None:
    """Fail as a database does whose disk is gone."""
    raise OSError("the disk of the database is gone")


async def test_a_commit_that_failed_after_it_took_effect_is_found(
    scripted: Scripted, acme: Client, api: Api
) -> None:
    """When the database fails and yet has the row, the row is the answer."""
    scripted.after = broken
    where = await begun(acme)
    done = await piece(acme, where, 0, GOOD, "?1")
    assert done.status_code == 200
    assert await job_ids(api.store) == {done.json()["request_id"]}
    assert api.accepted == 0


async def test_a_finish_that_fails_for_our_fault_can_be_tried_again(
    scripted: Scripted, acme: Client, store: Store
) -> None:
    """An error of the server keeps the upload; the next finish makes the one job."""
    scripted.before = broken
    where = await begun(acme)
    assert (await piece(acme, where, 0, GOOD, "?1")).status_code == 500
    told = await acme.head(where)
    assert told.headers["upload-complete"] == "?0"
    scripted.before = None
    done = await piece(acme, where, len(GOOD), b"", "?1")
    assert done.status_code == 200
    assert await job_ids(store) == {done.json()["request_id"]}


@pytest.mark.parametrize(
    ("sent", "behind", "is_the_same"),
    [(GOOD, b"", True), (b"\xef\xbb\xbf" + GOOD, b"", False), (GOOD, b"{", False)],
)
async def test_lines_that_are_stored_already_are_not_copied(
    acme: Client, spool: Spool, tmp_path: Path, sent: bytes, behind: bytes, *, is_the_same: bool
) -> None:
    """The job's input is the upload's own file, unless that holds anything else.

    A byte-order mark is no part of an input, and what a killed server left behind the last piece
    does not count.
    """
    where = await begun(acme)
    await piece(acme, where, 0, sent)
    (stored,) = (tmp_path / "data" / "uploads").glob("*.part")
    with stored.open("ab") as file:
        file.write(behind)
    number = stored.stat().st_ino
    done = await piece(acme, where, len(sent), b"", "?1")
    path = spool.path(done.json()["request_id"], INPUT)
    assert (path.read_bytes(), path.stat().st_nlink) == (GOOD, 1)
    assert (path.stat().st_ino == number) is is_the_same
    assert not stored.exists()


class NearlyFull:
    """A disk with room for so many bytes of uploads."""

    total = 10**12

    def __init__(self, room_bytes: int) -> None:
        self.free = ROOM_LIMITS.disk_free_bytes_min + room_bytes


@pytest.mark.parametrize("kind", [JSONL, "application/json"])
async def test_lines_need_their_room_once(
    acme: Client, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """An upload that becomes the input needs its length; another one needs it twice."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: NearlyFull(len(GOOD)))
    begun_at = await begin(acme, kind=kind, Upload_Length=str(len(GOOD)))
    assert begun_at.status_code == (201 if kind == JSONL else 507)


async def test_lines_that_must_be_copied_ask_for_their_room(
    acme: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 507 the upload stays for another try; one that needs no copy needs no room."""
    copied, linked = await begun(acme), await begun(acme)
    marked = b"\xef\xbb\xbf" + GOOD
    await piece(acme, copied, 0, marked)
    await piece(acme, linked, 0, GOOD)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: NearlyFull(0))
        refused = await piece(acme, copied, len(marked), b"", "?1")
        assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
        assert (await piece(acme, linked, len(GOOD), b"", "?1")).status_code == 200
    assert (await piece(acme, copied, len(marked), b"", "?1")).status_code == 200


async def test_a_refusal_at_the_finish_leaves_nothing_of_the_file(
    acme: Client, tmp_path: Path
) -> None:
    """Also its second name goes."""
    where = await begun(acme)
    await piece(acme, where, 0, GOOD)
    refused = await piece(acme, where, len(GOOD), BAD, "?1")
    assert refused.status_code == 400
    assert files(tmp_path / "data") == []
