"""Quotas: what is too much, until when, and what a job is expected to cost."""

from calendar import monthrange
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fake_clock import START

from penstock.core.estimate import Estimate, Span
from penstock.core.quotas import (
    BYTES_RETRY_SECONDS,
    JOB_RETRY_SECONDS,
    Asked,
    Excess,
    Quotas,
    Used,
    check_cost,
    checked_overrides,
    day_ends,
    day_named,
    day_of,
    day_text,
    excess,
    month_begins,
    month_ends,
    quotas_of,
    refusal,
    without_price,
)
from penstock.errors import CostOverCap, InvalidRequest, Reservation

USED = Used(
    jobs_in_flight=5,
    bytes_stored=5_000,
    lines_day=50,
    spent_day_micro_dollars=100,
    reserved_day_micro_dollars=20,
    spent_month_micro_dollars=1_000,
    reserved_month_micro_dollars=200,
)
ASKED = Asked(bytes=10, lines=3, micro_dollars=7)
FITTING = {
    "jobs_in_flight_max": 6,
    "bytes_stored_max": 5_010,
    "lines_day_max": 53,
    "spend_day_micro_dollars_max": 127,
    "spend_month_micro_dollars_max": 1_207,
}
NOON = datetime(2026, 12, 5, 12, tzinfo=UTC).timestamp()
MIDNIGHT = int(datetime(2026, 12, 6, tzinfo=UTC).timestamp())
NEW_YEAR = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())


def test_what_just_fits_is_allowed() -> None:
    """A quota may be used up to the last byte, line and micro-dollar, all of them at once."""
    assert excess(Quotas(**FITTING), USED, ASKED, NOON) is None


@pytest.mark.parametrize("name", FITTING)
def test_one_less_is_refused(name: str) -> None:
    """Each quota refuses what is one more than it allows, and is named."""
    found = excess(Quotas(**{**FITTING, name: FITTING[name] - 1}), USED, ASKED, NOON)
    assert found is not None
    assert name.startswith(found.name)
    assert found.limit == FITTING[name] - 1
    assert found.used + found.reserved + found.asked == found.limit + 1


def test_nothing_is_limited_by_default() -> None:
    """Without a quota anything fits, and nobody has to count."""
    assert excess(Quotas(), USED, Asked(bytes=10**15, lines=10**9), NOON) is None
    assert not Quotas(requests_second_max=5).limits_jobs


@pytest.mark.parametrize("name", FITTING)
def test_each_quota_of_jobs_makes_them_count(name: str) -> None:
    """Any of the five means that the database must be asked."""
    assert Quotas(**{name: 1}).limits_jobs
    assert Quotas(**{name: 1}).limits_spend == name.startswith("spend")


@pytest.mark.parametrize(
    ("name", "resets_at", "retry_seconds"),
    [
        ("jobs_in_flight", None, JOB_RETRY_SECONDS),
        ("bytes_stored", None, BYTES_RETRY_SECONDS),
        ("lines_day", MIDNIGHT, 12 * 3600),
        ("requests_second", int(NOON), 1),
        ("spend_day", MIDNIGHT, 12 * 3600),
        ("spend_month", NEW_YEAR, NEW_YEAR - int(NOON)),
    ],
)
def test_a_refusal_says_all(name: str, resets_at: int | None, retry_seconds: int) -> None:
    """The error names the quota, its numbers, who holds it, and when to try again."""
    over = Excess(name=name, limit=9, used=4, reserved=3, asked=5, resets_at=resets_at)
    holders = [Reservation(request_id="req_1", amount=3)]
    error = refusal(over, NOON, holders)
    assert (error.status, error.error_code) == (429, f"quota_{name}")
    assert error.retry_after_seconds == retry_seconds
    assert error.quota is not None
    assert error.quota.reserved_by == tuple(holders)
    assert (error.quota.limit, error.quota.used, error.quota.asked) == (9, 4, 5)
    assert ("$0.000009" if name.startswith("spend") else "9 ") in error.message
    assert "/api/v1/usage" in str(error.hint)


