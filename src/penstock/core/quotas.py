"""What an organisation may use, when that is used up, and what a job is expected to cost.

Pure: the numbers that were counted come in, a refusal goes out. `store/usage` counts.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Final

import msgspec

from penstock.core.estimate import Estimate
from penstock.core.money import usd_text
from penstock.errors import CostOverCap, InvalidRequest, QuotaExceeded, QuotaUse, Reservation

DAY_SECONDS: Final = 86_400
AMOUNT_MAX: Final = 10**18
"""Of anything: sums of two such amounts still fit into the columns of the database."""

JOB_RETRY_SECONDS: Final = 60
"""When to try again where only the end of a job makes room: nobody knows when that is."""

BYTES_RETRY_SECONDS: Final = 3_600
"""When to try again where only the operator makes room."""

_EPOCH: Final = date(1970, 1, 1).toordinal()

Amount = Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MAX)]


class Quotas(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one organisation may use; 0 means without limit."""

    jobs_in_flight_max: Amount = 0
    """Jobs of one organisation that have not ended. This and the other quotas are 0 for unlimited,
    and `penstock orgs quotas` sets them for a single organisation."""

    bytes_stored_max: Amount = 0
    """Inputs and outputs of one organisation that are stored."""

    lines_day_max: Amount = 0
    """Requests within jobs that one organisation submits in one UTC day."""

    requests_second_max: Amount = 0
    """HTTP requests of one organisation a second, to one server process; as many at once."""

    spend_day_micro_dollars_max: Amount = 0
    """Cost of the jobs that one organisation submits in one UTC day, in millionths of a dollar:
    what has ended costs what it cost, what has not ended what it is estimated to."""

    spend_month_micro_dollars_max: Amount = 0
    """The same for a calendar month, UTC."""

    @property
    def limits_spend(self) -> bool:
        """Whether it matters what a job costs."""
        return self.spend_day_micro_dollars_max > 0 or self.spend_month_micro_dollars_max > 0

    @property
    def limits_jobs(self) -> bool:
        """Whether any job can be one too many."""
        return self.limits_spend or any(
            (self.jobs_in_flight_max, self.bytes_stored_max, self.lines_day_max)
        )


