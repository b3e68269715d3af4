"""Options of a submission: read from the query whatever the form, kept with the job, and told."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx2
import msgspec
import pytest
from starlette.datastructures import QueryParams
from tests.api.driver import BASE, Api, files, job_ids, lines, submission
from tests.api.test_doors import DOORS

from penstock.api.options import read_options, shown
from penstock.core.job import JobId
from penstock.core.line import LineOutcome
from penstock.core.options import NO_OPTIONS, OnInvalid, Options, RetryPolicy
from penstock.errors import InvalidRequest

URL = f"{BASE}/requests"
ALL = (
    "max_cost_usd=12.5&on_invalid=quarantine&deduplicate=false&shards=3"
    "&retry_attempts=2&retry_outcomes=missing,error"
)
READ = Options(
    max_cost_micro_dollars=12_500_000,
    deduplicate=False,
    shards=3,
    retry=RetryPolicy(attempts=2, outcomes=(LineOutcome.ERROR, LineOutcome.MISSING)),
    on_invalid=OnInvalid.QUARANTINE,
)
SHOWN = {
    "max_cost_usd": "12.500000",
    "on_invalid": "quarantine",
    "deduplicate": False,
    "shards": 3,
    "retry_attempts": 2,
    "retry_outcomes": ["error", "missing"],
}
BAD = [
    ("max_cost_usd=", "12.50"),
    ("max_cost_usd=-1", "12.50"),
    ("max_cost_usd=1e3", "12.50"),
    ("max_cost_usd=0.0000001", "12.50"),
    ("max_cost_usd=1234567890", "12.50"),
    ("on_invalid=ignore", "refuse or quarantine"),
    ("deduplicate=yes", "true or false"),
    ("validate_only=1", "true or false"),
    ("shards=0", "from 1 to 20"),
    ("shards=21", "from 1 to 20"),
    ("shards=two", "from 1 to 20"),
    ("retry_attempts=6", "from 0 to 5"),
    ("retry_outcomes=", "error, missing"),
    ("retry_outcomes=ok", "error, missing"),
    ("retry_outcomes=error,error", "each once"),
]


def test_all_options_are_read() -> None:
    """Each name becomes its option, with the dollars exact and the outcomes in one order."""
    assert read_options(QueryParams(ALL)) == READ
    assert msgspec.json.decode(msgspec.json.encode(shown(READ))) == SHOWN
    assert read_options(QueryParams("")) == NO_OPTIONS
    assert shown(NO_OPTIONS) == {}


@pytest.mark.parametrize(
    ("text", "micro"),
    [("0", 0), ("1", 1_000_000), ("0.000001", 1), ("007.10", 7_100_000), ("0.1", 100_000)],
)
def test_dollars_are_exact(text: str, micro: int) -> None:
    """Decimal text never goes through a float."""
    options = read_options(QueryParams({"max_cost_usd": text}))
    assert options.max_cost_micro_dollars == micro


@pytest.mark.parametrize(("query", "allowed"), BAD)
@pytest.mark.parametrize("path", ["/requests", "/uploads"])
async def test_what_is_no_option_is_refused(
    acme: httpx2.AsyncClient, api: Api, tmp_path: Path, query: str, allowed: str, path: str
) -> None:
    """The answer says what is allowed, through both ways in, and nothing is stored."""
    headers = {"Content-Type": "application/jsonl", "Upload-Complete": "?1"}
    answer = await acme.post(f"{BASE}{path}?{query}", content=lines(1).encode(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert allowed in answer.json()["hint"]
    assert not await job_ids(api.store)
    assert not files(tmp_path / "data")


def test_an_option_that_stands_twice_is_refused() -> None:
    """Which one counts would be a guess."""
    with pytest.raises(InvalidRequest) as caught:
        read_options(QueryParams("shards=1&shards=2"))
    assert caught.value.error_code == "duplicate_member"


@pytest.mark.parametrize("door", DOORS)
async def test_options_hold_whatever_the_form(
    acme: httpx2.AsyncClient, api: Api, door: Callable[[str], tuple[str, bytes]]
) -> None:
    """They are in the job and in the record, and not among what the caller sent of his own."""
    kind, body = door(lines(3))
    query = ALL + ("" if kind == "application/json" else "&mine=1")
    answer = await acme.post(f"{URL}?{query}", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 200, answer.text
    assert answer.json()["options"] == SHOWN
    assert not {"shards", "max_cost_usd", "validate_only"} & answer.json()["payload"].keys()
    job = await api.store.jobs.load(JobId(answer.json()["request_id"]))
    assert job is not None
    assert job.options == READ


async def test_a_record_without_options_does_not_name_them(acme: httpx2.AsyncClient) -> None:
    """Existing clients get the record that they know."""
    answer = await acme.post(URL, json=submission(lines(1)))
    assert "options" not in answer.json()


async def test_options_survive_an_upload_in_pieces(acme: httpx2.AsyncClient, api: Api) -> None:
    """Those of the upload's creation hold at its end."""
    begun = await acme.post(
        f"{BASE}/uploads?{ALL}",
        headers={"Content-Type": "application/jsonl", "Upload-Complete": "?0"},
    )
    assert begun.status_code == 201, begun.text
    done = await acme.patch(
        begun.headers["Location"],
        content=lines(2).encode(),
        headers={
            "Content-Type": "application/partial-upload",
            "Upload-Offset": "0",
            "Upload-Complete": "?1",
        },
    )
    assert done.json()["options"] == SHOWN
    job = await api.store.jobs.load(JobId(done.json()["request_id"]))
    assert job is not None
    assert job.options == READ


async def test_options_are_part_of_what_a_key_stands_for(acme: httpx2.AsyncClient) -> None:
    """The same lines with other options are another submission."""
    headers = {"Idempotency-Key": "one"}
    body = submission(lines(1))
    first = await acme.post(f"{URL}?shards=2", json=body, headers=headers)
    again = await acme.post(f"{URL}?shards=2", json=body, headers=headers)
    other = await acme.post(f"{URL}?shards=3", json=body, headers=headers)
    plain = await acme.post(URL, json=body, headers=headers)
    assert first.json() == again.json()
    assert (other.status_code, plain.status_code) == (422, 422)


async def test_an_upload_in_pieces_cannot_be_validated(acme: httpx2.AsyncClient) -> None:
    """The answer names the way that can."""
    answer = await acme.post(
        f"{BASE}/uploads?validate_only=true", headers={"Upload-Complete": "?0"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert "POST /requests" in json.dumps(answer.json())
