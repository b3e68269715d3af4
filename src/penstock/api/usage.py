"""`GET /api/v1/usage`: an organisation's quotas, and what it uses of them."""

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.answers import json_answer
from penstock.api.auth import Authenticator
from penstock.clock import Clock
from penstock.core.access import Scope
from penstock.core.quotas import Quotas, day_ends, day_text, month_ends, quotas_of
from penstock.store.usage import Report, Usage

USAGE_PATH: Final = "/api/v1/usage"


class UsagePage:
    """The endpoint."""

    def __init__(
        self, usage: Usage, defaults: Quotas, authenticator: Authenticator, clock: Clock
    ) -> None:
        self._usage = usage
        self._defaults = defaults
        self._authenticator = authenticator
        self._clock = clock

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route(USAGE_PATH, self.get, methods=["GET"])]

    async def get(self, request: Request) -> Response:
        """Return what the caller's organisation may use, and what it does."""
        principal = await self._authenticator.principal(request, Scope.USAGE_READ)
        now = self._clock.now()
        quotas = quotas_of(self._defaults, principal.quotas)
        report = await self._usage.report(principal.org_id, now)
        return json_answer({"org_id": principal.org_id, **usage_record(quotas, report, now)})


def usage_record(quotas: Quotas, report: Report, now: float) -> dict[str, Any]:
    """Return what is told of an organisation's usage, here and on the command line."""
    days = [{**msgspec.to_builtins(day), "day": day_text(day.day)} for day in report.days]
    return {
        "quotas": msgspec.to_builtins(quotas),
        "used": msgspec.to_builtins(report.used),
        "reserved_by": msgspec.to_builtins(report.reserved_by),
        "resets": {"day": day_ends(now), "month": month_ends(now)},
        "days": days,
    }
