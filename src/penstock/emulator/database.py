"""The emulator's memory: one SQLite file, one connection, one lock.

Every change is one short transaction, so a `kill -9` at any moment leaves a state that a restart
can continue. `synchronous=NORMAL` is enough for that: the kernel survives the process.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, created_us INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT NOT NULL, name TEXT NOT NULL, document BLOB NOT NULL,
    PRIMARY KEY (bucket, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uploads (id TEXT PRIMARY KEY, document BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, document BLOB NOT NULL);
"""


class Database:
    """Thread-safe access to the state file."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        # One connection for all threads: the lock below is what makes that safe.
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Give the file back; the object must not be used afterwards."""
        with self._lock:
            self._connection.close()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a query; also runs a single statement as its own transaction."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        found = self.rows(query, *values)
        return found[0] if found else None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside happens or nothing; other threads wait."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def setting(self, name: str) -> str | None:
        """A stored text, or None."""
        found = self.row("SELECT value FROM settings WHERE name = ?", name)
        return None if found is None else str(found[0])

    def set_setting(self, name: str, value: str) -> None:
        """Store a text under a name."""
        self.rows("INSERT OR REPLACE INTO settings VALUES (?, ?)", name, value)

    def count(self, name: str) -> int:
        """Add one to a counter and give its new value; the first value is 1."""
        query = (
            "INSERT INTO counters VALUES (?, 1) "
            "ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value"
        )
        return int(self.rows(query, name)[0][0])

    def counters(self) -> dict[str, int]:
        """All counters by name."""
        return {str(name): int(value) for name, value in self.rows("SELECT * FROM counters")}
