import base64
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd  # type: ignore[import-untyped]  # it has no annotations
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it has no annotations
import pytest
from tests.client.kinds import Connect, Pauses
from tests.client.stub import BASE, KEY, Reply, Stub, error, job, record

from penstock.client import ClientError, ConnectionFailed, InputInvalid, Retry, StillRunning
from penstock.client.sources import MEMORY_BYTES_MAX, Request, line_of

MODEL = "gemini-3-flash-preview"
LINE = {"key": "a", "request": {"contents": [{"parts": [{"text": "x"}]}]}}


def prompt(text: str, key: str) -> dict[str, Any]:
    """Return the line of a prompt."""
    return {"key": key, "request": {"contents": [{"role": "user", "parts": [{"text": text}]}]}}


def sent(stub: Stub) -> list[Any]:
    """Return the lines of the last submission."""
    data = json.loads(stub.calls("POST")[-1].body)["payload"]["input_data"]
    return [json.loads(line) for line in base64.b64decode(data).splitlines()]


@pytest.fixture
def takes(stub: Stub) -> Stub:
    """A server that takes submissions."""
    stub.on("POST", "/requests", job())
    return stub


def test_requests_one_by_one(connect: Connect, takes: Stub) -> None:
    """Lines go as they are, requests and prompts become lines, and the number is the key."""
    plain = {"contents": [{"parts": [{"text": "y"}]}]}
    requests: list[Request] = [LINE, {"request": {}}, plain, "a prompt\n", b'{"request": {}}\r\n']
    with connect.client(takes.url) as client:
        handle = client.jobs.submit(iter(requests), model=MODEL)
    assert (handle.id, handle.status, handle.done, handle.model) == (
        "req_7", "queued", False, MODEL,
    )  # fmt: skip
    assert sent(takes) == [
        LINE,
        {"key": "2", "request": {}},
        {"key": "3", "request": plain},
        prompt("a prompt\n", "4"),
        {"request": {}},
    ]


def test_files_and_bytes(connect: Connect, takes: Stub, tmp_path: Path) -> None:
    """A path, an open file and bytes are sent as they are; the caller's file stays open."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(json.dumps(LINE).encode())
    file = io.BytesIO(path.read_bytes())
    with connect.client(takes.url) as client:
        for source in (path, str(path), file, path.read_bytes(), LINE):
            client.jobs.submit(source, model=MODEL)
            assert sent(takes) == [LINE]
    assert not file.closed


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pd", "pl", "pa"])
def test_frames(connect: Connect, takes: Stub, make: Any) -> None:  # noqa: ANN401  # three libraries
    """Rows of any kind of frame are prompts or requests, with the key of the row."""
    with connect.client(takes.url) as client:
        client.jobs.submit(make({"prompt": ["a", "b"], "key": ["k", None]}), model=MODEL)
        assert sent(takes) == [prompt("a", "k"), prompt("b", "2")]
        client.jobs.submit(make({"request": [json.dumps(LINE)]}), model=MODEL)
        assert sent(takes) == [LINE]
        for bad in ({"text": ["a"]}, {"prompt": [None]}, {"request": ["{"]}, {"request": [3.5]}):
            with pytest.raises(ClientError, match=r"frame has neither|request 1 is"):
                client.jobs.submit(make(bad), model=MODEL)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"key": "a"}, "neither `request` nor `contents`"),
        (["a"], "of type list"),
        ({"request": {"a": object()}}, "no JSON"),
        ("\ud800", "no JSON"),
        (b"a\nb", "line end in the middle"),
    ],
)
def test_what_is_no_request(
    connect: Connect,
    stub: Stub,
    request_: Any,  # noqa: ANN401  # on purpose
    says: str,
) -> None:
    """It is refused with its number before anything is sent."""
    with connect.client(stub.url) as client, pytest.raises(ClientError, match=says) as caught:
        client.jobs.submit(["fine", request_], model=MODEL)
    assert "request 2" in str(caught.value)
    assert not stub.seen


def test_a_text_file(connect: Connect, stub: Stub, tmp_path: Path) -> None:
    """A file that is open as text is refused, as its bytes are not the file's."""
    (tmp_path / "in.jsonl").write_text("{}", encoding="utf-8")
    with (
        (tmp_path / "in.jsonl").open(encoding="utf-8") as file,
        connect.client(stub.url) as client,
        pytest.raises(ClientError, match="open as text"),
    ):
        client.jobs.submit(file, model=MODEL)


