"""The jobs that this user has met on this machine: what `@last` means, and what Tab completes.

It is a cache beside others of the user's, and losing it costs no more than `@last`. It has ids and
names; no key and no answer is in it.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

JOBS_MAX: Final = 200
"""What is kept, over all servers; the oldest go."""

FILE_BYTES_MAX: Final = 1024 * 1024
"""A file that is larger was not written here."""


class Known(NamedTuple):
    """A job of a server, as it was last seen; `is_mine` says that it was submitted from here."""

    url: str
    organization: str
    id: str
    name: str
    is_mine: bool


class Recent:
    """The file, newest job first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> list[Known]:
        """Return what is known; nothing where there is no such file, or not one of ours."""
        try:
            with self.path.open("rb") as file:
                rows = json.loads(file.read(FILE_BYTES_MAX))
            return [_read(row) for row in rows]
        except (OSError, ValueError, TypeError, KeyError):
            # A cache that cannot be read is as good as none.
            return []

    def last(self, url: str, organization: str | None) -> str | None:
        """Return the id of the job that was last submitted from here to that server."""
        wanted = (url.rstrip("/"), organization or "")
        mine = (one.id for one in self.all() if one.is_mine and one[:2] == wanted)
        return next(mine, None)

    def remember(
        self,
        url: str,
        organization: str | None,
        jobs: Iterable[tuple[str, str]],
        *,
        is_mine: bool = False,
    ) -> None:
        """Put jobs, as pairs of id and name, in front; raises OSError where nothing can be kept."""
        before = {one.id: one for one in self.all()}
        place = (url.rstrip("/"), organization or "")
        new = [
            Known(*place, job, name, is_mine or (job in before and before[job].is_mine))
            for job, name in jobs
        ]
        ids = {one.id for one in new}
        if is_mine:
            kept = [*new, *(one for one in before.values() if one.id not in ids)]
        else:
            # What was only looked at does not come before what was sent.
            kept = [*before.values(), *(one for one in new if one.id not in before)]
        self._write([one._asdict() for one in kept[:JOBS_MAX]])

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number, temporary = tempfile.mkstemp(prefix=".recent-", dir=self.path.parent)
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                json.dump(rows, file)
            Path(temporary).replace(self.path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise


def recent(environ: Mapping[str, str] = os.environ) -> Recent:
    """Return the file of this user."""
    named = environ.get("XDG_CACHE_HOME")
    folder = Path(named) if named else Path.home() / ".cache"
    return Recent(folder / "penstock" / "recent.json")


def _read(row: dict[str, Any]) -> Known:
    texts = [str(row[name]) for name in ("url", "organization", "id", "name")]
    return Known(texts[0], texts[1], texts[2], texts[3], bool(row["is_mine"]))
