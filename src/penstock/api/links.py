"""Download links: HMAC-signed, expiring, bound to one job's one output.

The link is the capability, so that any HTTP client can fetch the file; the API key never travels
with it. A link has one spelling: whatever differs from what was made here by a byte is refused.
"""

import hmac
import re
from typing import Final

import msgspec

from penstock.clock import Clock
from penstock.core.job import Job
from penstock.errors import Forbidden

_FORM: Final = "penstock/link/v2 attachment"
PARTIAL: Final = b"partial=true&"
"""Before the rest of a query: the link is to a look at a job that runs, and bound to that one."""

_QUERY: Final = re.compile(rb"expires=([1-9][0-9]{9,11})&signature=([0-9a-f]{64})")


class Links:
    """Makes and checks links."""

    def __init__(self, key: bytes, clock: Clock, seconds: int) -> None:
        self._key = key
        self._clock = clock
        self._seconds = seconds

    def query(self, job: Job) -> str:
        """Return the query string of a link that works from now for `seconds`."""
        expires = int(self._clock.now()) + self._seconds
        return f"expires={expires}&signature={self._signature(job, expires)}"

    def check(self, job: Job | None, query: bytes) -> Job:
        """Return the job if its link with this query is ours and fresh; else raise `Forbidden`."""
        # An unknown job, a forged signature and a missing one give the same answer.
        refusal = Forbidden(
            "The download link is not valid.",
            code="link_invalid",
            hint="GET /requests/{request_id} again for a fresh output_url.",
        )
        found = _QUERY.fullmatch(query)
        if job is None or found is None:
            raise refusal
        expires = int(found[1])
        if not hmac.compare_digest(self._signature(job, expires).encode(), found[2]):
            raise refusal
        if expires <= self._clock.now():
            raise Forbidden(
                "The download link has expired.",
                code="link_expired",
                hint="GET /requests/{request_id} again for a fresh output_url.",
            )
        return job

    def _signature(self, job: Job, expires: int) -> str:
        # As JSON, so that no two lists of parts are the same bytes.
        bound = msgspec.json.encode(
            [_FORM, "GET", job.org_id, job.id, job.output_name, job.output_sha256, expires]
        )
        return hmac.digest(self._key, bound, "sha256").hex()