def test_many_requests_lie_in_a_file(connect: Connect, takes: Stub) -> None:
    """What is more than a few megabytes can be sent again like any file, in pieces."""
    upload = {"Location": "/uploads/up_1"}
    takes.on("POST", "/uploads", Reply(201, b"", upload))
    takes.on("PATCH", "/uploads/up_1", Reply(content=b"..", cut=1), job())
    takes.on("HEAD", "/uploads/up_1", Reply(204, b"", {"Upload-Offset": "1000"}))
    text = "x" * 1_000_000

    def requests() -> Iterator[str]:
        for _ in range(MEMORY_BYTES_MAX // len(text) + 2):
            yield text

    with connect.client(takes.url) as client:
        client.jobs.submit(requests(), model=MODEL)
    first, second = takes.calls("PATCH")
    assert first.body[1000:] == second.body
    assert msgspec.json.decode(first.body.splitlines()[1]) == prompt(text, "2")


def test_options_of_a_job(connect: Connect, takes: Stub) -> None:
    """Each option is said as the server wants it; what is None is not said."""
    with connect.client(takes.url) as client:
        client.jobs.submit(
            ["x"],
            model=MODEL,
            name="nightly",
            labels={"team": "ads", "when": "a:b"},
            max_cost=1.5,
            retry=Retry(attempts=2, outcomes=("error", "missing")),
            priority=3,
            on_invalid="quarantine",
            deduplicate=False,
            shards=2,
            idempotency_key="mine",
        )
        client.jobs.submit(["x"], model=MODEL, retry=0, name=None, max_cost=None)
    first, second = takes.calls("POST")
    assert set(first.path.partition("?")[2].split("&")) == {
        "name=nightly",
        "label=team%3Aads",
        "label=when%3Aa%3Ab",
        "max_cost_usd=1.5",
        "retry_attempts=2",
        "retry_outcomes=error%2Cmissing",
        "on_invalid=quarantine",
        "deduplicate=false",
        "shards=2",
    }
    assert first.headers["x-penstock-priority"] == "3"
    assert first.headers["idempotency-key"] == "mine"
    assert second.path.partition("?")[2] == "retry_attempts=0"
    assert "x-penstock-priority" not in second.headers
    assert len(second.headers["idempotency-key"]) == 32


def test_a_submission_by_the_caller_is_one_job(connect: Connect, stub: Stub) -> None:
    """Repeats of a call have one key; another call has another one."""
    stub.on("POST", "/requests", error(503, "busy", "later"), job())
    with connect.client(stub.url) as client:
        client.jobs.submit(["x"], model=MODEL)
        client.jobs.submit(["x"], model=MODEL)
    keys = [seen.headers["idempotency-key"] for seen in stub.calls("POST")]
    assert keys[0] == keys[1] != keys[2]


def test_jobs_are_found_again(connect: Connect, stub: Stub) -> None:
    """By id, and in lists over all pages with the filters of each page."""
    named = {**record(), "name": "nightly", "labels": {"team": "ads"}}
    stub.on("GET", "/requests/req_7", Reply(content=json.dumps(named).encode()))
    first = {"requests": [record(), named], "next_cursor": "c"}
    stub.on(
        "GET",
        "/requests",
        Reply(content=json.dumps(first).encode()),
        Reply(content=json.dumps({"requests": [named]}).encode()),
    )
    with connect.client(stub.url) as client:
        handle = client.jobs.get("req_7")
        assert (handle.name, handle.labels) == ("nightly", {"team": "ads"})
        found = client.jobs.list(status="queued", name="nightly", labels={"team": "ads"})
        # The first of the page has no name: an older server passes over the question.
        assert [each.name for each in found] == ["nightly", "nightly"]
    query = "limit=100{}&status=queued&name=nightly&label=team%3Aads"
    paths = [seen.path for seen in stub.seen[1:]]
    assert paths == [
        f"{BASE}/requests?{query.format('')}",
        f"{BASE}/requests?{query.format('&cursor=c')}",
    ]


def of(job_id: str, status: str) -> Reply:
    """Return an answer with the record of some job."""
    return Reply(content=json.dumps({**record(status), "request_id": job_id}).encode())


def test_jobs_as_they_end(connect: Connect, stub: Stub, pauses: Pauses) -> None:
    """The one that ends first comes first; who waits for all gets them in their own order."""
    stub.on("GET", "/requests/one", *[of("one", "processing")] * 3, of("one", "success"))
    stub.on("GET", "/requests/two", of("two", "queued"), of("two", "queued"), of("two", "failed"))
    with connect.client(stub.url, sleep=pauses) as client:
        jobs = [client.jobs.get("one"), client.jobs.get("two")]
        ended = [(each.id, each.status) for each in client.jobs.as_completed(jobs)]
        assert ended == [("two", "failed"), ("one", "success")]
        assert [each.id for each in client.jobs.wait_all(jobs)] == ["one", "two"]
        assert list(client.jobs.as_completed([])) == []
    assert pauses.slept == [1.0, 1.0]


def test_waiting_for_several_ends_in_time(connect: Connect, stub: Stub, pauses: Pauses) -> None:
    """The error names one that goes on, and how to wait for it again."""
    stub.on("GET", "/requests/one", of("one", "processing"))
    with connect.client(stub.url, sleep=pauses) as client:
        jobs = [client.jobs.get("one")]
        with pytest.raises(StillRunning, match="after 3 s; the job continues") as caught:
            list(client.jobs.as_completed(jobs, timeout_seconds=3, now=pauses.now))
    assert "client.jobs.get('one')" in str(caught.value.hint)
    assert pauses.slept == [1.0, 1.5, 0.5]


def test_waiting_for_several_survives_a_restart(
    connect: Connect, stub: Stub, pauses: Pauses
) -> None:
    """A server that is away for a while does not end the wait, one that is gone does."""
    away = error(503, "busy", "starting")
    stub.on("GET", "/requests/one", of("one", "queued"), *[away] * 7, of("one", "success"))
    stub.on("GET", "/requests/two", of("two", "queued"), away)
    with connect.client(stub.url, sleep=pauses) as client:
        one, two = client.jobs.get("one"), client.jobs.get("two")
        (ended,) = client.jobs.as_completed([one], now=pauses.now)
        assert ended.status == "success"
        with pytest.raises(ClientError, match="starting"):
            list(client.jobs.as_completed([two], now=pauses.now))


def judged(**more: object) -> Reply:
    """Return an answer to a validation."""
    return Reply(content=json.dumps({"valid": True, "line_count": 2, **more}).encode())


def test_validate_and_estimate(connect: Connect, stub: Stub) -> None:
    """Requests of any kind are judged as they are; an estimate is what the server expects."""
    cost = {"cost_usd": {"low": "0.1", "expected": "0.2", "high": "0.3"}, "lines": 2}
    stub.on("POST", "/requests", judged(), judged(estimate=cost))
    with connect.client(stub.url) as client:
        assert client.validate(["a", "b"], model=MODEL, shards=2).valid
        estimate = client.estimate(b"{}", model=MODEL, max_cost="5")
    assert estimate.cost_usd is not None
    assert estimate.cost_usd.expected == "0.2"
    first, second = stub.seen
    assert first.path.endswith(f"?validate_only=true&model={MODEL}&shards=2")
    assert [json.loads(line) for line in first.body.splitlines()] == [
        prompt("a", "1"),
        prompt("b", "2"),
    ]
    assert second.path.endswith("max_cost_usd=5")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            {"problem_count": 3, "problems": [{"line": 2, "message": "no", "hint": "mend"}]},
            "3 of 2 lines are bad; line 2: no",
        ),
        ({"problem_count": 3}, "3 of 2 lines are bad"),
        ({"refusal": {"code": "too_many_lines", "message": "too many"}}, "too many"),
    ],
)
def test_no_estimate_of_what_would_be_refused(
    connect: Connect, stub: Stub, answer: dict[str, object], says: str
) -> None:
    """The error has what a submission's would have."""
    stub.on("POST", "/requests", judged(valid=False, **answer))
    with connect.client(stub.url) as client, pytest.raises(InputInvalid) as caught:
        client.estimate(["a", "b"], model=MODEL)
    assert str(caught.value) == says
    assert caught.value.details_total == answer.get("problem_count", 0)


