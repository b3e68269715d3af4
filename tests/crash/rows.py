"""Reading the database of a server from outside."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

DATABASE: Final = "penstock.db"


def rows(data: Path, query: str) -> list[dict[str, Any]]:
    """Return the rows of a query on Penstock's own tables."""
    with closing(sqlite3.connect(f"file:{data / DATABASE}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]
