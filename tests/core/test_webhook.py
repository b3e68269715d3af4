import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.core.job import Counts
from penstock.core.limits import Limits
from penstock.core.state import TERMINAL, JobState
from penstock.core.webhook import (
    BODY_BYTES_MAX,
    JITTER,
    KIND_OF,
    TRIES_MAX,
    WAITS_SECONDS,
    EndedJob,
    EventKind,
    SlowJob,
    body_of,
    parse_kinds,
    slow_body_of,
    wait_seconds,
    wants,
)
from penstock.errors import InvalidRequest

JOB = EndedJob(
    id="req_1",
    org_id="acme",
    state=JobState.SUCCEEDED,
    model="gemini-3-flash-preview",
    line_count=3,
    created_at=1_795_363_200.0,
    finished_at=1_795_363_260.25,
    counts=Counts(ok=2, error=1, prompt_tokens=10),
    cost_micro_dollars=42,
    error_code=None,
)


def test_the_schedule_is_that_of_standard_webhooks() -> None:
    """Ten tries over 75 hours, 35 minutes and 5 seconds."""
    assert len(WAITS_SECONDS) == TRIES_MAX == 10
    assert sum(WAITS_SECONDS) == (75 * 60 + 35) * 60 + 5
    assert WAITS_SECONDS[:4] == (0, 5, 5 * 60, 30 * 60)


@given(tries=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_a_wait_is_the_schedules_within_the_jitter(tries: int, seed: int) -> None:
    """After the last try there is none; before it each is at most a fifth longer or shorter."""
    wait = wait_seconds(tries, random.Random(seed))  # noqa: S311  # seeded, so that it can be repeated
    if tries >= TRIES_MAX:
        assert wait is None
        return
    assert wait is not None
    assert (1 - JITTER) * WAITS_SECONDS[tries] <= wait <= (1 + JITTER) * WAITS_SECONDS[tries]


def test_every_end_has_its_kind() -> None:
    """No job ends without an event, and of the others none is of an end."""
    assert set(KIND_OF) == TERMINAL
    assert set(KIND_OF.values()) == set(EventKind) - {EventKind.JOB_SLOW}


def test_a_slow_job_is_told_with_its_reason() -> None:
    """What is told of a job that goes on has no counts and no cost, but says why it is told."""
    slow = SlowJob(
        id="req_1",
        org_id="acme",
        state=JobState.RUNNING,
        model="gemini-3-flash-preview",
        line_count=3,
        created_at=1_795_363_200.0,
        slow_at=1_795_363_260.25,
        reason="It has been waiting for 2 h.",
    )
    assert json.loads(slow_body_of(slow)) == {
        "type": "job.slow",
        "timestamp": "2026-11-22T16:01:00.250000Z",
        "data": {
            "request_id": "req_1",
            "org_id": "acme",
            "status": "processing",
            "model": "gemini-3-flash-preview",
            "created_at": "2026-11-22T16:00:00.000000Z",
            "slow_at": "2026-11-22T16:01:00.250000Z",
            "total_count": 3,
            "reason": "It has been waiting for 2 h.",
        },
    }


def test_the_body_is_thin() -> None:
    """It tells ids, state, counts and cost, and nothing of what a model said."""
    event = json.loads(body_of(JOB))
    assert event == {
        "type": "job.succeeded",
        "timestamp": "2026-11-22T16:01:00.250000Z",
        "data": {
            "request_id": "req_1",
            "org_id": "acme",
            "status": "success",
            "model": "gemini-3-flash-preview",
            "created_at": "2026-11-22T16:00:00.000000Z",
            "finished_at": "2026-11-22T16:01:00.250000Z",
            "total_count": 3,
            "successful_count": 2,
            "failed_count": 1,
            "actual_cost_usd": "0.000042",
            "error_code": None,
        },
    }


@pytest.mark.parametrize(
    ("counts", "cost", "told"),
    [(None, None, "0.000000"), (Counts(ok=1), None, None), (Counts(ok=1), 0, "0.000000")],
)
def test_an_unknown_price_is_not_zero(
    counts: Counts | None, cost: int | None, told: str | None
) -> None:
    """A job that ran nothing cost nothing; one of unknown price cost who knows what."""
    job = EndedJob(
        **{
            name: getattr(JOB, name)
            for name in JOB.__struct_fields__
            if name not in {"counts", "cost_micro_dollars"}
        },
        counts=counts,
        cost_micro_dollars=cost,
    )
    assert json.loads(body_of(job))["data"]["actual_cost_usd"] == told


def test_the_longest_body_is_small() -> None:
    """With names as long as they can be it is far below what receivers take."""
    most = EndedJob(
        id="req_" + "z" * 60,
        org_id="o" * 64,
        state=JobState.CANCELLED,
        model="m" * 1_000,
        line_count=2**62,
        created_at=4e9,
        finished_at=4e9,
        counts=Counts(ok=2**61, error=2**61),
        cost_micro_dollars=2**62,
        error_code="e" * 1_000,
        name="\U0001f642" * Limits().job_name_characters_max,
        labels={
            f"{number:063}": "\U0001f642" * Limits().job_label_characters_max
            for number in range(Limits().job_labels_max)
        },
    )
    assert len(body_of(most).encode()) < BODY_BYTES_MAX / 2


def test_a_job_is_told_with_what_its_owner_calls_it() -> None:
    """Name and labels are in both kinds of events, and in none of a job without them."""
    named = replace(JOB, name="nightly", labels={"team": "ads"})
    told = json.loads(body_of(named))["data"]
    assert (told["name"], told["labels"]) == ("nightly", {"team": "ads"})
    assert not {"name", "labels"} & json.loads(body_of(JOB))["data"].keys()
    slow = SlowJob(
        id="req_1",
        org_id="acme",
        state=JobState.RUNNING,
        model="m",
        line_count=1,
        created_at=1.0,
        slow_at=2.0,
        reason="It runs.",
        labels={"team": "ads"},
    )
    told = json.loads(slow_body_of(slow))["data"]
    assert told["labels"] == {"team": "ads"}
    assert "name" not in told


def test_kinds_are_chosen_by_name() -> None:
    """Nothing and the star are all; what does not exist is refused by name."""
    assert parse_kinds([]) == parse_kinds(["*"]) == parse_kinds(["job.failed", "*"]) == "*"
    chosen = parse_kinds(["job.succeeded", "job.failed", "job.failed"])
    assert chosen == "job.failed job.succeeded"
    assert wants("*", EventKind.JOB_CANCELLED)
    assert wants(chosen, EventKind.JOB_FAILED)
    assert not wants(chosen, EventKind.JOB_CANCELLED)
    with pytest.raises(InvalidRequest, match=r"no event job\.exploded") as caught:
        parse_kinds(["job.exploded"])
    assert caught.value.error_code == "unknown_event"
