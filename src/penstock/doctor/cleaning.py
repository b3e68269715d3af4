"""Removing what a run of the doctor left behind when it was killed."""

import re
from typing import Any, Final

import msgspec

from penstock.doctor.check import Finding, fails, holds
from penstock.doctor.lab import Lab, Made
from penstock.errors import BlobMissing, PenstockError, ProviderUnreachable
from penstock.providers.provider import ENDED

NAMES: Final = ("cancel", "gone", "again", "importer", "main", "nobody", "regional")
"""Of all jobs that a run may make."""

_RUN: Final = re.compile(r"[0-9a-f]{8}")


async def clean(lab: Lab, location: str) -> Finding:
    """End the run that the marker tells of: cancel its jobs, delete its objects."""
    try:
        await lab.bucket.stat(lab.marker)
        about = msgspec.json.decode(await lab.google.read(lab.marker), type=dict[str, Any])
    except BlobMissing:
        return holds("clean-up", "nothing is left of any run")
    except (msgspec.DecodeError, UnicodeDecodeError, ProviderUnreachable) as error:
        todo = f"look at {lab.bucket.uri(lab.marker)}, and delete it"
        return fails("clean-up", f"the marker cannot be read: {error}", todo)
    except PenstockError as error:
        return fails("clean-up", error.message, error.hint or "see the rights on the bucket")
    run = str(about.get("run", ""))
    if not _RUN.fullmatch(run):
        todo = f"look at {lab.bucket.uri(lab.marker)}, and delete it"
        return fails("clean-up", "the marker names no run", todo)
    lab.resume(run)
    where = str(about.get("location", location))
    problems = await lab.clean(where, await _adopt(lab, where))
    if problems:
        return fails("clean-up", problems[0], "run it again")
    return holds("clean-up", f"the run {run} of {about.get('at')} is gone", run=run)


async def _adopt(lab: Lab, location: str) -> list[str]:
    """Find the jobs of the run that have not ended; labels are all that is known of them."""
    problems: list[str] = []
    for name in NAMES:
        label = f"doctor-{lab.run}-{name}"
        try:
            found = await lab.provider.find(label, location)
        except PenstockError as error:
            problems.append(error.message)
            continue
        for number, job in enumerate(found):
            if job.state not in ENDED:
                made = Made(label=label, display_name=job.display_name, created=job)
                lab.jobs[f"{name}-{number}"] = made
    return problems
