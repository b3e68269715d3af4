"""Who may write to the disk now, and how much: uploads take their room before their bytes come.

Without this, uploads that fit one by one fill the disk together, and all of them fail late. What
has no room waits in line, without its body being read, so that its sender is slowed down by TCP.

Only uploads ask here. Preparing and collecting serve jobs that were promised already: they never
wait, and `disk_free_bytes_min` is the room that uploads leave them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from penstock.clock import Clock
from penstock.errors import StorageFull, TooBusy, Unavailable

PIECE_BYTES: Final = 16 * 1024 * 1024
"""What an upload of unknown length reserves at a time: its length may be a job's limit, but hardly
any is. Small enough to be worth little, large enough that asking costs nothing."""

ASK_BYTES: Final = 64 * 1024
"""What comes of a body between two questions how much was written. Even a bomb becomes only a few
megabytes between them."""

LOOK_SECONDS: Final = 1.0
"""Between looks at the disk while somebody waits: room also comes from what does not ask here."""

FULL_RETRY_SECONDS: Final = 60
"""After a full disk: somebody has to make room."""

BUSY_RETRY_SECONDS: Final = 10
"""After a long line: uploads end all the time."""


class DiskUse(msgspec.Struct, frozen=True, kw_only=True):
    """The disk under the spool, in bytes, all that is half written included."""

    total_bytes: int
    free_bytes: int
    stored_bytes: int
    """What the spool holds; 0 if nobody counts it."""


class RoomLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much uploads may take; the settings of the same names say more."""

    spool_bytes_max: int
    disk_free_bytes_min: int
    uploads_concurrency_max: int
    uploads_concurrency_tenant_max: int
    uploads_waiting_max: int
    uploads_waiting_tenant_max: int
    upload_wait_seconds_max: float


class Hold:
    """The room of one upload."""

    def __init__(self, room: "Room", org_id: str, reserved_bytes: int) -> None:
        self._room = room
        self.org_id = org_id
        self.reserved_bytes = reserved_bytes
        self.written_bytes = 0
        self._unseen_bytes = 0
        self._written: Callable[[], int] | None = None

    def follow(self, written: Callable[[], int]) -> None:
        """Ask this from now on how much is written; another process may be writing.

        It may raise `FileNotFoundError` when the upload is at its end.
        """
        self._written = written

    def look(self) -> None:
        """Learn how much is written by now."""
        if self._written is not None:
            try:
                self.written_bytes = self._written()
            except FileNotFoundError:
                # Committed or discarded: what was seen last is near enough for the moment left.
                self._written = None

    async def came(self, count_bytes: int) -> None:
        """Say that so much of the body came; now and then, cover what is written of it.

        Raises what `cover` raises.
        """
        self._unseen_bytes += count_bytes
        if self._unseen_bytes >= ASK_BYTES:
            self._unseen_bytes = 0
            await self.cover()

    async def expect(self, more_bytes: int) -> None:
        """Reserve so much beyond what is written; raises `StorageFull` as `cover` does."""
        await self._room.grow(self, more_bytes)

    async def cover(
        self, written_bytes: int | None = None, *, ahead_bytes: int = PIECE_BYTES
    ) -> None:
        """Reserve so much more if more is written by now than was expected.

        What is written is asked, unless it is given.

        Raises `StorageFull` when there is no more: others wait for what this upload holds, so it
        must not wait for them.
        """
        if written_bytes is None:
            self.look()
        else:
            self.written_bytes = written_bytes
        if self.written_bytes > self.reserved_bytes:
            await self._room.grow(self, ahead_bytes)

    @property
    def outstanding_bytes(self) -> int:
        """What this upload will still write."""
        return max(0, self.reserved_bytes - self.written_bytes)


class _Place:
    """One upload in the line."""

    def __init__(self, org_id: str, needed_bytes: int) -> None:
        self.org_id = org_id
        self.needed_bytes = needed_bytes
        self.look_again = asyncio.Event()
        self.shortage: Unavailable | None = None

    @property
    def stands_aside(self) -> bool:
        """Whether it waits for the disk itself, so that smaller ones behind it may go first."""
        return isinstance(self.shortage, StorageFull)


