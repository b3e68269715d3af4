"""Starts the server with one promise broken: `python broken.py FAULT serve …`.

The check must find each of them, or it finds nothing.
"""

import os
import stat
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from penstock.cli.main import main
from penstock.core.job import Job, OrgId
from penstock.store import database
from penstock.store.admission import Admission
from penstock.store.jobs import Jobs

_fsync = os.fsync


def no_directory() -> None:
    """Directories are not synced: a rename is undone by a power cut."""

    def fsync(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            _fsync(descriptor)

    os.fsync = fsync  # type: ignore[assignment]  # it takes any object with a fileno, too


def no_file() -> None:
    """The server's own files are not synced: they come back empty or in part."""

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            _fsync(descriptor)

    os.fsync = fsync  # type: ignore[assignment]


def normal() -> None:
    """The database does not sync its last commit: `synchronous` below what its journal needs."""
    safe = database.journal_of
    database.journal_of = lambda version: (safe(version)[0], "NORMAL")


def early() -> None:
    """The answer goes out before the row is committed: that happens when somebody asks for it."""
    add, get = Jobs.add, Jobs.get
    waiting: list[tuple[Job, Admission]] = []

    async def remember(_jobs: Jobs, job: Job, admission: Admission) -> None:
        waiting.append((job, admission))

    async def get_late(jobs: Jobs, org_id: OrgId, job_id: str) -> Job | None:
        while waiting:
            await add(jobs, *waiting.pop())
        return await get(jobs, org_id, job_id)

    Jobs.add = remember  # type: ignore[method-assign, assignment]
    Jobs.get = get_late  # type: ignore[method-assign, assignment]


FAULTS: Final[Mapping[str, Callable[[], None]]] = MappingProxyType(
    {"no-directory": no_directory, "no-file": no_file, "normal": normal, "early": early}
)

if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    main()
