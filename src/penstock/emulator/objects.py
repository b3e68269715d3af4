"""The object store: names and metadata in SQLite, bytes in files with generated names.

An object's name never becomes a path. Bytes arrive in a temporary file and are renamed once they
are whole, so a reader sees the old object or the new one. A reader keeps its file open, so an
overwrite or a delete does not disturb it (the file is unlinked, not truncated).
"""

import base64
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import google_crc32c
import msgspec

from penstock.emulator.database import Database
from penstock.emulator.log import EventLog
from penstock.emulator.refusals import StorageRefusal, bad_storage_request
from penstock.emulator.timestamps import EmulatorClock

NAME_BYTES_MAX = 1024
COMPOSE_SOURCES_MAX = 32
COPY_CHUNK_BYTES = 1 << 20
_LIST_BATCH = 1000
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]\Z")
_HIGHEST_CHARACTER = "\U0010ffff"


class Attributes(msgspec.Struct, frozen=True, kw_only=True):
    """What a writer may say about an object besides its bytes."""

    content_type: str = "application/octet-stream"
    content_encoding: str | None = None
    content_disposition: str | None = None
    content_language: str | None = None
    cache_control: str | None = None
    metadata: dict[str, str] = {}


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """One live object. `crc32c` and `md5` are base64, as the API states them; `md5` may be None."""

    bucket: str
    name: str
    generation: int
    metageneration: int
    size: int
    crc32c: str
    md5: str | None
    created_us: int
    updated_us: int
    file: str
    attributes: Attributes
    component_count: int | None = None

    @property
    def etag(self) -> str:
        """The quoted ETag: the MD5 where there is one, else the generation."""
        if self.md5 is None:
            return f'"-{self.generation}"'
        return f'"{base64.b64decode(self.md5).hex()}"'


