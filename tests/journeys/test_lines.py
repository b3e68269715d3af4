"""A job with every outcome in it, before and after a retry, as its owner sees it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.journeys.service import BASE, MODEL, Json, Service, prompt, running

from penstock.client import Api, APIError
from penstock.core.line import LineOutcome

pytestmark = pytest.mark.slow

SCHEMA = {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}, "required": ["a"]}
TEXTS = (
    "Say hello",
    "[[emulator:truncate]] tell a long story of a kettle",
    "[[emulator:block=SAFETY]]",
    "[[emulator:empty]]",
    "[[emulator:invalid-output-once]]",
    "[[emulator:fail-once=429]]",
    "[[emulator:fail=400]]",
    "[[emulator:missing-once]]",
    "Say hello",
)
BEFORE = (
    "ok",
    "truncated",
    "blocked",
    "empty",
    "invalid_output",
    "error",
    "error",
    "missing",
    "ok",
)
MENDED = {5, 6, 8}
"""Lines that end well when they are sent again."""

SENT_AGAIN = {5, 6, 7, 8}

HALF_DONE: tuple[Json, Json] = ({"call": "cancel"}, {"finish": "JOB_STATE_CANCELLED", "rows": 0.5})
"""A provider job that is told to end has written half of its rows."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running pair."""
    with running(tmp_path_factory.mktemp("lines")) as pair:
        yield pair


def line_of(number: int, text: str) -> Json:
    """A line of the input with a key of its owner's."""
    line = prompt(text, key=f"k{number}")
    if "invalid-output" in text:
        config = {"responseMimeType": "application/json", "responseSchema": SCHEMA}
        line["request"]["generationConfig"] = config
    return line


def submit(service: Service, texts: tuple[str, ...], query: str = "") -> str:
    """Submit lines and return the id of the job."""
    lines = [line_of(number, text) for number, text in enumerate(texts, start=1)]
    answer = service.http.post(
        f"{service.url}{BASE}/requests?model={MODEL}{query}",
        content="".join(json.dumps(line) + "\n" for line in lines),
        headers={"Content-Type": "application/jsonl"},
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


def penstock(service: Service, *arguments: str) -> list[str]:
    """Run the command line and return what it shows."""
    done = subprocess.run(
        [sys.executable, "-m", "penstock.cli.main", *arguments],
        env={"PENSTOCK_URL": service.url, "PENSTOCK_API_KEY": service.key, "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def assert_agrees(client: Api, record: Json, output: list[Json]) -> None:
    """Fail unless record, groups, pages, single lines and output tell the same."""
    job_id, stats = record["request_id"], record["outcome"]["batch_job_completion_stats"]
    lines = list(client.lines(job_id, with_output=True))
    assert [line.output for line in lines] == output
    assert [line.output["key"] for line in lines if line.output] == [
        f"k{number}" for number in range(1, len(lines) + 1)
    ]
    groups = client.groups(job_id).groups
    for outcome in LineOutcome:
        having = [line.line for line in lines if line.outcome == outcome]
        assert len(having) == stats[outcome]
        assert [line.line for line in client.lines(job_id, outcome=outcome)] == having
        assert sum(group.count for group in groups if group.outcome == outcome) == len(having)
    for group in groups:
        example = client.line(job_id, group.example_line)
        assert (example.outcome, example.code) == (group.outcome, group.code)
        assert example.hint == group.hint
        assert group.hint or group.outcome == "ok"
        assert example.output == output[group.example_line - 1]
    counted = ("successful_count", "failed_count", "incomplete_count")
    assert sum(stats[name] for name in counted) == stats["total_count"] == len(lines)


def test_every_outcome_before_and_after_a_retry(service: Service) -> None:
    """What is sent again is mended in the same output; all the rest stays as it was, byte for byte.

    Each way to ask gives the same answer before and after.
    """
    job_id = submit(service, TEXTS, "&retry_attempts=0")
    before = service.wait(job_id)
    output = service.output(before)
    with Api(service.url, service.key) as client:
        assert_agrees(client, before, output)
        lines = list(client.lines(job_id))
        assert [line.outcome for line in lines] == list(BEFORE)
        assert [line.twin for line in lines] == [False] * 8 + [True]
        assert {line.round for line in lines} == {1}
        assert before["outcome"]["batch_job_completion_stats"]["deduplicated_count"] == 1
        shown = penstock(service, "status", job_id)
        assert any("1 error 429  another try may mend it  e.g. line 6" in line for line in shown)
        table = penstock(service, "lines", job_id, "--outcome", "error,missing", "--text")
        assert [line.split("\t")[:2] for line in table] == [
            ["6", "error"],
            ["7", "error"],
            ["8", "missing"],
        ]
        cursor = client.lines(job_id).page(1).next_cursor

        again = service.http.post(
            f"{service.url}{BASE}/requests/{job_id}/retry?outcomes=error,missing,invalid_output"
        )
        assert again.status_code == 200, again.text
        assert again.json()["status"] == "processing"
        after = service.wait(job_id)
        new = service.output(after)
        assert_agrees(client, after, new)
        lines = list(client.lines(job_id))
        for line, old in zip(lines, BEFORE, strict=True):
            assert line.outcome == ("ok" if line.line in MENDED else old), line
            assert line.round == (2 if line.line in SENT_AGAIN else 1), line
            if line.line not in SENT_AGAIN:
                assert new[line.line - 1] == output[line.line - 1]
        assert after["outcome"]["round"]["number"] == 2
        with pytest.raises(APIError, match="does not belong to this list"):
            client.lines(job_id).page(1, cursor=cursor)


def test_lines_that_a_cancel_cut_off(service: Service) -> None:
    """They are told apart from those that failed, and the job says how many there are."""
    service.rule(*HALF_DONE)
    job_id = submit(service, ("a", "b", "[[emulator:delay=10h]] c"))
    service.wait_for_state(job_id, "JOB_STATE_RUNNING")
    service.cancel(job_id)
    record = service.wait(job_id)
    assert record["status"] == "cancelled"
    with Api(service.url, service.key) as client:
        assert_agrees(client, record, service.output(record))
        assert {line.outcome for line in client.lines(job_id)} == {"ok", "cancelled"}


def test_lines_that_time_ran_out_for(tmp_path: Path) -> None:
    """A job that ran for too long delivers what there is, and the others are expired."""
    with running(tmp_path, PENSTOCK_LIMITS_RUN_SECONDS_MAX="1") as service:
        service.rule(*HALF_DONE)
        job_id = submit(service, ("a", "[[emulator:delay=10h]] b"))
        record = service.wait(job_id)
        assert record["status"] == "failed"
        with Api(service.url, service.key) as client:
            assert_agrees(client, record, service.output(record))
            assert {line.outcome for line in client.lines(job_id)} == {"ok", "expired"}
