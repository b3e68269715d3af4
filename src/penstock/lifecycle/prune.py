"""Remove bytes that belong to no job: what a crash between rename and commit leaves behind."""

import asyncio

from penstock.lifecycle.ports import Ports


async def prune_orphans(ports: Ports) -> int:
    """Remove job folders without a row and half-written files; return how many.

    Only for a process that holds the data directory alone and accepts nothing yet: an upload in
    progress looks just like an orphan.
    """
    removed = await asyncio.to_thread(ports.spool.clear_incoming)
    known = await ports.jobs.all_ids()
    for job_id in await asyncio.to_thread(list, ports.spool.job_ids()):
        if job_id not in known:
            await asyncio.to_thread(ports.spool.remove_job, job_id)
            removed += 1
    return removed