class Estimates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the cost of a job is guessed before it runs."""

    output_tokens_per_line: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1_000
    """Of an answer, thoughts included, where neither the request nor earlier jobs say more."""


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What an organisation uses now, in this day and in this month."""

    jobs_in_flight: int = 0
    bytes_stored: int = 0
    lines_day: int = 0
    spent_day_micro_dollars: int = 0
    reserved_day_micro_dollars: int = 0
    spent_month_micro_dollars: int = 0
    reserved_month_micro_dollars: int = 0


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What one more job would use, at least."""

    jobs: int = 1
    bytes: int = 0
    lines: int = 1
    micro_dollars: int = 1


class Excess(msgspec.Struct, frozen=True, kw_only=True):
    """A quota that does not allow it."""

    name: str
    limit: int
    used: int
    reserved: int
    asked: int
    resets_at: int | None
    """When it counts from zero again, in Unix seconds; None if it never does by itself."""


def excess(quotas: Quotas, used: Used, asked: Asked, now: float) -> Excess | None:
    """Return the first quota that one more job would exceed."""
    for one in _compared(quotas, used, asked, now):
        if one.limit and one.used + one.reserved + one.asked > one.limit:
            return one
    return None


def _compared(quotas: Quotas, used: Used, asked: Asked, now: float) -> Iterator[Excess]:
    tomorrow, next_month = day_ends(now), month_ends(now)
    yield Excess(
        name="jobs_in_flight",
        limit=quotas.jobs_in_flight_max,
        used=used.jobs_in_flight,
        reserved=0,
        asked=asked.jobs,
        resets_at=None,
    )
    yield Excess(
        name="bytes_stored",
        limit=quotas.bytes_stored_max,
        used=used.bytes_stored,
        reserved=0,
        asked=asked.bytes,
        resets_at=None,
    )
    yield Excess(
        name="lines_day",
        limit=quotas.lines_day_max,
        used=used.lines_day,
        reserved=0,
        asked=asked.lines,
        resets_at=tomorrow,
    )
    yield Excess(
        name="spend_day",
        limit=quotas.spend_day_micro_dollars_max,
        used=used.spent_day_micro_dollars,
        reserved=used.reserved_day_micro_dollars,
        asked=asked.micro_dollars,
        resets_at=tomorrow,
    )
    yield Excess(
        name="spend_month",
        limit=quotas.spend_month_micro_dollars_max,
        used=used.spent_month_micro_dollars,
        reserved=used.reserved_month_micro_dollars,
        asked=asked.micro_dollars,
        resets_at=next_month,
    )


_ABOUT: Final[Mapping[str, tuple[str, str]]] = {
    "jobs_in_flight": ("jobs that have not ended", "Wait for one to end, or cancel one."),
    "bytes_stored": ("bytes of inputs and outputs", "Ask the operator of this server for more."),
    "lines_day": ("lines a day", "Send the rest after midnight UTC, or ask the operator for more."),
    "requests_second": ("requests a second", "Send fewer at a time; poll less often."),
    "spend_day": ("a day", "What jobs cost less than was reserved comes back when they end."),
    "spend_month": ("a month", "What jobs cost less than was reserved comes back when they end."),
}


def refusal(over: Excess, now: float, reserved_by: Sequence[Reservation] = ()) -> QuotaExceeded:
    """Return the error that says which quota, by whom it is used, and when to come again."""
    what, hint = _ABOUT[over.name]
    if over.name.startswith("spend"):
        numbers = (over.limit, over.used, over.reserved, over.asked)
        limit, used, reserved, asked = (f"${usd_text(number)}" for number in numbers)
        text = f"{limit} {what}: {used} are spent, {reserved} reserved, and this asks for {asked}"
    else:
        text = f"{over.limit} {what}: {over.used} are used, and this asks for {over.asked} more"
    if over.resets_at is not None:
        retry_seconds = max(1, math.ceil(over.resets_at - now))
    else:
        by_jobs = over.name == "jobs_in_flight"
        retry_seconds = JOB_RETRY_SECONDS if by_jobs else BYTES_RETRY_SECONDS
    error = QuotaExceeded(
        f"The organisation may use {text}.",
        code=f"quota_{over.name}",
        hint=f"{hint} GET /api/v1/usage shows all quotas.",
        retry_after_seconds=retry_seconds,
    )
    error.quota = QuotaUse(
        name=over.name,
        limit=over.limit,
        used=over.used,
        reserved=over.reserved,
        asked=over.asked,
        reserved_by=tuple(reserved_by),
        resets_at=over.resets_at,
    )
    return error


def without_price(model: str) -> InvalidRequest:
    """Return the refusal of a model whose cost nobody knows, where the cost is limited."""
    return InvalidRequest(
        f"The price of {model} is not known, and the organisation's spending is limited.",
        code="model_without_price",
        hint="Use a model with a price; the operator can set one in [models] of the settings.",
    )


def check_cost(cap_micro_dollars: int | None, model: str, estimate: Estimate) -> None:
    """Raise a refusal if a job may cost no more than so much, and is expected to cost more."""
    if cap_micro_dollars is None:
        return
    cost = estimate.micro_dollars
    if cost is None:
        raise InvalidRequest(
            f"The price of {model} is not known, so its cost cannot be capped.",
            code="price_unknown",
            hint="Use a model with a price, or leave out max_cost_usd; the operator can set a price"
            " in [models] of the settings.",
        )
    if cost.expected > cap_micro_dollars:
        raise CostOverCap(
            f"The job is expected to cost ${usd_text(cost.expected)} (nine in ten: "
            f"${usd_text(cost.low)} to ${usd_text(cost.high)}), and max_cost_usd is "
            f"${usd_text(cap_micro_dollars)}. Nothing was stored or spent.",
            hint="Raise max_cost_usd, send fewer lines, set generationConfig.maxOutputTokens, or "
            "use a cheaper model.",
        )


def checked_overrides(values: Mapping[str, Any]) -> str | None:
    """Return what an organisation's row says of quotas that differ from the settings, as JSON.

    None if nothing differs. Raises `InvalidRequest` for a name or a number that is none.
    """
    try:
        checked = msgspec.convert(dict(values), Quotas)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"The quotas are not accepted: {error}.",
            code="invalid_quotas",
            hint=f"Whole numbers for some of {', '.join(Quotas.__struct_fields__)}; "
            "0 means unlimited.",
        ) from error
    chosen = {name: getattr(checked, name) for name in Quotas.__struct_fields__ if name in values}
    return msgspec.json.encode(chosen).decode() if chosen else None


def quotas_of(defaults: Quotas, overrides: str | None) -> Quotas:
    """Return an organisation's quotas: the settings with what its row says on top.

    Names that this version does not know are left out; another one wrote them.
    """
    if overrides is None:
        return defaults
    changes = msgspec.json.decode(overrides, type=dict[str, int])
    known = {name: changes[name] for name in Quotas.__struct_fields__ if name in changes}
    return msgspec.structs.replace(defaults, **known)


def day_of(at: float) -> int:
    """Return the UTC day as a number: days since the epoch."""
    return math.floor(at / DAY_SECONDS)


def day_text(day: int) -> str:
    """Return the day as people write it, `2026-11-23`."""
    return date.fromordinal(_EPOCH + day).isoformat()


def day_named(text: str) -> int | None:
    """Return the day that is written like that; None if none is."""
    try:
        day = date.fromisoformat(text).toordinal() - _EPOCH
    except ValueError:
        return None
    # Weeks and other forms are days as well, and nobody would know which.
    return day if day_text(day) == text else None


def day_ends(now: float) -> int:
    """Return when the day ends, in Unix seconds."""
    return (day_of(now) + 1) * DAY_SECONDS


def month_begins(now: float) -> int:
    """Return the first day of the month."""
    return date.fromordinal(_EPOCH + day_of(now)).replace(day=1).toordinal() - _EPOCH


def month_ends(now: float) -> int:
    """Return when the month ends, in Unix seconds."""
    today = date.fromordinal(_EPOCH + day_of(now))
    years, month = divmod(today.month, 12)
    first = date(today.year + years, month + 1, 1)
    return (first.toordinal() - _EPOCH) * DAY_SECONDS
