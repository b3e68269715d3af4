"""The audit log: one append-only chain an organisation, written with what it tells of.

Each row carries an HMAC over itself and over the HMAC of the row before it, under a key that is not
in the database: who can edit rows cannot edit them unseen. That the newest rows were cut off shows
only to those who kept the head of the chain elsewhere (`penstock audit verify` prints it).
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.access import Actor
from penstock.core.job import OrgId
from penstock.store import tables
from penstock.store.connections import Connections
from penstock.store.database import typed

DONE: Final = "done"
"""The result of what was done; of what was refused it is the code of the error."""

Head = tuple[int, str]
"""The number and the hash of a row."""

NO_HEAD: Final[Head] = (0, "")
"""Before the first row."""

_ROWS: Final = 500
"""How many rows are verified at a time."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the log."""

    org_id: OrgId
    number: int
    """From 1, without gaps."""
    at: float
    user_id: str
    key_id: str
    action: str
    """What was done, such as `key.create`."""
    object: str
    """The id of what it was done to."""
    result: str
    address: str
    request_id: str
    detail: str
    """JSON; never a secret."""
    hash: str = ""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a row is to say, but for who did it and its place in the chain."""

    at: float
    action: str
    target: str
    result: str = DONE
    detail: Mapping[str, Any] = {}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at a chain found."""

    rows: int
    """The number of the last row that is as it was written."""
    head: str
    """The hash of that row; empty for an empty chain."""
    broken_at: int | None = None
    """The number of the first row that is not what was written, or is missing."""
    is_complete: bool = True
    """Whether there are no more rows, or none that could be as they were written."""


class Audit:
    """Writes and checks the chains; one instance per store."""

    def __init__(self, engine: Connections, key: bytes) -> None:
        self._engine = engine
        self._reader = engine.for_reading()
        self._key = key

    async def append(
        self,
        connection: AsyncConnection,
        actor: Actor,
        at: float,
        action: str,
        target: str,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a row within the transaction that does what it tells of.

        Takes the organisation's lock: call it before anything that locks a job.
        """
        said = Said(at=at, action=action, target=target, detail=detail or {})
        await self._write(connection, actor, said)

    async def _write(self, connection: AsyncConnection, actor: Actor, said: Said) -> None:
        await lock_org(connection, actor.org_id)
        columns = tables.audit.c
        newest = (
            await connection.execute(
                sa.select(columns.number, columns.hash)
                .where(columns.org_id == actor.org_id)
                .order_by(columns.number.desc())
                .limit(1)
            )
        ).first()
        entry = Entry(
            **msgspec.structs.asdict(actor),
            number=1 if newest is None else newest.number + 1,
            at=said.at,
            action=said.action,
            object=said.target,
            result=said.result,
            detail=msgspec.json.encode(said.detail, order="sorted").decode(),
        )
        sealed = self._hash("" if newest is None else newest.hash, entry)
        row = msgspec.structs.asdict(msgspec.structs.replace(entry, hash=sealed))
        await connection.execute(tables.audit.insert().values(**row))

    async def done(
        self,
        actor: Actor,
        at: float,
        action: str,
        target: str,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Record what was done outside of the database, such as to a file."""
        async with self._engine.begin() as connection:
            await self.append(connection, actor, at, action, target, detail)

    async def refused(self, actor: Actor, at: float, action: str, target: str, code: str) -> None:
        """Record that something was asked for and not done."""
        async with self._engine.begin() as connection:
            said = Said(at=at, action=action, target=target, result=code)
            await self._write(connection, actor, said)

    async def page(
        self, org_id: OrgId, before: int | None, limit: int, action: str | None = None
    ) -> list[Entry]:
        """Return rows of the organisation, newest first, older than the number `before`.

        With an `action` only those of it, or with one such as `key.` those of what begins so.
        """
        columns = tables.audit.c
        query = sa.select(tables.audit).where(columns.org_id == org_id)
        if before is not None:
            query = query.where(columns.number < before)
        if action is not None and action.endswith("."):
            query = query.where(columns.action.startswith(action, autoescape=True))
        elif action is not None:
            query = query.where(columns.action == action)
        async with self._reader.connect() as connection:
            found = await connection.execute(query.order_by(columns.number.desc()).limit(limit))
            return [typed(row, Entry) for row in found.mappings().all()]

    async def verify(
        self,
        org_id: OrgId,
        seen: Head | None = None,
        *,
        since: Head = NO_HEAD,
        rows_max: int | None = None,
    ) -> Verdict:
        """Work out the chain again, or `rows_max` of it from the row `since` on.

        With `seen`, a row that was the newest once, it also has to be there: this shows that rows
        were cut off at the end.
        """
        columns = tables.audit.c
        rows, head = since
        number, hash_seen = seen or NO_HEAD
        while True:
            limit = _ROWS if rows_max is None else min(_ROWS, since[0] + rows_max - rows)
            if limit <= 0:
                return Verdict(rows=rows, head=head, is_complete=False)
            query = (
                sa.select(tables.audit)
                .where(columns.org_id == org_id, columns.number > rows)
                .order_by(columns.number)
                .limit(limit)
            )
            async with self._reader.connect() as connection:
                found = (await connection.execute(query)).mappings().all()
            for entry in (typed(row, Entry) for row in found):
                expected = self._hash(head, entry)
                if entry.number != rows + 1 or not hmac.compare_digest(expected, entry.hash):
                    return Verdict(rows=rows, head=head, broken_at=rows + 1)
                if entry.number == number and entry.hash != hash_seen:
                    return Verdict(rows=rows, head=head, broken_at=number)
                rows, head = entry.number, entry.hash
            if len(found) < limit:
                return Verdict(rows=rows, head=head, broken_at=rows + 1 if rows < number else None)

    def _hash(self, before: str, entry: Entry) -> str:
        # A list of JSON strings has one reading only; joined text could be cut in other places. The
        # time keeps every bit in hex.
        said = msgspec.structs.astuple(msgspec.structs.replace(entry, hash=""))
        text = [before, *(part.hex() if isinstance(part, float) else str(part) for part in said)]
        return hmac.new(self._key, msgspec.json.encode(text), hashlib.sha256).hexdigest()


async def lock_org(connection: AsyncConnection, org_id: OrgId) -> None:
    """Let nobody else append to the chain or count for the organisation until the commit.

    On SQLite a transaction that may write is alone anyway. Always before a lock on a job, never
    after one: the end of a job holds its row and waits for nobody who holds this.
    """
    if connection.dialect.name == "sqlite":
        return
    # Not FOR UPDATE: that would also hold back everybody who refers to the organisation.
    mine = sa.select(tables.orgs.c.id).where(tables.orgs.c.id == org_id)
    await connection.execute(mine.with_for_update(key_share=True))
