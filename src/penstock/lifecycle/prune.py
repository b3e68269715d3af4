"""Remove bytes that belong to no job: what deaths between a file and its row leave behind.

Also outputs, and looks at running jobs, that no row names: who wrote one died, or another one was
first. And the files of shards whose job has its output.
"""

import asyncio
import logging
import math
import re
from collections.abc import AsyncIterator
from typing import Final

from penstock.blobs.spool import OUTPUT
from penstock.blobs.store import Folder
from penstock.core import look
from penstock.core.state import TERMINAL
from penstock.lifecycle.ports import Ports
from penstock.store.idempotency import Idempotency
from penstock.store.jobs import Kept

_log = logging.getLogger(__name__)

ROWS: Final = 500
"""How many jobs are asked for at a time."""

ORPHANS_MAX: Final = 100
"""More jobs without a row than this, and than with one: then it is the database that is wrong."""

_OUTPUT: Final = re.compile(r"output(-[0-9a-f]{8})?\.(jsonl|index)\Z")


async def prune_orphans(ports: Ports) -> int:
    """Remove half-written files, and orphans where nobody else writes; return how many.

    Only for a process that holds the data directory alone and accepts nothing yet: an upload in
    progress looks just like an orphan.
    """
    removed = await asyncio.to_thread(ports.spool.clear_incoming)
    if not ports.blobs.is_shared:
        removed += await prune(ports, math.inf)
    return removed


async def keep_pruned(ports: Ports) -> None:
    """Prune a place that is shared, for ever; only what is far too old to be in progress."""
    while ports.blobs.is_shared:
        await ports.clock.sleep(ports.timing.prune_seconds)
        # An upload in pieces may commit the files of its job again as long as it is open.
        seconds = max(ports.timing.orphan_seconds, ports.limits.upload_seconds_max)
        try:
            await prune(ports, ports.clock.now() - seconds)
        except Exception:  # noqa: BLE001  # a loop's boundary: logged, and tried again
            _log.exception("pruning the object storage failed; trying again")


async def keep_keys_pruned(keys: Idempotency, ports: Ports) -> None:
    """Forget old idempotency keys, for ever."""
    while True:
        await ports.clock.sleep(ports.timing.prune_seconds)
        try:
            await keys.prune(ports.limits.idempotency_seconds, ports.clock.now())
        except Exception:  # noqa: BLE001  # a loop's boundary: logged, and tried again
            _log.exception("forgetting old idempotency keys failed; trying again")


async def prune(ports: Ports, before: float) -> int:
    """Remove what was written before then and no row knows; return how many jobs and files."""
    orphans: list[str] = []
    outputs: list[tuple[str, str]] = []
    known = 0
    async for folders in _in_groups(ports.blobs.folders()):
        kept = await ports.jobs.kept([folder.job_id for folder in folders])
        known += len(kept)
        for folder in folders:
            job = kept.get(folder.job_id)
            if job is not None:
                names = _leftovers(folder, job, before, is_shared=ports.blobs.is_shared)
                outputs += [(folder.job_id, name) for name in names]
            elif all(written_at < before for written_at in folder.files.values()):
                orphans.append(folder.job_id)
    if len(orphans) > max(ORPHANS_MAX, known):
        _log.error(
            "%d jobs have files and no row, %d have both: is it another database's place? "
            "Nothing is removed",
            len(orphans),
            known,
        )
        return 0
    for job_id in orphans:
        await ports.blobs.remove_job(job_id)
    for job_id, name in outputs:
        await ports.blobs.remove(job_id, name)
    return len(orphans) + len(outputs)


def _leftovers(folder: Folder, job: Kept, before: float, *, is_shared: bool) -> list[str]:
    if is_shared and job.state not in TERMINAL:
        # Somebody may still wake up and name one of them.
        return []
    if job.is_spent:
        return [name for name, written_at in folder.files.items() if written_at < before]
    named = {job.output_name or OUTPUT, job.index_name or ""}
    if job.state not in TERMINAL:
        # A look at a running job; one that stays behind at the end is of no use to anybody.
        named |= {job.partial_name or "", job.partial_index_name or ""}
    return [
        name
        for name, written_at in folder.files.items()
        if (_OUTPUT.match(name) or look.FILES.match(name))
        and name not in named
        and written_at < before
    ]


async def _in_groups(folders: AsyncIterator[Folder]) -> AsyncIterator[list[Folder]]:
    group: list[Folder] = []
    async for folder in folders:
        group.append(folder)
        if len(group) == ROWS:
            yield group
            group = []
    if group:
        yield group
