"""Where the database is: a SQLite file in the data directory, or Postgres."""

from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa

from penstock.errors import ConfigurationError
from penstock.settings import Settings

DATABASE_FILE: Final = "penstock.db"
ENGINE_FILE: Final = "engine.db"
"""The engine's own tables have a file of their own, so that its writes do not wait for ours."""

_SCHEMES: Final = frozenset({"postgresql", "postgres"})
_HINT: Final = "It is postgresql://user:password@host:5432/database, or empty for SQLite."


class Postgres(msgspec.Struct, frozen=True, kw_only=True):
    """A database on a Postgres server; its password stays out of every text that it makes."""

    url: sa.URL
    connections_max: int
    seconds_max: float

    def __repr__(self) -> str:
        return f"Postgres({self})"

    def __str__(self) -> str:
        # Without the query too: libpq takes a password there as well.
        return self.url.set(drivername="postgresql", query={}).render_as_string()


Location = Path | Postgres


def location_of(settings: Settings) -> Location:
    """Return where these settings keep the database; refuse a URL that is not one of Postgres."""
    text = settings.database_url.reveal().strip()
    if not text:
        return settings.data_dir / DATABASE_FILE
    return Postgres(
        url=_url(text),
        connections_max=settings.database_connections_max,
        seconds_max=settings.database_seconds_max,
    )


def _url(text: str) -> sa.URL:
    # No message quotes the text: whatever is wrong with it, it has a password somewhere.
    scheme, separator, _ = text.partition("://")
    if not separator:
        raise ConfigurationError("database_url is not a URL.", hint=_HINT)
    if scheme not in _SCHEMES:
        raise ConfigurationError(
            f"database_url begins with {scheme[:20]}://, which is not a database that we know.",
            hint=_HINT,
        )
    try:
        return sa.make_url(text).set(drivername="postgresql+psycopg")
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigurationError("database_url cannot be read.", hint=_HINT) from None
