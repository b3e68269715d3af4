"""How many requests a second an organisation may make, and the headers that say so.

Each server process counts for itself, in memory: a request that is one too many costs no write, and
an organisation that reaches several processes has its quota at each of them. What is counted are
requests with a key that is known; a wrong key belongs to nobody.
"""

import math
from typing import Final

from starlette.types import Scope

from penstock.core.job import OrgId
from penstock.core.quotas import Excess, Quotas, quotas_of, refusal

RATE_STATE: Final = "rate_limit"
"""In the state of a request: the headers for its answer, where its organisation is limited."""

ORGANISATIONS_MAX: Final = 10_000
"""Whose buckets are kept. One that nobody used for a second is full, so forgetting it changes
nothing, and more than these in one second do not fit through one process."""


class Rates:
    """One bucket of tokens an organisation, filled anew within a second."""

    def __init__(self, defaults: Quotas, organisations_max: int = ORGANISATIONS_MAX) -> None:
        self._defaults = defaults
        self._organisations_max = organisations_max
        self._buckets: dict[OrgId, tuple[float, float]] = {}
        """Tokens, and when they were counted; who asked last stands last."""

    def count(self, scope: Scope, org_id: OrgId, overrides: str | None, now: float) -> None:
        """Count one request; raises `QuotaExceeded`. Either way its answer gets the headers."""
        limit = quotas_of(self._defaults, overrides).requests_second_max
        if limit == 0:
            return
        tokens, counted_at = self._buckets.pop(org_id, (float(limit), now))
        # A clock that is set back gives nothing and takes nothing.
        tokens = min(float(limit), tokens + max(0.0, now - counted_at) * limit)
        is_allowed = tokens >= 1
        tokens -= is_allowed
        self._buckets[org_id] = (tokens, now)
        if len(self._buckets) > self._organisations_max:
            del self._buckets[next(iter(self._buckets))]
        scope.setdefault("state", {})[RATE_STATE] = {
            "RateLimit-Limit": str(limit),
            "RateLimit-Remaining": str(int(tokens)),
            "RateLimit-Reset": str(math.ceil((limit - tokens) / limit)),
        }
        if not is_allowed:
            over = Excess(
                name="requests_second",
                limit=limit,
                used=limit,
                reserved=0,
                asked=1,
                resets_at=math.ceil(now + 1 / limit),
            )
            raise refusal(over, now)
