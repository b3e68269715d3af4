"""`GET /api/v1/usage`: an organisation's quotas, what it uses of them, and what that did cost.

Without parameters it answers with the quotas; with `from`, `to` or `group_by` with what was billed
in a span of days.
"""

from typing import Any, Final

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.answers import json_answer
from penstock.api.auth import Authenticator, Principal
from penstock.clock import Clock
from penstock.core.access import Scope
from penstock.core.limits import Limits
from penstock.core.money import usd_text
from penstock.core.quotas import (
    Quotas,
    day_ends,
    day_named,
    day_of,
    day_text,
    month_ends,
    quotas_of,
)
from penstock.errors import InvalidRequest
from penstock.store.spending import By, Group, Spending
from penstock.store.usage import Report, Usage

USAGE_PATH: Final = "/api/v1/usage"


SPAN_DAYS: Final = 30
"""That are answered for where nobody says from when."""

_PARAMETERS: Final = ("from", "to", "group_by")


class UsagePage:
    """The endpoint."""

    def __init__(
        self,
        usage: Usage,
        defaults: Quotas,
        authenticator: Authenticator,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._usage = usage
        self._defaults = defaults
        self._authenticator = authenticator
        self._clock = clock
        self._limits = limits

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route(USAGE_PATH, self.get, methods=["GET"])]

    async def get(self, request: Request) -> Response:
        """Return what the caller's organisation may use and does, or what it spent on what."""
        principal = await self._authenticator.principal(request, Scope.USAGE_READ)
        if any(name in request.query_params for name in _PARAMETERS):
            return json_answer(await self._spent(principal, request.query_params))
        now = self._clock.now()
        quotas = quotas_of(self._defaults, principal.quotas)
        report = await self._usage.report(principal.org_id, now)
        return json_answer({"org_id": principal.org_id, **usage_record(quotas, report, now)})

    async def _spent(self, principal: Principal, query: QueryParams) -> dict[str, Any]:
        asked = _asked(query, principal, day_of(self._clock.now()), self._limits)
        groups = await self._usage.groups(asked)
        if len(groups) > asked.groups_max:
            raise InvalidRequest(
                f"There are more than {asked.groups_max} groups in this span.",
                code="too_many_groups",
                hint="Ask for fewer days, or group by less.",
            )
        return {
            "org_id": principal.org_id,
            "from": day_text(asked.first_day),
            "to": day_text(asked.last_day),
            "group_by": list(asked.by),
            "groups": [_group_record(group) for group in groups],
        }


def _asked(query: QueryParams, principal: Principal, today: int, limits: Limits) -> Spending:
    by = _dimensions(query.getlist("group_by"))
    if By.ORG in by:
        principal.require(Scope.ORGS_READ)
    last = _day(query, "to", today)
    first = _day(query, "from", last - SPAN_DAYS + 1)
    days = last - first + 1
    if not 1 <= days <= limits.usage_days_max:
        raise InvalidRequest(
            f"From {day_text(first)} to {day_text(last)} are {days} days.",
            code="invalid_span",
            hint=f"Ask for 1 to {limits.usage_days_max} days; both ends are included.",
        )
    return Spending(
        org_id=None if By.ORG in by else principal.org_id,
        first_day=first,
        last_day=last,
        by=by,
        groups_max=limits.usage_groups_max,
    )


def _dimensions(values: list[str]) -> tuple[By, ...]:
    words = [word.strip() for value in values for word in value.split(",") if word.strip()]
    unknown = [word for word in words if word not in list(By)]
    if unknown:
        raise InvalidRequest(
            f"group_by cannot be {unknown[0][:40]!r}.",
            code="invalid_parameter",
            hint=f"Use some of {', '.join(By)}, with commas between them.",
        )
    return tuple(By(word) for word in dict.fromkeys(words))


def _day(query: QueryParams, name: str, usual: int) -> int:
    text = query.get(name)
    if text is None:
        return usual
    day = day_named(text)
    if day is None:
        raise InvalidRequest(
            f"{name} is {text[:40]!r}, which is no day.",
            code="invalid_parameter",
            hint="Write it as 2026-11-23; days are those of UTC.",
        )
    return day


def _group_record(group: Group) -> dict[str, Any]:
    # What nobody knows the price of is named as such, and never as nothing.
    is_priced = group.unpriced_lines < group.lines
    is_compared = group.online_micro_dollars > 0
    saved = group.online_micro_dollars - group.compared_micro_dollars
    names = {name.value: getattr(group, name.value) for name in By}
    split = {name: value for name, value in names.items() if value is not None}
    if group.day is not None:
        split["day"] = day_text(group.day)
    return {
        **split,
        "jobs": group.jobs,
        "lines": group.lines,
        "prompt_tokens": group.prompt_tokens,
        "output_tokens": group.output_tokens,
        "batch_usd": usd_text(group.micro_dollars) if is_priced else None,
        "online_usd": usd_text(group.online_micro_dollars) if is_compared else None,
        "saved_usd": usd_text(saved) if is_compared else None,
        "unpriced_lines": group.unpriced_lines,
    }


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
