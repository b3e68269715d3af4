"""Bad lines that are put aside: the good ones are accepted, and each bad one is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.api.driver import BASE, Api, files, job_ids, lines
from tests.api.test_doors import DOORS, ENCODERS

from penstock.blobs.spool import INPUT, INPUT_INDEX
from penstock.core.job import JobId
from penstock.core.limits import Limits
from penstock.ingest.index import ROW_BYTES
from penstock.ingest.problems import PROBLEMS, read_problems

URL = f"{BASE}/requests?on_invalid=quarantine"
GOOD = lines(1)
MIXED = f'{GOOD}\n{{"key": 1}}\r\n{GOOD}nonsense\n{GOOD}{{"request": {{"contents": [{{}}]}}}}'
"""Six requests on lines 1, 3, 4, 5, 6 and 7; the second, the fourth and the last are bad."""


@pytest.fixture
def limits() -> Limits:
    """Limits that a test can reach."""
    return Limits(quarantine_lines_max=3, problems_reported_max=2)


async def send(client: httpx2.AsyncClient, data: str) -> httpx2.Response:
    """Submit JSONL."""
    headers = {"Content-Type": "application/jsonl"}
    return await client.post(URL, content=data.encode(), headers=headers)


@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("door", DOORS)
async def test_bad_lines_are_put_aside_through_every_door(
    acme: httpx2.AsyncClient,
    api: Api,
    door: Callable[[str], tuple[str, bytes]],
    encoding: str | None,
) -> None:
    """The input stays as it was sent, all lines count, and the bad ones are named by number."""
    kind, body = door(MIXED)
    headers = {"Content-Type": kind} | ({"Content-Encoding": encoding} if encoding else {})
    answer = await acme.post(URL, content=ENCODERS[encoding](body), headers=headers)
    assert answer.status_code == 200, answer.text
    job = await api.store.jobs.load(JobId(answer.json()["request_id"]))
    assert job is not None
    assert (job.line_count, job.problem_count) == (6, 3)
    assert answer.json()["problem_count"] == 3
    assert api.spool.path(job.id, INPUT).read_bytes() == MIXED.encode()
    assert api.spool.path(job.id, INPUT_INDEX).stat().st_size == 6 * ROW_BYTES
    problems = read_problems(api.spool.path(job.id, PROBLEMS))
    assert {number: (bad.line, bad.code) for number, bad in problems.items()} == {
        2: (3, "missing_request"),
        4: (5, "invalid_json"),
        6: (7, "empty_object"),
    }
    assert problems[4].column == 1


async def test_a_good_file_has_no_problems(
    acme: httpx2.AsyncClient, api: Api, tmp_path: Path
) -> None:
    """Nothing is written where nothing was put aside."""
    answer = await send(acme, lines(3))
    job = await api.store.jobs.load(JobId(answer.json()["request_id"]))
    assert job is not None
    assert job.problem_count == 0
    assert "problem_count" not in answer.json()
    assert not [path for path in files(tmp_path / "data") if PROBLEMS in str(path)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("nonsense\n" * 3, "invalid_input"),
        (GOOD + "nonsense\n" * 4, "too_many_problems"),
        ("[" + GOOD + "]", "json_array_file"),
        ("\n\n", "empty_input"),
    ],
)
async def test_what_cannot_be_put_aside_is_refused(
    acme: httpx2.AsyncClient, api: Api, tmp_path: Path, data: str, code: str
) -> None:
    """No good line, too many bad ones, or no JSONL at all: nothing is stored."""
    answer = await send(acme, data)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    if code == "too_many_problems":
        assert (len(answer.json()["details"]), answer.json()["details_total"]) == (2, 4)
        assert "quarantine_lines_max" in answer.json()["hint"]
    assert not await job_ids(api.store)
    assert not files(tmp_path / "data")


async def test_bad_lines_make_no_columns(acme: httpx2.AsyncClient, api: Api) -> None:
    """A line that is not sent says nothing of what the others may hold."""
    request: dict[str, Any] = {"contents": [{"parts": [{"text": "x"}]}]}
    labels = [{"a": "x", "b": None, "": "x"}, {"a": ["x"], "b": ["x"]}, {"a": "x"}]
    rows = [json.dumps({"request": {**request, "labels": one}}) for one in labels]
    answer = await send(acme, "\n".join(rows))
    job = await api.store.jobs.load(JobId(answer.json()["request_id"]))
    assert job is not None
    problems = read_problems(api.spool.path(job.id, PROBLEMS))
    assert {number: (bad.code, bad.path) for number, bad in problems.items()} == {
        1: ("invalid_member_name", '$.request.labels[""]'),
        3: ("mixed_types", "$.request.labels.a"),
    }
