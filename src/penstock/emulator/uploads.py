"""Uploads that take more than one request: resumable sessions (JSON) and parts (XML).

Both survive a restart: the session is a row, the bytes are a file per session or part.
"""

import asyncio
import base64
import os
import secrets
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from penstock.emulator.database import Database
from penstock.emulator.objects import (
    Account,
    Attributes,
    Hashes,
    Incoming,
    ObjectStore,
    Preconditions,
    StoredObject,
)
from penstock.emulator.refusals import StorageRefusal, bad_storage_request
from penstock.emulator.slots import BYTES_MAX, Slot
from penstock.emulator.timestamps import SECOND_US, EmulatorClock
from penstock.emulator.transfer import batched, receive_into

PARTS_MAX: Final = 10_000
PART_BYTES_MIN: Final = 5 * 1024 * 1024
SESSION_CHUNK_BYTES: Final = 256 * 1024
SESSION_SECONDS: Final = 7 * 24 * 3600


class Session(msgspec.Struct, kw_only=True):
    """One upload in several requests. `received` is what is kept; `done` is the finished object."""

    id: str
    bucket: str
    name: str
    attributes: Attributes
    created_us: int
    preconditions: Preconditions = Preconditions()
    stated: tuple[str | None, str | None] = (None, None)
    received: int = 0
    cancelled: bool = False
    done: StoredObject | None = None
    parts: dict[int, int] = {}
    """Bytes of the parts that have files of their own, by number."""
    part_bytes: int = 0
    """Of each part that lies in its place (`slots`); 0 before the first has come."""
    placed: list[int] = []
    """The numbers of those."""

    def size_of(self, number: int) -> int | None:
        """The bytes of a part; None if it is not there. What came again replaces what was."""
        return self.parts.get(number, self.part_bytes if number in self.placed else None)


class PartBody(NamedTuple):
    """A part as it comes: its bytes, how many they are said to be, their stated checksums."""

    chunks: AsyncIterator[bytes]
    size: int
    stated: Hashes


class _Sessions:
    """Rows and files of unfinished uploads."""

    def __init__(
        self, data_dir: Path, database: Database, store: ObjectStore, clock: EmulatorClock
    ) -> None:
        self.directory = data_dir / "uploads"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.store = store
        self._database = database
        self._clock = clock

    def begin(self, target: tuple[str, str], attributes: Attributes, **more: Any) -> Session:  # noqa: ANN401 - fields of Session
        session = Session(
            id=secrets.token_urlsafe(32),
            bucket=target[0],
            name=target[1],
            attributes=attributes,
            created_us=self._clock.now_us(),
            **more,
        )
        self.save(session)
        return session

    def save(self, session: Session) -> None:
        self._database.rows(
            "INSERT OR REPLACE INTO uploads VALUES (?, ?)", session.id, msgspec.json.encode(session)
        )

    def find(self, upload_id: str) -> Session | None:
        found = self._database.row("SELECT document FROM uploads WHERE id = ?", upload_id)
        if found is None:
            return None
        session = msgspec.json.decode(found[0], type=Session)
        age_us = self._clock.now_us() - session.created_us
        return session if age_us <= SESSION_SECONDS * SECOND_US else None

    def forget(self, session: Session) -> None:
        self._database.rows("DELETE FROM uploads WHERE id = ?", session.id)


