"""Directives that a later job heals: `[[emulator:fail-once=429]]` strikes in the first job only.

Which jobs have met a request is kept with the state, so a job that a kill interrupted is struck
again when its run starts again, and only another job gets through.
"""

import hashlib
from typing import Final

import orjson

from penstock.emulator.database import Database
from penstock.emulator.directives import ONCE

_TIMES: Final = "times"
_KEPT: Final = "once:"


class Once:
    """What the directives of a request mean in one job."""

    def __init__(self, database: Database, job_id: str) -> None:
        self._database = database
        self._job_id = job_id

    def resolve(self, request: object, directives: dict[str, str]) -> dict[str, str]:
        """The directives that strike in this job, `-once` left away from their names."""
        passing = {name for name in directives if name.endswith(ONCE)}
        if not passing:
            return directives
        meant = {name: value for name, value in directives.items() if name not in passing}
        if self._job_number(request) <= _times(directives):
            for name in passing:
                meant[name.removesuffix(ONCE)] = directives[name]
        return meant

    def _job_number(self, request: object) -> int:
        """The number of this job among those that have met the request, from 1."""
        canonical = orjson.dumps(request, option=orjson.OPT_SORT_KEYS)
        name = _KEPT + hashlib.sha256(canonical).hexdigest()
        with self._database.transaction():
            known = self._database.setting(name)
            jobs = [] if known is None else known.split()
            if self._job_id not in jobs:
                jobs.append(self._job_id)
                self._database.set_setting(name, " ".join(jobs))
        return jobs.index(self._job_id) + 1


def _times(directives: dict[str, str]) -> int:
    written = directives.get(_TIMES, "1")
    return int(written) if written.isascii() and written.isdigit() else 1
