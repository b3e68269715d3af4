"""`validate_only`: the whole judgement, and nothing of the file is kept or counted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.api.driver import BASE, Api, files, job_ids, lines, permit
from tests.api.test_doors import DOORS, ENCODERS
from tests.store.driver import look

from penstock.core.limits import Limits
from penstock.core.models import DEFAULT_MODEL
from penstock.store.store import Store

URL = f"{BASE}/requests?validate_only=true"
Json = dict[str, Any]


@pytest.fixture
def limits() -> Limits:
    """Limits that a test can reach."""
    return Limits(problems_reported_max=2)


def row(text: str = "hi", **members: object) -> str:
    """A line with one text."""
    request = {"contents": [{"parts": [{"text": text}]}], **members}
    return json.dumps({"request": request}) + "\n"


async def ask(client: httpx2.AsyncClient, data: str, query: str = "") -> Json:
    """Have JSONL judged."""
    headers = {"Content-Type": "application/jsonl"}
    answer = await client.post(URL + query, content=data.encode(), headers=headers)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("door", DOORS)
async def test_every_door_has_the_same_report(
    acme: httpx2.AsyncClient,
    api: Api,
    tmp_path: Path,
    door: Callable[[str], tuple[str, bytes]],
    encoding: str | None,
) -> None:
    """Bad lines, what would be done, what is the same, the cost; and nothing is left of it."""
    data = (
        row()
        + "\n"
        + row(generation_config={"temperature": 1}, labels=None)
        + "nonsense\n" * 3
        + row("007")
        + row(labels={})
    )
    kind, body = door(data)
    headers = {"Content-Type": kind, "Idempotency-Key": "unused"}
    headers |= {"Content-Encoding": encoding} if encoding else {}
    answer = await acme.post(URL, content=ENCODERS[encoding](body), headers=headers)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["valid"] is False
    assert (found["model"], found["line_count"]) == (DEFAULT_MODEL, 7)
    assert found["input_bytes"] == len(data)
    assert found["problem_count"] == 3
    assert [(bad["line"], bad["code"]) for bad in found["problems"]] == [
        (4, "invalid_json"),
        (5, "invalid_json"),
    ]
    done = {one["code"]: (one["lines"], one["first_line"]) for one in found["normalisations"]}
    assert done == {"empty_object": (1, 8), "null_member": (1, 3), "snake_case_member": (1, 3)}
    assert [(one["code"], one["first_line"]) for one in found["warnings"]] == [("numeric_text", 7)]
    assert found["duplicates"] == {
        "lines": 1,
        "groups": 1,
        "largest": [{"lines": 2, "first_lines": [1, 8]}],
    }
    assert found["estimate"]["lines"] > 0
    assert found["estimate"]["cost_usd"]["expected"] > "0"
    assert not await job_ids(api.store)
    assert not files(tmp_path / "data")


async def test_nothing_is_counted(acme: httpx2.AsyncClient, api: Api, store: Store) -> None:
    """No usage, no audit, no idempotency key, and no worker is woken."""
    headers = {"Content-Type": "application/jsonl", "Idempotency-Key": "one"}
    answer = await acme.post(URL, content=lines(3).encode(), headers=headers)
    assert answer.json()["valid"] is True
    assert api.accepted == 0
    for table in ("usage", "idempotency", "audit", "jobs", "ledger"):
        assert look(store, f"SELECT * FROM {table}") == [], table  # noqa: S608  # our own names


async def test_it_takes_the_right_to_submit(api: Api) -> None:
    """Who may only read may not use the way in."""
    key = await permit(api.store, "acme", scopes="jobs:read")
    async with api.client(key) as reader:
        answer = await reader.post(URL, content=lines(1).encode())
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("data", "query", "valid"),
    [
        (row() + "nonsense\n", "", False),
        (row() + "nonsense\n", "&on_invalid=quarantine", True),
        ("nonsense\n", "&on_invalid=quarantine", False),
        (row(), "&max_cost_usd=100", True),
    ],
)
async def test_valid_means_that_it_would_be_accepted(
    acme: httpx2.AsyncClient,
    data: str,
    query: str,
    valid: bool,  # noqa: FBT001
) -> None:
    """The options count as they would for a submission."""
    assert (await ask(acme, data, query))["valid"] is valid


async def test_a_cap_that_is_too_low_is_told_beside_all_the_rest(
    acme: httpx2.AsyncClient,
) -> None:
    """The lines are good, and the job would be refused."""
    found = await ask(acme, row("x" * 4_000) * 9, "&max_cost_usd=0.000001")
    assert (found["valid"], found["problem_count"]) == (False, 0)
    assert found["refusal"]["message"].startswith("The job is expected to cost")
    assert "max_cost_usd" in found["refusal"]["hint"]


@pytest.mark.parametrize(
    ("data", "query", "code"),
    [
        ("[1]", "", "json_array_file"),
        ("", "", "empty_input"),
        (row(), "&model=nobody", "unknown_model"),
    ],
)
async def test_what_is_refused_as_a_whole_is_refused(
    acme: httpx2.AsyncClient, api: Api, tmp_path: Path, data: str, query: str, code: str
) -> None:
    """The same answer as to a submission; there is nothing to report of it."""
    headers = {"Content-Type": "application/jsonl"}
    answer = await acme.post(URL + query, content=data.encode(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert not files(tmp_path / "data")
    assert not await job_ids(api.store)


async def test_without_a_good_line_there_is_no_estimate(acme: httpx2.AsyncClient) -> None:
    """Nobody guesses the cost of nothing."""
    assert (await ask(acme, "nonsense\n"))["estimate"] is None