def test_what_else_a_client_asks(connect: Connect, stub: Stub) -> None:
    """Models and what was spent are there without the calls by id, and so are those."""
    stub.on("GET", "/models", Reply(content=b'{"model_ids": ["m"]}'))
    spent = {"org_id": "org_1", "from": "2026-11-01", "to": "2026-11-23"}
    stub.serve("/api/v1/usage", Reply(content=json.dumps(spent).encode()))
    stub.serve("/api/v1/webhooks", Reply(content=b'{"webhooks": []}'))
    with connect.client(stub.url, organization="org_1", timeout=3) as client:
        assert client.models().model_ids == client.api.models().model_ids == ["m"]
        assert client.spent(first="2026-11-01", by=["day"]).org_id == "org_1"
        assert client.webhooks.list() == []
        assert repr(client).endswith(f"Client({stub.url!r})")
    assert stub.seen[0].headers["x-organization-id"] == "org_1"
    assert stub.seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_client_that_is_closed(connect: Connect, stub: Stub) -> None:
    """It says so by failing, and closing it twice is fine."""
    client = connect.client(stub.url)
    client.close()
    client.close()
    with pytest.raises((RuntimeError, ConnectionFailed)):
        client.models()


def test_the_line_of_a_line() -> None:
    """A line in bytes loses its end alone."""
    assert line_of(b'{"a": 1} \n', 1) == b'{"a": 1} '


def test_files_and_pipes_are_judged(connect: Connect, stub: Stub, tmp_path: Path) -> None:
    """A path is judged as it is, and so is what comes from a pipe, which has no size."""
    stub.on("POST", "/requests", judged())
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n")
    told: list[tuple[int, int | None]] = []
    with connect(stub) as api:
        assert api.validate(path, model=MODEL, on_progress=lambda *now: told.append(now)).valid
        reading, writing = os.pipe()
        with os.fdopen(writing, "wb") as end:
            end.write(b"{}")
        with os.fdopen(reading, "rb") as pipe:
            assert api.validate(pipe, model=MODEL).valid
    first, second = stub.seen
    assert (first.body, first.headers["content-length"], told) == (b"{}\n", "3", [(3, 3)])
    assert (second.body, second.headers["transfer-encoding"]) == (b"{}", "chunked")
