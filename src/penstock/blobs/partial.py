"""Uploads that come in pieces: bytes that outlive a cut connection, a kill and a power cut.

Each upload has two files in `uploads/`: `<id>.part` with its bytes and `<id>.json` with what is
known of it. The second one is replaced as a whole, and only after the bytes that it counts were
synced: its `offset` is therefore a promise, while the length of the first one is not (a file system
may keep the length and lose the bytes). What stands beyond the offset is cut off before anything
is appended.

What a crash can leave behind: bytes without a state, which are removed at the next start, and a
state whose bytes are fewer than it says, which says that somebody else changed the directory; that
upload is given up, because a hole in the middle must not become a job.

All states are also in memory: only the one server that holds the data directory writes here.
"""

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import msgspec

from penstock.core.job import JobId, OrgId
from penstock.directory import make_directory, sync_directory
from penstock.errors import StorageFull
from penstock.fault import fault

_log = logging.getLogger(__name__)

CHECKPOINT_BYTES: Final = 32 * 1024 * 1024
"""Synced at least this often within one append: what a kill costs the client at most."""

_BYTES: Final = ".part"
_STATE: Final = ".json"
_NEW: Final = ".new"


class Partial(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one upload."""

    id: str
    org_id: OrgId
    created_at: float
    headers: dict[str, str]
    """What the head of its creation said of the body that its pieces add up to."""

    query: str
    length: int | None = None
    """Bytes of the whole, once they are known."""

    offset: int = 0
    """Bytes that are durable."""

    job_id: JobId | None = None
    """The job that it becomes; written before the job is made, so that it can be made once."""

    is_finished: bool = False
    """The job is there and the bytes are not any more."""


class Partials:
    """The directory; all methods block but `get`, `all`, `count_open` and `open_tail`."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "uploads"
        make_directory(self._folder)
        self._known = self._load()

    def get(self, upload_id: str) -> Partial | None:
        """Return the upload, whoever owns it."""
        return self._known.get(upload_id)

    def all(self) -> list[Partial]:
        """Return all uploads."""
        return list(self._known.values())

    def count_open(self, org_id: OrgId) -> int:
        """Return how many unfinished uploads a tenant has."""
        return sum(partial.org_id == org_id and not partial.is_finished for partial in self.all())

    def create(self, partial: Partial) -> None:
        """Begin an upload; it is durable when this returns."""
        try:
            self.path(partial.id).touch(exist_ok=False)
        except OSError as error:
            raise _full(error) from error
        self.put(partial)

    def put(self, partial: Partial) -> None:
        """Replace what is known of an upload; durable when this returns."""
        target = self._folder / f"{partial.id}{_STATE}"
        new = target.with_suffix(_NEW)
        try:
            with new.open("wb") as file:
                file.write(msgspec.json.encode(partial))
                file.flush()
                os.fsync(file.fileno())
            new.rename(target)
            sync_directory(self._folder)
        except OSError as error:
            raise _full(error) from error
        self._known[partial.id] = partial

    def open_tail(self, partial: Partial) -> "Tail":
        """Return the end of the upload's bytes, to append to it."""
        return Tail(self, partial)

    def finish(self, partial: Partial) -> None:
        """Remember that the job is there, and remove the bytes."""
        self.put(msgspec.structs.replace(partial, is_finished=True))
        self.path(partial.id).unlink(missing_ok=True)

    def remove(self, upload_id: str) -> None:
        """Remove an upload and its bytes; nothing happens if it is gone already."""
        # The state first: bytes without a state are removed at the next start.
        (self._folder / f"{upload_id}{_STATE}").unlink(missing_ok=True)
        sync_directory(self._folder)
        self.path(upload_id).unlink(missing_ok=True)
        self._known.pop(upload_id, None)

    def path(self, upload_id: str) -> Path:
        """Return where the bytes are, of which those up to the offset count."""
        return self._folder / f"{upload_id}{_BYTES}"

    def _load(self) -> dict[str, Partial]:
        """Read what an earlier process left, and remove what cannot be gone on with."""
        known: dict[str, Partial] = {}
        for path in sorted(self._folder.glob(f"*{_STATE}")):
            partial = self._read(path)
            if partial is None:
                _log.warning("the upload %s is damaged and was given up", path.stem)
                path.unlink()
            else:
                known[partial.id] = partial
        for path in list(self._folder.iterdir()):
            partial = known.get(path.stem)
            if path.suffix == _NEW or (path.suffix == _BYTES and _is_done(partial)):
                path.unlink()
        return known

    def _read(self, path: Path) -> Partial | None:
        """Return the state, or None if it and the bytes do not make an upload."""
        with suppress(msgspec.DecodeError):
            partial = msgspec.json.decode(path.read_bytes(), type=Partial)
            bytes_path = self.path(partial.id)
            size = bytes_path.stat().st_size if bytes_path.is_file() else -1
            if partial.id == path.stem and (partial.is_finished or size >= partial.offset):
                return partial
        return None


class Tail:
    """The end of an upload's bytes while a request appends to it.

    The file is opened by the first write, so that a request that ends before it leaves none open.
    """

    def __init__(self, partials: Partials, partial: Partial) -> None:
        self._partials = partials
        self._partial = partial
        self._file: IO[bytes] | None = None
        self.offset = partial.offset
        """Bytes that are written, durable or not."""

    def write(self, chunks: Iterable[bytes]) -> None:
        """Append all of the chunks, and sync now and then."""
        try:
            file = self._opened()
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    written = file.write(view)
                    self.offset += written
                    view = view[written:]
        except OSError as error:
            raise _full(error) from error
        if self.offset - self._partial.offset >= CHECKPOINT_BYTES:
            self._keep(self._partial.length)

    def close(self, rest: Iterable[bytes], length: int | None) -> Partial:
        """Append the rest and return the upload when all that was written is durable.

        Of a full disk, too, what was written before stays.
        """
        try:
            try:
                self.write(rest)
            finally:
                self._keep(length)
        finally:
            if self._file is not None:
                self._file.close()
        return self._partial

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            path = self._partials.path(self._partial.id)
            self._file = path.open("r+b", buffering=0)
            self._file.truncate(self.offset)
            self._file.seek(self.offset)
        return self._file

    def _keep(self, length: int | None) -> None:
        """Make what is written durable, and then count it."""
        kept = msgspec.structs.replace(self._partial, offset=self.offset, length=length)
        if kept == self._partial:
            return
        try:
            os.fsync(self._opened().fileno())
        except OSError as error:
            raise _full(error) from error
        fault("upload.synced")
        self._partials.put(kept)
        self._partial = kept


def _is_done(partial: Partial | None) -> bool:
    return partial is None or partial.is_finished


def _full(error: OSError) -> StorageFull:
    return StorageFull(
        f"The server could not write: {error.strerror}.",
        hint="HEAD tells what is stored. Try again later, or tell the operator to make room.",
        retry_after_seconds=60,
    )
