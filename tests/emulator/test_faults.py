"""Fault rules: what goes wrong on request, as a client sees it."""

import time
from typing import Any

import httpx2
import pytest
from tests.emulator.driver import JOBS, Emulator, create_body, jsonl, line

LOST = (httpx2.RemoteProtocolError, httpx2.ReadError)


def jobs_made(emulator: Emulator) -> int:
    """How many jobs exist, whoever knows of them."""
    return len(emulator.http.get("/emulator/v1/jobs").json()["jobs"])


def test_an_answer_lost_after_create_leads_to_a_second_job(emulator: Emulator) -> None:
    """The client sees a cut connection, the job exists, and a blind retry pays twice."""
    emulator.rule(when={"call": "create"}, then={"drop": "after"}, times=1)
    with pytest.raises(LOST):
        emulator.http.post(JOBS, json=create_body())
    assert jobs_made(emulator) == 1
    emulator.create()
    assert jobs_made(emulator) == 2
    assert len(emulator.events("job_created")) == 2


def test_a_create_dropped_before_makes_nothing(emulator: Emulator) -> None:
    """The same cut connection, but no job."""
    emulator.rule(when={"call": "create"}, then={"drop": "before"}, times=1)
    with pytest.raises(LOST):
        emulator.http.post(JOBS, json=create_body())
    assert jobs_made(emulator) == 0


@pytest.mark.parametrize("call", ["get", "list", "cancel", "delete"])
def test_any_call_can_be_dropped(emulator: Emulator, call: str) -> None:
    """Every Vertex call can lose its answer; the server goes on."""
    name = emulator.create()["name"]
    emulator.rule(when={"call": call}, then={"drop": "after"}, times=1)
    requests: dict[str, tuple[str, str]] = {
        "get": ("GET", f"/v1/{name}"),
        "list": ("GET", JOBS),
        "cancel": ("POST", f"/v1/{name}:cancel"),
        "delete": ("DELETE", f"/v1/{name}"),
    }
    with pytest.raises(LOST):
        emulator.http.request(*requests[call])
    assert emulator.http.get("/healthz").status_code == 200


def test_ordered_statuses(emulator: Emulator) -> None:
    """Any status in Google's shape, with Retry-After, as often as asked, for matching names."""
    rule = emulator.rule(
        when={"call": "create", "display_name": "svc-*"},
        then={"status": 429, "retry_after": 7},
        times=2,
    )
    for _ in range(2):
        answer = emulator.http.post(JOBS, json=create_body())
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "7"
        assert answer.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
    emulator.create(displayName="other")
    emulator.create()
    assert emulator.http.get(f"/emulator/v1/rules/{rule}").json()["used"] == 2


def test_a_status_after_the_effect(emulator: Emulator) -> None:
    """503 although the job was made; also a 200 with a body that makes no sense."""
    emulator.rule(when={"call": "create"}, then={"status": 503, "after": True}, times=1)
    assert emulator.http.post(JOBS, json=create_body()).status_code == 503
    emulator.rule(when={"call": "create"}, then={"body": "<html>", "after": True}, times=1)
    answer = emulator.http.post(JOBS, json=create_body())
    assert (answer.status_code, answer.text) == (200, "<html>")
    assert jobs_made(emulator) == 2


def test_a_late_create_lands_later(emulator: Emulator) -> None:
    """The answer is lost, and the job appears only when the clock has moved on."""
    then = {"drop": "after", "land_after_seconds": 60}
    emulator.rule(when={"call": "create"}, then=then, times=1)
    with pytest.raises(LOST):
        emulator.http.post(JOBS, json=create_body())
    assert emulator.http.get(JOBS).json() == {}
    emulator.clock.now += 61
    (job,) = emulator.http.get(JOBS).json()["batchPredictionJobs"]
    assert emulator.finish(job["name"])["error"]["code"] == 3


def test_a_duplicate_by_the_provider_and_a_stale_list(emulator: Emulator) -> None:
    """One create makes two jobs; a stale list does not know them yet."""
    emulator.rule(when={"call": "create"}, then={"duplicate": True}, times=1)
    emulator.create()
    rule = emulator.rule(when={"call": "list"}, then={"stale_seconds": 20})
    assert emulator.http.get(JOBS).json() == {}
    emulator.http.delete(f"/emulator/v1/rules/{rule}")
    assert len(emulator.http.get(JOBS).json()["batchPredictionJobs"]) == 2


