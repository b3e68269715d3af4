"""The store: one engine, the tables' queries grouped by what they are about."""

from pathlib import Path

import sqlalchemy as sa

from penstock.store.audit import Audit
from penstock.store.connections import Connections
from penstock.store.database import migrate, open_engine_sqlite, open_sqlite
from penstock.store.deliveries import Deliveries
from penstock.store.glance import Glance
from penstock.store.history import History
from penstock.store.idempotency import Idempotency
from penstock.store.jobs import Jobs
from penstock.store.keys import Keys
from penstock.store.leftovers import Leftovers
from penstock.store.location import ENGINE_FILE, Location
from penstock.store.looks import Looks
from penstock.store.orgs import Orgs
from penstock.store.postgres import open_engine_postgres, open_postgres
from penstock.store.tenants import Tenants
from penstock.store.usage import Usage
from penstock.store.users import Users
from penstock.store.webhooks import Webhooks
from penstock.store.workers import Workers


class Store:
    """Everything that survives a restart, except bytes."""

    def __init__(self, engine: Connections, audit_key: bytes = b"") -> None:
        self._engine = engine
        self.audit = Audit(engine, audit_key)
        self.deliveries = Deliveries(engine, self.audit)
        self.history = History(engine)
        self.idempotency = Idempotency(engine)
        self.jobs = Jobs(engine, self.audit)
        self.keys = Keys(engine, self.audit)
        self.looks = Looks(engine)
        self.orgs = Orgs(engine, self.audit)
        self.tenants = Tenants(engine)
        self.usage = Usage(engine)
        self.users = Users(engine, self.audit)
        self.webhooks = Webhooks(engine, self.audit)
        self.workers = Workers(engine)

    @classmethod
    def open(cls, location: Location, audit_key: bytes = b"") -> "Store":
        """Migrate the database and open it; blocks, so call it at start-up only.

        Without an `audit_key` the log still shows accidents, but not a forger.
        """
        migrate(location)
        leftovers = Leftovers()
        if isinstance(location, Path):
            # A write waits there for the writers before it, for as long as the disk needs.
            engine, glance = open_sqlite(location, leftovers), Glance(location)
            return cls(Connections(engine, leftovers, glance=glance), audit_key)
        engine, seconds_max = open_postgres(location, leftovers), location.seconds_max
        return cls(Connections(engine, leftovers, seconds_max=seconds_max), audit_key)

    async def ping(self) -> None:
        """Raise if the database does not answer; it takes no lock, a long write is no outage."""
        async with self._engine.for_reading().connect() as connection:
            await connection.execute(sa.select(1))

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def engine_database(location: Location) -> sa.Engine:
    """Return the database of the workflow engine that belongs to this store."""
    if isinstance(location, Path):
        return open_engine_sqlite(location.with_name(ENGINE_FILE))
    return open_engine_postgres(location)