class PartUploads:
    """XML multipart uploads. Preconditions are not supported, as Google documents."""

    def __init__(self, sessions: _Sessions) -> None:
        self._sessions = sessions
        self._placing: set[tuple[str, int]] = set()
        """Parts that are coming to their places."""

    def begin(self, target: tuple[str, str], attributes: Attributes) -> str:
        """Start an upload and give its id."""
        return self._sessions.begin(target, attributes).id

    async def put_part(
        self,
        upload_id: str,
        target: tuple[str, str],
        number: int,
        body: PartBody,
    ) -> tuple[str, str]:
        """Store a part (again, if it was there already); gives its quoted ETag and its CRC32C."""
        session = self._require(upload_id, target)
        if not 1 <= number <= PARTS_MAX:
            raise bad_storage_request(f"Part numbers run from 1 to {PARTS_MAX}.")
        if self._has_place(session, number, body.size):
            hashes = await self._place(session, target, number, body)
        else:
            hashes = await self._keep(session, target, number, body)
        etag = base64.b64decode(hashes.md5 or "").hex()
        return f'"{etag}"', hashes.crc32c or ""

    def _has_place(self, session: Session, number: int, size: int) -> bool:
        """Tell whether a part may lie in a place; the first one says how large places are."""
        if not session.part_bytes and size:
            session.part_bytes = size
            self._sessions.save(session)
        is_new = session.size_of(number) is None and (session.id, number) not in self._placing
        return is_new and size == session.part_bytes and number * size <= BYTES_MAX

    async def _place(
        self, session: Session, target: tuple[str, str], number: int, body: PartBody
    ) -> Hashes:
        coming = session.id, number
        self._placing.add(coming)
        try:
            offset = (number - 1) * session.part_bytes
            with Slot(self._slots_path(session), offset) as slot:
                await receive_into(slot, body.chunks)
            hashes = _checked(slot.account, body.stated)
            # Parts arrive in parallel: take the row as it is now, not as it was before the body.
            session = self._require(session.id, target)
            session.placed.append(number)
            self._sessions.save(session)
        finally:
            self._placing.discard(coming)
        return hashes

    async def _keep(
        self, session: Session, target: tuple[str, str], number: int, body: PartBody
    ) -> Hashes:
        with self._sessions.store.incoming() as incoming:
            await receive_into(incoming, body.chunks)
            hashes = _checked(incoming.account, body.stated)
            incoming.close()
            # As in `_place`.
            session = self._require(session.id, target)
            incoming.path.rename(self._part_path(session, number))
            session.parts[number] = incoming.account.size
            self._sessions.save(session)
        return hashes

    async def complete(
        self, upload_id: str, target: tuple[str, str], numbers: list[int]
    ) -> StoredObject:
        """Join the named parts into the object; 400 for missing, disordered or too small parts."""
        session = self._require(upload_id, target)
        if not numbers or any(a >= b for a, b in pairwise(numbers)):
            raise StorageRefusal(
                400, "invalid", "The parts are not in order.", xml_code="InvalidPartOrder"
            )
        sizes = [session.size_of(number) for number in numbers]
        if None in sizes:
            raise StorageRefusal(400, "invalid", "A part is missing.", xml_code="InvalidPart")
        if any((size or 0) < PART_BYTES_MIN for size in sizes[:-1]):
            raise StorageRefusal(400, "invalid", "A part is too small.", xml_code="EntityTooSmall")
        with self._sessions.store.incoming(with_md5=False) as incoming:
            in_place = _in_place(session, numbers)
            if in_place:
                # What stands behind them is of parts that nobody wants.
                session.placed = in_place
                self._sessions.save(session)
            await asyncio.to_thread(self._join, session, numbers, len(in_place), incoming)
            stored = self._sessions.store.commit(incoming, target, session.attributes)
        self._forget(session)
        return stored

    def abort(self, upload_id: str) -> None:
        """Forget an upload and its parts; 404 if there is none."""
        session = self._sessions.find(upload_id)
        if session is None:
            raise _no_upload()
        self._forget(session)

    def _join(
        self, session: Session, numbers: list[int], in_place: int, incoming: Incoming
    ) -> None:
        """Put the parts together; so many at the beginning are not copied."""
        slots = self._slots_path(session)
        if in_place:
            os.truncate(slots, in_place * session.part_bytes)
            incoming.link(slots)
        for number in numbers[in_place:]:
            if number in session.parts:
                incoming.copy_from(self._part_path(session, number))
            else:
                offset = (number - 1) * session.part_bytes
                incoming.copy_from(slots, offset, session.part_bytes)

    def _forget(self, session: Session) -> None:
        self._sessions.forget(session)
        self._slots_path(session).unlink(missing_ok=True)
        for number in session.parts:
            self._part_path(session, number).unlink(missing_ok=True)

    def _require(self, upload_id: str, target: tuple[str, str]) -> Session:
        session = self._sessions.find(upload_id)
        if session is None or (session.bucket, session.name) != target:
            raise _no_upload()
        return session

    def _slots_path(self, session: Session) -> Path:
        return self._sessions.directory / f"{session.id}.parts"

    def _part_path(self, session: Session, number: int) -> Path:
        return self._sessions.directory / f"{session.id}.{number}"


