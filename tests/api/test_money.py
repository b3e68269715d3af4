"""Money over HTTP: expected before, capped, and told afterwards by day, model and key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from tests.api.driver import BASE, Api, files, job_ids, lines, permit, submission
from tests.fake_clock import START, FakeClock
from tests.store.driver import COUNTS, SPENT, finish, look

from penstock.blobs.spool import Spool
from penstock.core.access import OPERATOR_ORG
from penstock.core.bill import Bill, Share
from penstock.core.job import Counts, Job, JobId
from penstock.core.limits import Limits
from penstock.core.models import DEFAULT_MODEL, SEED_CATALOGUE
from penstock.core.state import JobState
from penstock.store.store import Store

REQUESTS = f"{BASE}/requests"
USAGE = "/api/v1/usage"
NO_PRICE = {
    **SEED_CATALOGUE,
    DEFAULT_MODEL: msgspec.structs.replace(SEED_CATALOGUE[DEFAULT_MODEL], price=None),
}
BILL = Bill(
    by_outcome={
        "ok": Share(lines=2, prompt_tokens=10, output_tokens=25, micro_dollars=40),
        "truncated": Share(lines=1, prompt_tokens=1, output_tokens=1, micro_dollars=2),
    },
    micro_dollars=42,
    online_micro_dollars=84,
    twin_micro_dollars=7,
)


async def submit(client: httpx2.AsyncClient, count: int = 2, **query: str) -> httpx2.Response:
    """Submit so many lines."""
    return await client.post(REQUESTS, json=submission(lines(count)), params=query)


async def end(store: Store, job_id: str, **changes: Any) -> None:  # noqa: ANN401  # of the end
    """Let a job end, as if the provider had answered."""
    look(store, "UPDATE jobs SET state = 'collecting', provider_job = 'p' WHERE id = ?", job_id)
    assert await store.jobs.finish(JobId(job_id), START, finish(**{"bill": BILL, **changes}))


async def test_a_job_is_estimated_before_it_runs(acme: httpx2.AsyncClient, store: Store) -> None:
    """The record says what is expected and how wide that is; as much is set aside."""
    record = (await submit(acme)).json()
    estimate = record["estimate"]
    cost = estimate["cost_usd"]
    # They are the same, so one of them is paid.
    assert estimate["lines"] == 1
    assert float(cost["low"]) < float(cost["expected"]) < float(cost["high"])
    assert float(estimate["online_cost_usd"]) == pytest.approx(
        2 * float(cost["expected"]), abs=1e-5
    )
    assert "2 of 2 lines" in estimate["basis"]
    (reserved,) = look(store, "SELECT reserved_micro_dollars FROM jobs")[0]
    assert f"0.{reserved:06}" == cost["expected"]
    assert look(store, "SELECT kind, lines, micro_dollars FROM ledger") == [
        ("reserved", 2, reserved)
    ]


async def test_earlier_jobs_make_a_better_estimate(acme: httpx2.AsyncClient, store: Store) -> None:
    """A job that got few tokens a line makes the next one's estimate smaller, and says so."""
    first = (await submit(acme)).json()
    few = Counts(ok=2, prompt_tokens=2 * 8, candidates_tokens=2 * 30)
    await end(store, first["request_id"], counts=few)
    second = (await submit(acme, 3)).json()
    assert second["estimate"]["output_tokens"]["expected"] < 3 * 60
    assert "1 earlier job of yours" in second["estimate"]["basis"]
    kept = (await acme.get(f"{REQUESTS}/{first['request_id']}")).json()
    assert kept["estimate"] == first["estimate"]


async def test_what_costs_too_much_is_refused(
    acme: httpx2.AsyncClient, store: Store, tmp_path: Path
) -> None:
    """Before anything is stored or spent; with a higher cap the same file is taken."""
    refused = await submit(acme, max_cost_usd="0.000100")
    told = refused.json()
    assert (refused.status_code, told["code"]) == (402, "cost_over_cap")
    assert "$0.000100" in told["message"]
    assert "maxOutputTokens" in told["hint"]
    assert files(tmp_path / "data") == []
    assert await job_ids(store) == set()
    assert look(store, "SELECT count(*) FROM ledger") == [(0,)]
    assert look(store, "SELECT count(*) FROM usage") == [(0,)]
    assert (await submit(acme, max_cost_usd="0.10")).status_code == 200


async def test_an_unknown_price_cannot_be_capped(
    store: Store, spool: Spool, clock: FakeClock, tmp_path: Path
) -> None:
    """A model whose price nobody knows runs without a cap only, and says that it is unknown."""
    api = Api(store, spool, clock, Limits(), models=NO_PRICE)
    async with api.client(await permit(store, "acme")) as client:
        refused = await submit(client, max_cost_usd="1000")
        assert (refused.status_code, refused.json()["code"]) == (400, "price_unknown")
        assert files(tmp_path / "data") == []
        taken = (await submit(client)).json()
        assert taken["estimate"]["cost_usd"] is None
        assert taken["estimate"]["online_cost_usd"] is None
        await end(store, taken["request_id"], cost_micro_dollars=None, bill=None)
        cost = (await client.get(f"{REQUESTS}/{taken['request_id']}")).json()["outcome"]["cost"]
        assert (cost["batch_usd"], cost["saved_usd"], cost["refunded_usd"]) == (None, None, None)
        (group,) = (await client.get(USAGE, params={"group_by": "model"})).json()["groups"]
    assert (group["batch_usd"], group["online_usd"], group["unpriced_lines"]) == (None, None, 2)
    assert look(store, "SELECT kind, micro_dollars FROM ledger") == [("usage", None)]