def test_overrides_are_laid_over_the_settings() -> None:
    """An organisation's row changes what it names and nothing else, and 0 lifts a limit."""
    defaults = Quotas(jobs_in_flight_max=3, lines_day_max=7)
    text = checked_overrides({"jobs_in_flight_max": 0, "bytes_stored_max": 5})
    assert quotas_of(defaults, text) == Quotas(lines_day_max=7, bytes_stored_max=5)
    assert quotas_of(defaults, None) is defaults
    assert quotas_of(defaults, '{"of_a_later_version":1}') == defaults
    assert checked_overrides({}) is None


@pytest.mark.parametrize(
    "values",
    [
        {"jobs_max": 1},
        {"jobs_in_flight_max": -1},
        {"jobs_in_flight_max": 1.5},
        {"jobs_in_flight_max": True},
        {"jobs_in_flight_max": "3"},
        {"lines_day_max": 10**18 + 1},
        {"lines_day_max": None},
    ],
)
def test_quotas_that_are_none_are_refused(values: dict[str, object]) -> None:
    """Names that do not exist and numbers that are none never get into the database."""
    with pytest.raises(InvalidRequest) as refused:
        checked_overrides(values)
    assert refused.value.error_code == "invalid_quotas"
    assert "lines_day_max" in str(refused.value.hint)


def test_a_day_is_found_by_its_name() -> None:
    """What is written is read again; what is no day of any year is none."""
    for text in ("1970-01-01", "2024-02-29", "2026-11-23"):
        day = day_named(text)
        assert day is not None
        assert day_text(day) == text
    for text in ("2026-02-29", "20261123", "2026-W48-1", "", "today", "2026-11-23T00"):
        assert day_named(text) is None


def expecting(cost: Span | None) -> Estimate:
    """An estimate of nothing but the cost."""
    nothing = Span(low=0, expected=0, high=0)
    return Estimate(lines=1, prompt_tokens=nothing, output_tokens=nothing, micro_dollars=cost)


COST = Span(low=1_000_000, expected=2_000_000, high=5_000_000)


def test_a_job_may_cost_what_it_is_expected_to() -> None:
    """The cap is compared with what is expected; no cap compares nothing."""
    check_cost(2_000_000, "m", expecting(COST))
    check_cost(None, "m", expecting(COST))
    check_cost(None, "m", expecting(None))


def test_a_job_that_is_expected_to_cost_too_much_is_refused() -> None:
    """The refusal has the estimate, its range, the cap, and what can be done."""
    with pytest.raises(CostOverCap) as refused:
        check_cost(1_999_999, "m", expecting(COST))
    error = refused.value
    assert (error.status, error.error_code) == (402, "cost_over_cap")
    assert all(
        amount in error.message for amount in ("$2.000000", "$1.000000", "$5.000000", "$1.999999")
    )
    assert "max_cost_usd" in str(error.hint)


def test_an_unknown_price_cannot_be_capped() -> None:
    """Whoever caps the cost does not get a job whose cost nobody knows."""
    with pytest.raises(InvalidRequest) as refused:
        check_cost(10**12, "gemini-x", expecting(None))
    assert (refused.value.status, refused.value.error_code) == (400, "price_unknown")
    assert "gemini-x" in refused.value.message


def test_a_model_without_a_price_has_its_own_code() -> None:
    """The refusal names the model and where its price is set."""
    error = without_price("gemini-x")
    assert (error.status, error.error_code) == (400, "model_without_price")
    assert "gemini-x" in error.message


@given(st.integers(0, 4_000_000_000))
def test_days_and_months_are_those_of_the_calendar(at: int) -> None:
    """Day, month and their ends are what the calendar says, at any second."""
    now = datetime.fromtimestamp(at, UTC)
    assert day_text(day_of(at)) == now.date().isoformat()
    assert day_text(month_begins(at)) == now.date().replace(day=1).isoformat()
    assert 0 < day_ends(at) - at <= 86_400
    last = now.replace(day=monthrange(now.year, now.month)[1])
    assert month_ends(at) == day_ends(last.timestamp())


def test_the_day_of_the_tests_is_known() -> None:
    """The reference day has its number."""
    assert day_text(day_of(START)) == "2026-11-22"