class Room:
    """The disk that uploads share.

    `measure` blocks and is called in a thread. Everything else runs on the event loop.
    """

    def __init__(self, measure: Callable[[], DiskUse], clock: Clock, limits: RoomLimits) -> None:
        self._measure = measure
        self._clock = clock
        self._limits = limits
        self._holds: list[Hold] = []
        self._line: list[_Place] = []
        # Measuring and taking are one step: two uploads may not both find the same room free.
        self._deciding = asyncio.Lock()

    @asynccontextmanager
    async def reserve(self, org_id: str, expected_bytes: int | None) -> AsyncIterator[Hold]:
        """Hold room for one upload, in line if need be; None when its length is not known.

        Nobody waits for an organisation that has its share of the uploads already.

        Raises `TooBusy` when other uploads hold the room for too long, `StorageFull` when the
        disk or the budget has none even without them.
        """
        needed_bytes = PIECE_BYTES if expected_bytes is None else expected_bytes
        hold = await self._enter(_Place(org_id, needed_bytes))
        try:
            yield hold
        finally:
            self._holds.remove(hold)
            self._wake()

    async def grow(self, hold: Hold, ahead_bytes: int) -> None:
        """Hold so much beyond what is written; raises `StorageFull`."""
        async with self._deciding:
            shortage = await self._shortage(ahead_bytes)
            if shortage is not None:
                raise _full("The server ran out of room in the middle of the upload") from shortage
            hold.reserved_bytes = hold.written_bytes + ahead_bytes

    async def is_full(self) -> bool:
        """Return whether not even an empty upload fits, whoever is uploading."""
        return isinstance(await self._shortage(0), StorageFull)

    async def _enter(self, place: _Place) -> Hold:
        if len(self._line) >= self._limits.uploads_waiting_max:
            raise _busy(f"{len(self._line)} uploads wait for room already")
        own = _count(self._line, place.org_id)
        if own >= self._limits.uploads_waiting_tenant_max:
            raise _busy(f"{own} uploads of your organisation wait for room already")
        self._line.append(place)
        try:
            hold = await self._try(place)
            return await self._wait(place) if hold is None else hold
        finally:
            self._line.remove(place)
            self._wake()

    async def _try(self, place: _Place) -> Hold | None:
        """Take the room if it is this one's turn and there is enough."""
        async with self._deciding:
            place.look_again.clear()
            ahead = self._line[: self._line.index(place)]
            if not all(other.stands_aside or self._has_its_share(other) for other in ahead):
                return None
            stood_aside = place.stands_aside
            place.shortage = await self._shortage(place.needed_bytes)
            if place.shortage is None:
                place.shortage = self._too_many(place)
            if place.stands_aside and not stood_aside:
                # Those behind it may go now.
                self._wake()
            if place.shortage is not None:
                return None
            hold = Hold(self, place.org_id, place.needed_bytes)
            self._holds.append(hold)
            return hold

    def _has_its_share(self, place: _Place) -> bool:
        own = _count(self._holds, place.org_id)
        return own >= self._limits.uploads_concurrency_tenant_max

    def _too_many(self, place: _Place) -> TooBusy | None:
        """Return that there are too many uploads besides this one, or None."""
        if len(self._holds) >= self._limits.uploads_concurrency_max:
            return _busy(f"{len(self._holds)} uploads are in progress")
        if self._has_its_share(place):
            own = _count(self._holds, place.org_id)
            return _busy(f"{own} uploads of your organisation are in progress")
        return None

    async def _wait(self, place: _Place) -> Hold:
        """Try again whenever something changed or may have, until the time is over."""
        deadline = asyncio.ensure_future(
            self._clock.sleep(self._limits.upload_wait_seconds_max),
        )
        try:
            while not deadline.done():
                await self._change(place, deadline)
                hold = await self._try(place)
                if hold is not None:
                    return hold
        finally:
            deadline.cancel()
        raise place.shortage or _busy("Other uploads are first in line")

    async def _change(self, place: _Place, deadline: "asyncio.Future[None]") -> None:
        changed = asyncio.ensure_future(place.look_again.wait())
        look = asyncio.ensure_future(self._clock.sleep(LOOK_SECONDS))
        waits: set[asyncio.Future[Any]] = {deadline, changed, look}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            look.cancel()

    def _wake(self) -> None:
        for place in self._line:
            place.look_again.set()

    async def _shortage(self, needed_bytes: int) -> Unavailable | None:
        """Return why so much does not fit now, or None; raises `StorageFull` if it never will."""
        limits = self._limits
        # Before measuring: what is written meanwhile counts twice rather than not at all.
        for hold in self._holds:
            hold.look()
        outstanding = sum(hold.outstanding_bytes for hold in self._holds)
        reserved = sum(hold.reserved_bytes for hold in self._holds)
        use = await asyncio.to_thread(self._measure)
        spare = use.free_bytes - limits.disk_free_bytes_min - outstanding
        most = use.total_bytes - limits.disk_free_bytes_min
        if limits.spool_bytes_max:
            spare = min(spare, limits.spool_bytes_max - use.stored_bytes - outstanding)
            most = min(most, limits.spool_bytes_max)
        if needed_bytes > max(most, 0):
            raise _full(f"The server never has room for {needed_bytes} bytes")
        if needed_bytes <= spare:
            return None
        # An upload in progress gives all of its room back if it fails, and often some of it if not.
        if needed_bytes <= spare + reserved:
            return _busy("Other uploads hold the room on the disk")
        return _full(
            f"The server has room for {max(spare, 0)} bytes, and {needed_bytes} are to come"
        )


def _count(uploads: Sequence[Hold | _Place], org_id: str) -> int:
    return sum(one.org_id == org_id for one in uploads)


def _busy(what: str) -> TooBusy:
    return TooBusy(
        f"{what}; this one has to come again.",
        hint="Try again in a moment; no job was made.",
        retry_after_seconds=BUSY_RETRY_SECONDS,
    )


def _full(what: str) -> StorageFull:
    return StorageFull(
        f"{what}.",
        hint="Try again later, or tell the operator to make room; no job was made.",
        retry_after_seconds=FULL_RETRY_SECONDS,
    )
