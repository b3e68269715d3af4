"""A look at the output of a job that still runs: what the provider had exported by then.

All that is to be known of its bytes stands in the name of its file, so that a row needs no more
than the name to deliver it: `partial-<8 random>-<bytes>-<SHA-256>.jsonl`. The random part keeps two
processes from replacing each other's file, the rest is what a download states of its bytes.
"""

import re
from typing import Final

import msgspec

from penstock.core.job import Job
from penstock.core.state import JobState

PENDING: Final = "pending"
"""The code of a line that has not ended yet; no line of a final output has it."""

_NAME: Final = re.compile(r"partial-[0-9a-f]{8}-([0-9]{1,15})-([0-9a-f]{64})\.jsonl\Z")
FILES: Final = re.compile(r"partial-[0-9a-f]{8}(-[0-9a-f-]+)?\.(jsonl|index)\Z")
"""All files of looks, whether a row names them or not."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one look."""

    name: str
    index_name: str
    at: float
    """When the provider was asked, in seconds since the epoch."""
    lines: int
    """Lines that had ended by then."""
    size_bytes: int
    sha256: str


def output_name(token: str, size_bytes: int, sha256: str) -> str:
    """Return the name of the file with a line for each line of the job."""
    return f"partial-{token}-{size_bytes}-{sha256}.jsonl"


def index_name(token: str) -> str:
    """Return the name of the row index that belongs to it."""
    return f"partial-{token}.index"


def is_wanted(job: Job) -> bool:
    """Return whether somebody asked for a look since the last one, and there may be one.

    Nobody gets one of a later round: the output of the round before has more in it.
    """
    wanted_at = job.partial_wanted_at
    if job.state is not JobState.RUNNING or wanted_at is None or job.output_name is not None:
        return False
    return job.stop_reason is None and (job.partial_at is None or wanted_at > job.partial_at)


def look_of(job: Job) -> Look | None:
    """Return the newest look at a job that runs, if there is one."""
    if job.state not in {JobState.RUNNING, JobState.COLLECTING} or job.output_name is not None:
        # A job that has an output, of this round or of one before, has something better.
        return None
    found = _NAME.match(job.partial_name or "")
    if found is None or job.partial_index_name is None:
        return None
    return Look(
        name=found[0],
        index_name=job.partial_index_name,
        at=job.partial_at or 0.0,
        lines=job.partial_lines or 0,
        size_bytes=int(found[1]),
        sha256=found[2],
    )


def with_look(job: Job, look: Look) -> Job:
    """Return the job as if the look were its output, for those that deliver outputs."""
    return msgspec.structs.replace(
        job,
        output_name=look.name,
        index_name=look.index_name,
        output_bytes=look.size_bytes,
        output_sha256=look.sha256,
    )