@pytest.mark.parametrize("state", ["JOB_STATE_PAUSED", "JOB_STATE_UPDATING", "JOB_STATE_NOVEL"])
def test_states_can_be_pretended(emulator: Emulator, state: str) -> None:
    """Both get and list say what the rule says, once each, and the truth afterwards."""
    name = emulator.create()["name"]
    emulator.rule(when={"call": "get"}, then={"state": state}, times=1)
    emulator.rule(when={"call": "list"}, then={"state": state}, times=1)
    assert emulator.get(name)["state"] == state
    assert emulator.get(name)["state"] == "JOB_STATE_PENDING"
    (listed,) = emulator.http.get(JOBS).json()["batchPredictionJobs"]
    assert listed["state"] == state


def test_a_slow_answer(emulator: Emulator) -> None:
    """The call takes at least as long as asked."""
    emulator.rule(when={"call": "list"}, then={"delay_seconds": 0.05}, times=1)
    began = time.monotonic()
    assert emulator.http.get(JOBS).status_code == 200
    assert time.monotonic() - began >= 0.05


def test_storage_faults(emulator: Emulator) -> None:
    """Refused writes and reads by path, in the shape of each API."""
    emulator.rule(
        when={"call": "object_write", "path": "penstock/a*"}, then={"status": 503}, times=1
    )
    refused = emulator.http.put("/penstock/abc", content=b"x" * 100_000)
    assert refused.status_code == 503
    assert "<Code>ServiceUnavailable</Code>" in refused.text
    emulator.put("abc", b"0123456789")
    emulator.rule(when={"call": "object_read"}, then={"status": 429}, times=1)
    answer = emulator.http.get("/storage/v1/b/penstock/o/abc")
    assert answer.json()["error"]["errors"][0]["reason"] == "rateLimitExceeded"


def test_corrupt_and_cut_downloads(emulator: Emulator) -> None:
    """One flipped bit at full length; and a body that ends too early."""
    body = bytes(300_000)
    emulator.put("abc", body)
    emulator.rule(when={"call": "object_read"}, then={"corrupt": True}, times=1)
    got = emulator.read("abc")
    assert len(got) == len(body)
    assert sum(byte.bit_count() for byte in got) == 1
    emulator.rule(when={"call": "object_read"}, then={"cut_after_bytes": 100_000}, times=1)
    with emulator.http.stream("GET", "/penstock/abc") as answer:
        chunks = answer.iter_raw()
        received = len(next(chunks))
        with pytest.raises(LOST):
            received += sum(len(chunk) for chunk in chunks)
    assert received <= 100_000
    assert emulator.read("abc") == body


@pytest.mark.parametrize(
    "body",
    [
        {"then": {"statuss": 503}},
        {"when": {"call": "fly"}, "then": {"status": 503}},
        {"when": {}},
        {"then": {}},
        [],
    ],
)
def test_bad_rules_are_refused(shared: Emulator, body: Any) -> None:  # noqa: ANN401 - any JSON
    """400 with the reason, so that a typing error does not pass for a fault that never came."""
    answer = shared.http.post("/emulator/v1/rules", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_rules_can_be_listed_and_cleared(emulator: Emulator) -> None:
    """All rules in order; removing an unknown one is a 404."""
    ids = [emulator.rule(then={"status": 500}), emulator.rule(then={"status": 501})]
    listed = emulator.http.get("/emulator/v1/rules").json()["rules"]
    assert [rule["id"] for rule in listed] == ids
    assert emulator.http.delete("/emulator/v1/rules/99").status_code == 404
    assert emulator.http.get("/emulator/v1/rules/99").status_code == 404
    assert emulator.http.delete("/emulator/v1/rules").json() == {"removed": 2}


def test_an_unreadable_input(emulator: Emulator) -> None:
    """The service agent may lack the right to read: the job fails, the create does not."""
    emulator.rule(when={"call": "job_input", "path": "penstock/in/*"}, then={"status": 403})
    emulator.put("in/x.jsonl", jsonl([line("a")]))
    assert emulator.finish(emulator.create()["name"])["error"]["code"] == 7


@pytest.mark.parametrize("body", [{"advance_seconds": -1}, {"advance": 1}, "x"])
def test_the_clock_only_moves_forward(shared: Emulator, body: Any) -> None:  # noqa: ANN401 - any JSON
    """Anything else is refused, and the time stays."""
    before = shared.http.get("/emulator/v1/clock").json()
    assert shared.http.post("/emulator/v1/clock", json=body).status_code == 400
    assert shared.http.get("/emulator/v1/clock").json() == before
