"""Opening Postgres: how a connection behaves, whoever made the server's configuration.

READ COMMITTED is enough for us. Each move of a job is one UPDATE whose WHERE repeats what its
writer knows. Postgres waits there for whoever holds the row, and then looks at the row anew: the
second of two writers finds another state and changes nothing.
"""

from threading import Event
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from penstock.store.leftovers import Leftovers
from penstock.store.location import Postgres

CONNECT_SECONDS: Final = 3
"""libpq takes whole seconds and no fewer than two."""

STATEMENT_SECONDS: Final = 30
"""Ends what the server still does for a client that has given up, or has gone."""

LOCK_SECONDS: Final = 10
"""Waiting for a row that another process holds; more means that one hangs."""

IDLE_SECONDS: Final = 5
"""A process that froze within a transaction holds its rows no longer, so that another one can take
over its work. None of our transactions waits for anything but the database."""

ENGINE_SCHEMA: Final = "penstock_engine"
"""The engine's tables are in the same database and cannot meet ours."""

_CONNECT_ARGUMENTS: Final[dict[str, Any]] = {
    "connect_timeout": CONNECT_SECONDS,
    # A server that vanished without a word is noticed within seconds, and not by the kernel's two
    # hours. All of it can be set otherwise in the URL.
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4000,
}

_SESSION: Final = {
    # An answer of 200 promises that the row survives a power cut, whatever the server's default is.
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
}
_OURS: Final = _SESSION | {
    "statement_timeout": f"{STATEMENT_SECONDS}s",
    "lock_timeout": f"{LOCK_SECONDS}s",
}


def open_postgres(location: Postgres, leftovers: Leftovers) -> AsyncEngine:
    """Return the engine of the store."""
    engine = create_async_engine(location.url, **_pool(location, "penstock"))

    # Before the listener that settles the session, in which a caller may be cancelled.
    @sa.event.listens_for(engine.sync_engine, "connect")
    def _on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401  # a DB-API connection
        leftovers.add(connection.driver_connection)

    _settle_sessions(engine.sync_engine, _OURS)
    return engine


def open_engine_postgres(location: Postgres) -> sa.Engine:
    """Return what DBOS works on. It has its own bounds for statements and retries by itself."""
    engine = sa.create_engine(location.url, **_pool(location, "penstock engine"))
    _settle_sessions(engine, _SESSION)
    _close_stragglers(engine)
    return engine


def open_for_migrations(location: Postgres) -> sa.Engine:
    """Return an engine for one connection without bounds: an index of a large table takes long."""
    engine = sa.create_engine(
        location.url,
        poolclass=sa.NullPool,
        hide_parameters=True,
        connect_args=_arguments(location, "penstock migrations"),
    )
    _settle_sessions(engine, {"synchronous_commit": "on"})
    return engine


def _pool(location: Postgres, name: str) -> dict[str, Any]:
    return {
        "pool_size": location.connections_max,
        "max_overflow": 0,
        "pool_timeout": location.seconds_max,
        # After a restart of the server each connection would fail once, at whoever gets it.
        "pool_pre_ping": True,
        # Errors quote their statement; its values (digests, payloads) stay out of logs.
        "hide_parameters": True,
        "connect_args": _arguments(location, name),
    }


def _arguments(location: Postgres, name: str) -> dict[str, Any]:
    defaults = {"application_name": name, **_CONNECT_ARGUMENTS}
    return {key: value for key, value in defaults.items() if key not in location.url.query}


def _settle_sessions(engine: sa.Engine, values: dict[str, str]) -> None:
    # By SQL and not by the start-up packet, which poolers in between refuse.
    settings = ", ".join(f"set_config('{key}', '{value}', false)" for key, value in values.items())

    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401  # a DB-API connection
        cursor = connection.cursor()
        cursor.execute(f"SELECT {settings}")
        cursor.close()
        # The pool rolls back what it gets back, and the settings with it.
        connection.commit()


def _close_stragglers(engine: sa.Engine) -> None:
    """Close what comes back to the pool after its end: the engine has threads that outlive it."""
    has_ended = Event()

    @sa.event.listens_for(engine, "engine_disposed")
    def _on_disposed(_engine: sa.Engine) -> None:
        has_ended.set()

    @sa.event.listens_for(engine, "checkin")
    def _on_checkin(_connection: object, record: Any) -> None:  # noqa: ANN401  # SQLAlchemy's record
        if has_ended.is_set():
            record.invalidate()