async def test_the_end_says_what_was_paid_and_saved(acme: httpx2.AsyncClient, store: Store) -> None:
    """By outcome, with the online price beside it and what identical lines saved."""
    job_id = (await submit(acme)).json()["request_id"]
    (reserved,) = look(store, "SELECT reserved_micro_dollars FROM jobs")[0]
    await end(store, job_id)
    outcome = (await acme.get(f"{REQUESTS}/{job_id}")).json()["outcome"]
    assert outcome["actual_cost_usd"] == "0.000042"
    assert outcome["cost"] == {
        "tier": "batch",
        "model": DEFAULT_MODEL,
        "batch_usd": "0.000042",
        "online_usd": "0.000084",
        "saved_usd": "0.000042",
        "deduplicated_usd": "0.000007",
        "by_outcome": {
            "ok": {"lines": 2, "prompt_tokens": 10, "output_tokens": 25, "usd": "0.000040"},
            "truncated": {"lines": 1, "prompt_tokens": 1, "output_tokens": 1, "usd": "0.000002"},
        },
        "reserved_usd": f"0.{reserved:06}",
        "refunded_usd": f"0.{reserved - 42:06}",
    }
    told = look(store, "SELECT kind, micro_dollars FROM ledger ORDER BY id")
    assert told == [("reserved", reserved), ("usage", 42), ("refunded", reserved - 42)]


async def test_what_a_later_round_gave_back_is_not_guessed(
    acme: httpx2.AsyncClient, store: Store
) -> None:
    """The row has the cost of all rounds together, so the record says nothing of the last one's."""
    job_id = (await submit(acme)).json()["request_id"]
    await end(store, job_id)
    look(store, "UPDATE jobs SET round = 2")
    cost = (await acme.get(f"{REQUESTS}/{job_id}")).json()["outcome"]["cost"]
    assert (cost["batch_usd"], cost["refunded_usd"]) == ("0.000042", None)


async def test_usage_by_day_and_model(acme: httpx2.AsyncClient, store: Store) -> None:
    """Sums with cost, online cost and saving; both ends of the span are in it."""
    await end(store, (await submit(acme)).json()["request_id"])
    told = (await acme.get(USAGE, params={"group_by": "day,model"})).json()
    assert {name: told[name] for name in ("org_id", "from", "to", "group_by")} == {
        "org_id": "acme",
        "from": "2026-10-24",
        "to": "2026-11-22",
        "group_by": ["day", "model"],
    }
    assert told["groups"] == [
        {
            "day": "2026-11-22",
            "model": DEFAULT_MODEL,
            "jobs": 1,
            "lines": SPENT.lines,
            "prompt_tokens": SPENT.prompt_tokens,
            "output_tokens": SPENT.output_tokens,
            "batch_usd": "0.000042",
            "online_usd": "0.000084",
            "saved_usd": "0.000042",
            "unpriced_lines": 0,
        }
    ]
    for query in ({"to": "2026-11-21"}, {"from": "2026-11-23", "to": "2026-11-23"}):
        assert (await acme.get(USAGE, params=query)).json()["groups"] == []
    only = {"from": "2026-11-22", "to": "2026-11-22"}
    assert len((await acme.get(USAGE, params=only)).json()["groups"]) == 1


async def test_usage_of_others_is_the_operator_s(
    acme: httpx2.AsyncClient, rival: httpx2.AsyncClient, store: Store
) -> None:
    """Another organisation sees nothing of it, and may not ask by organisation."""
    await end(store, (await submit(acme)).json()["request_id"])
    assert (await rival.get(USAGE, params={"group_by": "key"})).json()["groups"] == []
    refused = await rival.get(USAGE, params={"group_by": "org"})
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    await store.tenants.ensure_org(OPERATOR_ORG, "default", START)
    await store.tenants.ensure_user("default-user", OPERATOR_ORG, "owner", START)
    key = await permit(store, "default")
    by_org = await acme.get(
        USAGE, params={"group_by": "org"}, headers={"Authorization": f"Bearer {key}"}
    )
    assert [(one["org"], one["batch_usd"]) for one in by_org.json()["groups"]] == [
        ("acme", "0.000042")
    ]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"group_by": "colour"}, "invalid_parameter"),
        ({"from": "yesterday"}, "invalid_parameter"),
        ({"to": "2026-02-30"}, "invalid_parameter"),
        ({"from": "2026-11-23", "to": "2026-11-22"}, "invalid_span"),
        ({"from": "2024-01-01", "to": "2026-01-01"}, "invalid_span"),
    ],
)
async def test_questions_that_make_no_sense_are_refused(
    acme: httpx2.AsyncClient, query: dict[str, str], code: str
) -> None:
    """The refusal names what is wrong and what can be asked."""
    refused = await acme.get(USAGE, params=query)
    assert (refused.status_code, refused.json()["code"]) == (400, code)
    assert refused.json()["hint"]


async def test_too_many_groups_are_refused(
    store: Store, spool: Spool, clock: FakeClock, new_job: Callable[..., Job]
) -> None:
    """An answer has a bound; the refusal says how to ask for less."""
    api = Api(store, spool, clock, Limits(usage_groups_max=1))
    async with api.client(await permit(store, "acme")) as client:
        for key_id in ("one", "two"):
            job = new_job(key_id=key_id, state=JobState.COLLECTING, provider_job="p")
            await store.jobs.add(job)
            await store.jobs.finish(job.id, START, finish(counts=COUNTS))
        refused = await client.get(USAGE, params={"group_by": "key"})
        assert (refused.status_code, refused.json()["code"]) == (400, "too_many_groups")
        assert len((await client.get(USAGE, params={"group_by": ""})).json()["groups"]) == 1
