"""The end of a round: the job's end, or the beginning of the next round if lines are to be retried.

Another round follows by itself if the job's policy selects lines of the output, its rounds are not
used up, nobody cancelled it and its money allows it. The output of the round that ends, its bill
and the order for the next one are one transaction, so no death in between loses any of it.
"""

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from penstock.core.job import Job
from penstock.core.limits import Limits
from penstock.core.line_index import Kind, LineIndex
from penstock.core.money import usd_text
from penstock.core.options import RETRIED, Selection
from penstock.core.retry import count_selected, expected_micro_dollars, is_over_cap
from penstock.core.state import JobState
from penstock.errors import BlobError, Unavailable
from penstock.lifecycle.ports import Ports
from penstock.store.jobs import Finish
from penstock.store.rounds import Round

_log = logging.getLogger(__name__)


async def conclude(ports: Ports, job: Job, finish: Finish) -> bool:
    """Write how a round ended, with an output; False if the job has left it already."""
    now = ports.clock.now()
    following = await _following(ports, job, finish)
    is_written = following is not None and await ports.jobs.again(job, now, finish, following)
    if not is_written:
        # Also where a cancel came in between: then this was the last round.
        is_written = await ports.jobs.finish(job.id, now, finish, only_attempt=job.attempt)
    if is_written:
        await _forget(ports, job, finish)
    return is_written


async def _following(ports: Ports, job: Job, finish: Finish) -> Round | None:
    """Return the round that follows by itself, or None."""
    index_name = finish.index_name
    if index_name is None or finish.state is not JobState.SUCCEEDED:
        return None
    if not _may_go_on(job, ports.limits):
        return None
    selection = selection_of(job)
    async with ports.blobs.local(job.id, index_name) as path:
        kinds = await asyncio.to_thread(_kinds, path)
    lines = count_selected(kinds, selection, job.problem_count)
    if lines <= 0:
        return None
    spent = finish.cost_micro_dollars
    expected = expected_micro_dollars(job, lines, spent)
    if is_over_cap(job, spent, expected):
        cap = usd_text(job.options.max_cost_micro_dollars or 0)
        detail = f"{lines} lines are not sent again: the job would cost more than {cap} USD."
        await ports.jobs.event(job.id, ports.clock.now(), "retry_over_cap", detail)
        return None
    return Round(selection=selection, lines=lines, micro_dollars=expected)


def selection_of(job: Job) -> Selection:
    """Return what the job's policy selects.

    Its own outcomes are all sent; of those that every job retries, what another try may mend.
    """
    outcomes = job.options.retry.outcomes
    return Selection(outcomes=outcomes, only_retryable=set(outcomes) <= set(RETRIED))


def _may_go_on(job: Job, limits: Limits) -> bool:
    attempts = min(job.options.retry.attempts, limits.retry_attempts_max)
    is_wanted = job.cancel_requested_at is None and job.stop_reason is None
    return is_wanted and job.round <= attempts and job.round < limits.job_rounds_max


def _kinds(path: Path) -> Sequence[Kind]:
    with path.open("rb", buffering=0) as file:
        return LineIndex(lambda offset, size: os.pread(file.fileno(), size, offset)).kinds


async def _forget(ports: Ports, job: Job, finish: Finish) -> None:
    """Remove the files of the output that was replaced."""
    for name in (job.output_name, job.index_name):
        if name is not None and name not in {finish.output_name, finish.index_name}:
            try:
                await ports.blobs.remove(job.id, name)
            except (BlobError, Unavailable) as error:
                # Nobody's download needs it, and `prune` finds it.
                _log.warning("an old output of %s stays for now: %s", job.id, error.message)