class Preconditions(msgspec.Struct, frozen=True, kw_only=True):
    """Generation conditions of a call; 0 stands for "there is no object"."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    def check(self, current: StoredObject | None) -> None:
        """StorageRefusal 412 `conditionNotMet` unless the current object fits."""
        generation = 0 if current is None else current.generation
        metageneration = 0 if current is None else current.metageneration
        fits = (
            self.generation_match in {None, generation}
            and (self.generation_not_match is None or self.generation_not_match != generation)
            and self.metageneration_match in {None, metageneration}
            and (
                self.metageneration_not_match is None
                or self.metageneration_not_match != metageneration
            )
        )
        if not fits:
            raise StorageRefusal(
                412,
                "conditionNotMet",
                "At least one of the pre-conditions you specified did not hold.",
                xml_code="PreconditionFailed",
            )


NO_PRECONDITIONS = Preconditions()


class Hashes(NamedTuple):
    """Checksums that a sender stated; None where it stated none."""

    crc32c: str | None = None
    md5: str | None = None


class Account:
    """Running size and checksums of bytes on their way in."""

    def __init__(self, *, with_md5: bool = True) -> None:
        self.size = 0
        self._crc32c = google_crc32c.Checksum()
        self._md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None

    def add(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._crc32c.update(chunk)
        if self._md5 is not None:
            self._md5.update(chunk)
        self.size += len(chunk)

    def hashes(self) -> Hashes:
        """The checksums so far, base64."""
        md5 = None if self._md5 is None else base64.b64encode(self._md5.digest()).decode()
        return Hashes(base64.b64encode(self._crc32c.digest()).decode(), md5)


class Incoming:
    """Bytes on their way in: a temporary file with running checksums.

    A context manager: what was not committed by its end is gone.
    """

    def __init__(self, path: Path, *, with_md5: bool = True) -> None:
        self.path = path
        self.account = Account(with_md5=with_md5)
        self._file = path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def link(self, path: Path) -> None:
        """Make a finished file of ours the content without copying it; blocks for the disk.

        Both names stay until their owners remove them, and nobody else writes to it any more.
        """
        self._file.close()
        self.path.unlink()
        self.path.hardlink_to(path)
        with self.path.open("rb") as file:
            while chunk := file.read(COPY_CHUNK_BYTES):
                self.account.add(chunk)
        self._file = self.path.open("ab")

    def write(self, chunk: bytes) -> None:
        """Append; blocks for the disk, so call it off the event loop for large bodies."""
        self._file.write(chunk)
        self.account.add(chunk)

    def copy_from(self, source: Path, offset: int = 0, size: int | None = None) -> None:
        """Append a whole file, or a part of it."""
        left = source.stat().st_size - offset if size is None else size
        with source.open("rb") as file:
            file.seek(offset)
            while chunk := file.read(min(left, COPY_CHUNK_BYTES)):
                self.write(chunk)
                left -= len(chunk)

    def close(self) -> None:
        """No more bytes."""
        self._file.close()


class ListQuery(msgspec.Struct, frozen=True, kw_only=True):
    """One page request. `after` is exclusive and may be a common prefix of the page before."""

    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    start_offset: str = ""
    end_offset: str = ""
    limit: int = 1000


class ListPage(NamedTuple):
    """Objects and common prefixes in name order; `next_after` is None on the last page."""

    objects: list[StoredObject]
    prefixes: list[str]
    next_after: str | None


class ObjectStore:
    """Buckets and objects. All methods are synchronous and thread-safe."""

    def __init__(
        self, data_dir: Path, database: Database, clock: EmulatorClock, log: EventLog
    ) -> None:
        self._files = data_dir / "objects"
        self._temporary = data_dir / "incoming"
        self._files.mkdir(parents=True, exist_ok=True)
        self._temporary.mkdir(parents=True, exist_ok=True)
        # Whatever a killed process was receiving is nobody's; upload sessions live elsewhere.
        for leftover in self._temporary.iterdir():
            leftover.unlink()
        self._database = database
        self._clock = clock
        self._log = log

    def create_bucket(self, name: str) -> int:
        """Make a bucket and give its creation time; 400 for a bad name, 409 if it exists."""
        if not _BUCKET_NAME.match(name):
            raise bad_storage_request(f"Invalid bucket name: '{name}'")
        if self.bucket_created_us(name) is not None:
            raise StorageRefusal(
                409,
                "conflict",
                "Your previous request to create the named bucket succeeded.",
                xml_code="BucketAlreadyOwnedByYou",
            )
        created_us = self._clock.now_us()
        self._database.rows("INSERT INTO buckets VALUES (?, ?)", name, created_us)
        return created_us

    def bucket_created_us(self, name: str) -> int | None:
        """When the bucket was made, or None if there is none."""
        found = self._database.row("SELECT created_us FROM buckets WHERE name = ?", name)
        return None if found is None else int(found[0])

    def require_bucket(self, name: str) -> int:
        """When the bucket was made; 404 if there is none."""
        created_us = self.bucket_created_us(name)
        if created_us is None:
            raise StorageRefusal(
                404,
                "notFound",
                "The specified bucket does not exist.",
                xml_code="NoSuchBucket",
            )
        return created_us

    def buckets(self) -> list[tuple[str, int]]:
        """All buckets by name, with their creation times."""
        return [(str(a), int(b)) for a, b in self._database.rows("SELECT * FROM buckets")]

    def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket; 409 if it holds objects."""
        self.require_bucket(name)
        if self._database.row("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", name):
            raise StorageRefusal(
                409,
                "conflict",
                "The bucket you tried to delete is not empty.",
                xml_code="BucketNotEmpty",
            )
        self._database.rows("DELETE FROM buckets WHERE name = ?", name)

    def find(self, bucket: str, name: str) -> StoredObject | None:
        """The live object, or None."""
        found = self._database.row(
            "SELECT document FROM objects WHERE bucket = ? AND name = ?", bucket, name
        )
        return None if found is None else msgspec.json.decode(found[0], type=StoredObject)

    def get(self, bucket: str, name: str) -> StoredObject:
        """The live object; 404 naming what is missing."""
        self.require_bucket(bucket)
        found = self.find(bucket, name)
        if found is None:
            raise StorageRefusal(
                404, "notFound", f"No such object: {bucket}/{name}", xml_code="NoSuchKey"
            )
        return found

    def path(self, stored: StoredObject) -> Path:
        """Where the bytes lie; open it before anything else can replace the object."""
        return self._files / stored.file[:2] / stored.file

    def incoming(self, *, with_md5: bool = True) -> Incoming:
        """A place for new bytes; use it in a `with` statement."""
        return Incoming(self._temporary / secrets.token_hex(16), with_md5=with_md5)

    def commit(
        self,
        incoming: Incoming,
        target: tuple[str, str],
        attributes: Attributes,
        preconditions: Preconditions = NO_PRECONDITIONS,
        stated: Hashes | None = None,
        component_count: int | None = None,
    ) -> StoredObject:
        """Make the bytes the live object of `target` (bucket, name).

        StorageRefusal: 400 for a bad name or a checksum that differs from what was stated, 404
        without the bucket, 412 on preconditions.
        """
        incoming.close()
        bucket, name = target
        self.require_bucket(bucket)
        _check_name(name)
        hashes = incoming.account.hashes()
        _check_hashes(hashes, stated)
        file = secrets.token_hex(16)
        final = self._files / file[:2] / file
        final.parent.mkdir(exist_ok=True)
        with self._database.transaction():
            before = self.find(bucket, name)
            preconditions.check(before)
            now_us = self._clock.now_us()
            stored = StoredObject(
                bucket=bucket,
                name=name,
                generation=self._next_generation(now_us),
                metageneration=1,
                size=incoming.account.size,
                crc32c=hashes.crc32c or "",
                md5=hashes.md5,
                created_us=now_us,
                updated_us=now_us,
                file=file,
                attributes=attributes,
                component_count=component_count,
            )
            incoming.path.rename(final)
            self._save(stored)
        if before is not None:
            self.path(before).unlink(missing_ok=True)
        self._log.write(
            "object_written",
            uri=f"gs://{bucket}/{name}",
            bytes=stored.size,
            generation=str(stored.generation),
            crc32c=stored.crc32c,
        )
        return stored

    def _next_generation(self, now_us: int) -> int:
        # Generations never repeat nor run back, even when the clock stands still or runs back.
        last = int(self._database.setting("generation") or "0")
        generation = max(now_us, last + 1)
        self._database.set_setting("generation", str(generation))
        return generation

    def _save(self, stored: StoredObject) -> None:
        self._database.rows(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?)",
            stored.bucket,
            stored.name,
            msgspec.json.encode(stored),
        )

    def delete(
        self, bucket: str, name: str, preconditions: Preconditions = NO_PRECONDITIONS
    ) -> None:
        """Remove an object; 404 if it is not there, 412 on preconditions."""
        with self._database.transaction():
            stored = self.get(bucket, name)
            preconditions.check(stored)
            self._database.rows("DELETE FROM objects WHERE bucket = ? AND name = ?", bucket, name)
        self.path(stored).unlink(missing_ok=True)
        self._log.write("object_deleted", uri=f"gs://{bucket}/{name}", bytes=stored.size)

    def update_attributes(
        self, bucket: str, name: str, attributes: Attributes, preconditions: Preconditions
    ) -> StoredObject:
        """Replace what is said about an object; its metageneration grows by one."""
        with self._database.transaction():
            stored = self.get(bucket, name)
            preconditions.check(stored)
            changed = msgspec.structs.replace(
                stored,
                attributes=attributes,
                metageneration=stored.metageneration + 1,
                updated_us=self._clock.now_us(),
            )
            self._save(changed)
        return changed

    def compose(
        self,
        sources: list[StoredObject],
        target: tuple[str, str],
        attributes: Attributes,
        preconditions: Preconditions = NO_PRECONDITIONS,
    ) -> StoredObject:
        """Concatenate at most 32 objects of the target's bucket; the result has no MD5."""
        if not 1 <= len(sources) <= COMPOSE_SOURCES_MAX:
            raise bad_storage_request(
                f"The number of source components provided ({len(sources)}) is not in 1-32."
            )
        count = sum(source.component_count or 1 for source in sources)
        with self.incoming(with_md5=False) as incoming:
            for source in sources:
                incoming.copy_from(self.path(source))
            return self.commit(incoming, target, attributes, preconditions, component_count=count)

    def copy(
        self,
        source: StoredObject,
        target: tuple[str, str],
        attributes: Attributes | None = None,
        preconditions: Preconditions = NO_PRECONDITIONS,
    ) -> StoredObject:
        """Copy the bytes, and what is said about them unless `attributes` replaces it."""
        with self.incoming(with_md5=source.md5 is not None) as incoming:
            incoming.copy_from(self.path(source))
            return self.commit(
                incoming,
                target,
                attributes or source.attributes,
                preconditions,
                component_count=source.component_count,
            )

    def list_page(self, bucket: str, query: ListQuery) -> ListPage:
        """One page in name order; names that share a part up to the delimiter count once."""
        self.require_bucket(bucket)
        objects: list[StoredObject] = []
        prefixes: list[str] = []
        after = query.after
        while True:
            batch = self._batch_after(bucket, query, after)
            for stored in batch:
                entry = _entry(stored.name, query)
                if entry is not None and entry == after and entry.endswith(query.delimiter):
                    continue
                if len(objects) + len(prefixes) >= query.limit:
                    return ListPage(objects, prefixes, after)
                if entry is None:
                    objects.append(stored)
                    after = stored.name
                    continue
                prefixes.append(entry)
                after = entry
                break  # The rest of this batch may lie under the prefix: ask again behind it.
            else:
                if len(batch) < _LIST_BATCH:
                    return ListPage(objects, prefixes, None)

    def _batch_after(self, bucket: str, query: ListQuery, after: str) -> list[StoredObject]:
        # A common prefix as the starting point means: behind everything under that prefix.
        is_prefix = bool(query.delimiter) and after.endswith(query.delimiter)
        behind = after + _HIGHEST_CHARACTER if is_prefix and after > query.prefix else after
        lowest = max(query.prefix, query.start_offset)
        found = self._database.rows(
            "SELECT document FROM objects WHERE bucket = ? AND name > ? AND name >= ? "
            "AND name <= ? AND (? = '' OR name < ?) ORDER BY name LIMIT ?",
            bucket,
            behind,
            lowest,
            query.prefix + _HIGHEST_CHARACTER,
            query.end_offset,
            query.end_offset,
            _LIST_BATCH,
        )
        return [msgspec.json.decode(document, type=StoredObject) for (document,) in found]

    def matching(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """All objects below a prefix, in name order."""
        after = ""
        while True:
            page = self.list_page(bucket, ListQuery(prefix=prefix, after=after))
            yield from page.objects
            if page.next_after is None:
                return
            after = page.next_after


def _entry(name: str, query: ListQuery) -> str | None:
    """The common prefix that stands for this name in the list, or None if it stands for itself."""
    if not query.delimiter:
        return None
    cut = name.find(query.delimiter, len(query.prefix))
    return None if cut < 0 else name[: cut + len(query.delimiter)]


def _check_name(name: str) -> None:
    length = len(name.encode("utf-8", "surrogatepass"))
    if not 1 <= length <= NAME_BYTES_MAX or "\r" in name or "\n" in name or name in {".", ".."}:
        raise bad_storage_request(f"Invalid object name: {name[:80]!r}")


def _check_hashes(computed: Hashes, stated: Hashes | None) -> None:
    if stated is None:
        return
    pairs = (
        ("CRC32C", stated.crc32c, computed.crc32c),
        ("MD5 hash", stated.md5, computed.md5),
    )
    for label, wanted, found in pairs:
        if wanted is not None and found is not None and wanted != found:
            raise StorageRefusal(
                400,
                "invalid",
                f'Provided {label} "{wanted}" doesn\'t match calculated {label} "{found}".',
                xml_code="BadDigest",
            )


def read_at(descriptor: int, offset: int, length: int) -> bytes:
    """`length` bytes at `offset`, fewer only at the end of the file."""
    return os.pread(descriptor, length, offset)
