"""Download links: HMAC-signed, expiring, bound to one job's one output.

The link is the capability, so that any HTTP client can fetch the file; the API key never travels
with it.
"""

import hashlib
import hmac
from urllib.parse import urlencode

from penstock.clock import Clock
from penstock.core.job import Job
from penstock.errors import Forbidden


class Links:
    """Makes and checks links."""

    def __init__(self, key: bytes, clock: Clock, seconds: int) -> None:
        self._key = key
        self._clock = clock
        self._seconds = seconds

    def query(self, job: Job) -> str:
        """Return the query string of a link that works from now for `seconds`."""
        expires = int(self._clock.now()) + self._seconds
        return urlencode({"expires": expires, "signature": self._signature(job, expires)})

    def check(self, job: Job | None, expires: str | None, signature: str | None) -> Job:
        """Return the job if the link is ours and fresh; raise `Forbidden` for everything else."""
        # An unknown job, a forged signature and a missing one give the same answer.
        refusal = Forbidden(
            "The download link is not valid.",
            code="link_invalid",
            hint="GET /requests/{request_id} again for a fresh output_url.",
        )
        if job is None or expires is None or signature is None:
            raise refusal
        # `isdigit` takes more than ASCII, and int() takes signs and underscores.
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):  # noqa: PLR2004
            raise refusal
        expected = self._signature(job, int(expires))
        if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
            raise refusal
        if int(expires) <= self._clock.now():
            raise Forbidden(
                "The download link has expired.",
                code="link_expired",
                hint="GET /requests/{request_id} again for a fresh output_url.",
            )
        return job

    def _signature(self, job: Job, expires: int) -> str:
        bound = "\n".join(("GET", job.org_id, job.id, job.output_sha256 or "", str(expires)))
        return hmac.new(self._key, bound.encode(), hashlib.sha256).hexdigest()