class ResumableUploads:
    """Resumable sessions of the JSON API."""

    def __init__(self, sessions: _Sessions) -> None:
        self._sessions = sessions

    def begin(
        self,
        target: tuple[str, str],
        attributes: Attributes,
        preconditions: Preconditions,
        stated: Hashes,
    ) -> str:
        """Start a session and give its id; 404 without the bucket, 412 on preconditions."""
        store = self._sessions.store
        store.require_bucket(target[0])
        preconditions.check(store.find(*target))
        session = self._sessions.begin(
            target, attributes, preconditions=preconditions, stated=tuple(stated)
        )
        return session.id

    def require(self, upload_id: str) -> Session:
        """The session; 404 if unknown or older than a week, 499 once it was cancelled."""
        session = self._sessions.find(upload_id)
        if session is None:
            raise _no_upload()
        if session.cancelled:
            raise StorageRefusal(
                499, "clientClosedRequest", "The upload was cancelled.", xml_code="NoSuchUpload"
            )
        return session

    async def append(
        self, session: Session, offset: int, chunks: AsyncIterator[bytes], *, last: bool
    ) -> None:
        """Keep the bytes of one request that start at `offset` of the object.

        Bytes that are kept already are skipped, so a repeated chunk does no harm; a gap is refused.
        Unless these are the last bytes, only whole multiples of 256 KiB are kept, as Google does.
        """
        if offset > session.received:
            raise bad_storage_request(
                f"Invalid request. The upload continues at byte {session.received}, not {offset}."
            )
        skip = session.received - offset
        path = self._path(session)
        # What a killed server wrote without recording it is cut off first.
        await asyncio.to_thread(_open_at, path, session.received)
        whole = False
        try:
            with path.open("ab") as file:
                async for piece in batched(chunks):
                    kept = piece[skip:]
                    skip = max(0, skip - len(piece))
                    await asyncio.to_thread(file.write, kept)
            whole = last
        finally:
            # Also when the client went away: what came is kept, and a status query says so.
            size = path.stat().st_size
            if not whole:
                size -= size % SESSION_CHUNK_BYTES
            session.received = max(size, session.received)
            self._sessions.save(session)

    async def finish(self, session: Session, stated: Hashes) -> StoredObject:
        """Make the object. The session stays, so that asking again gives the same answer."""
        first = Hashes(*session.stated)
        wanted = Hashes(stated.crc32c or first.crc32c, stated.md5 or first.md5)
        path = self._path(session)
        _open_at(path, session.received)
        # If the commit is refused the bytes are gone, and the session begins again at 0.
        session.received = 0
        self._sessions.save(session)
        with self._sessions.store.incoming() as incoming:
            await asyncio.to_thread(incoming.link, path)
            path.unlink()
            session.done = self._sessions.store.commit(
                incoming,
                (session.bucket, session.name),
                session.attributes,
                session.preconditions,
                wanted,
            )
        session.received = session.done.size
        self._sessions.save(session)
        return session.done

    def cancel(self, session: Session) -> None:
        """Forget the bytes; the session answers 499 from now on."""
        session.cancelled = True
        self._sessions.save(session)
        self._path(session).unlink(missing_ok=True)

    def _path(self, session: Session) -> Path:
        return self._sessions.directory / f"{session.id}.bytes"


def upload_kinds(
    data_dir: Path, database: Database, store: ObjectStore, clock: EmulatorClock
) -> tuple[PartUploads, ResumableUploads]:
    """Both kinds of upload over the same rows and files."""
    sessions = _Sessions(data_dir, database, store, clock)
    return PartUploads(sessions), ResumableUploads(sessions)


def _in_place(session: Session, numbers: list[int]) -> list[int]:
    """The parts that can stay where they lie: if all that do lie there stand first."""
    placed = [number for number in numbers if number not in session.parts]
    return placed if placed == list(range(1, len(placed) + 1)) == numbers[: len(placed)] else []


def _checked(account: Account, stated: Hashes) -> Hashes:
    """The checksums of a part; 400 if they are not what was stated."""
    hashes = account.hashes()
    if stated.crc32c not in {None, hashes.crc32c} or stated.md5 not in {None, hashes.md5}:
        raise StorageRefusal(400, "invalid", "The hash differs.", xml_code="BadDigest")
    return hashes


def _open_at(path: Path, size: int) -> None:
    """Make the file exist with exactly `size` bytes."""
    path.touch()
    os.truncate(path, size)


def _no_upload() -> StorageRefusal:
    return StorageRefusal(
        404, "notFound", "The specified upload does not exist.", xml_code="NoSuchUpload"
    )
