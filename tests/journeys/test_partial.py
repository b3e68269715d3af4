"""What a job has so far while it runs: asked for, read, replaced, and gone at its end."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import orjson
import pytest
from tests.journeys.service import BASE, Json, Service, prompt, running, until

from penstock.client import Api, OutputNotReady

LINES = 20


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running pair that looks as often as it is asked to."""
    folder = tmp_path_factory.mktemp("partial")
    with running(folder, PENSTOCK_TIMING_PARTIAL_SECONDS_MIN="0.5") as pair:
        yield pair


def begun(service: Service, rows: float | None = None, **options: int) -> str:
    """Submit a job that runs until the rules go, and return its id once it does.

    `rows` is the share of its lines that the provider has exported by then.
    """
    service.rule({}, {"hold": "running"})
    if rows is not None:
        service.rule({}, {"partial": True, "rows": rows, "cut": True})
    lines = [prompt(f"Question {n}", custom_id=f"q-{n}") for n in range(LINES)]
    data = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    answer = service.http.post(
        f"{service.url}{BASE}/requests",
        params=options,
        content=data,
        headers={"Content-Type": "application/jsonl"},
    )
    assert answer.status_code == 200, answer.text
    request_id = str(answer.json()["request_id"])
    service.wait_for_state(request_id, "JOB_STATE_RUNNING")
    return request_id


def ask(service: Service, request_id: str) -> httpx2.Response:
    """Ask for what there is so far."""
    return service.http.get(f"{service.url}{BASE}/requests/{request_id}/output?partial=true")


def looked(service: Service, request_id: str, lines: int) -> list[Json]:
    """Ask until a look shows so many finished lines; return all lines of it."""

    def there() -> list[Json] | None:
        answer = ask(service, request_id)
        if answer.headers.get("X-Penstock-Lines-Finished") != str(lines):
            return None
        assert answer.status_code == 200
        return [orjson.loads(line) for line in answer.content.splitlines()]

    found: list[Json] = until(there, f"a look at {request_id} with {lines} lines")
    return found


def files(service: Service, request_id: str) -> list[str]:
    """The files of all looks at a job."""
    return [name for name in service.files() if f"{request_id}/partial-" in name]


def test_finished_lines_are_there_while_the_job_runs(service: Service) -> None:
    """First 202, then N lines of which some are pending; more of them later; all in the end."""
    request_id = begun(service, 0.5)
    first = ask(service, request_id)
    assert (first.status_code, first.json()["partial"]["total"]) == (202, LINES)
    # The tenth row is half written.
    lines = looked(service, request_id, 9)
    assert [line["custom_id"] for line in lines] == [f"q-{n}" for n in range(LINES)]
    done = {line["custom_id"]: line for line in lines if not line["status"]}
    assert all('"pending"' in line["status"] for line in lines if line["status"])
    record = service.get(request_id)
    assert record["status"] == "processing"
    partial = record["outcome"]["partial"]
    assert (partial["lines"], partial["total"]) == (9, LINES)
    assert len(httpx2.get(partial["url"]).text.splitlines()) == LINES
    service.drop_rules()
    record = service.wait(request_id)
    assert "partial" not in record["outcome"]
    output = {line["custom_id"]: line for line in service.output(record)}
    assert {name: output[name] for name in done} == done
    assert all(line["status"] == "" for line in output.values())
    assert ask(service, request_id).content.count(b"\n") == LINES
    until(lambda: not files(service, request_id), "the look is removed")


def test_the_client_waits_for_the_first_look(service: Service, tmp_path: Path) -> None:
    """One call of the client gives what is finished, and how much of the job that is."""
    request_id = begun(service, 0.25)
    target = tmp_path / "so-far.jsonl"
    with Api(service.url, service.key) as client:
        done = client.download(request_id, target, partial=True)
        found = list(client.lines(request_id, partial=True))
    assert done.verified
    assert done.partial is not None
    assert (done.partial.lines, done.partial.total) == (4, LINES)
    lines = [orjson.loads(line) for line in target.read_bytes().splitlines()]
    assert sum(not line["status"] for line in lines) == 4
    assert sum(one.code == "pending" for one in found) == LINES - 4


def test_a_provider_that_exports_nothing_has_nothing_to_show(
    service: Service, tmp_path: Path
) -> None:
    """0 of N, said clearly, and the job goes on."""
    request_id = begun(service)
    with (
        Api(service.url, service.key) as client,
        pytest.raises(OutputNotReady, match=f"0 of {LINES} lines so far"),
    ):
        client.download(request_id, tmp_path / "none", partial=True)
    service.drop_rules()
    assert service.wait(request_id)["status"] == "success"


def test_a_killed_server_looks_again(service: Service) -> None:
    """The wish outlives the process, and so does a look that was taken."""
    request_id = begun(service, 0.5)
    looked(service, request_id, 9)
    service.restart_server()
    assert ask(service, request_id).headers["X-Penstock-Lines-Finished"] == "9"
    assert len(files(service, request_id)) == 2
    service.drop_rules()
    assert service.wait(request_id)["status"] == "success"


def test_a_job_in_shards_has_one_look(service: Service) -> None:
    """The lines of all shards stand in their places, finished or pending."""
    request_id = begun(service, 0.5, shards=2)
    lines = looked(service, request_id, 8)
    assert [line["custom_id"] for line in lines] == [f"q-{n}" for n in range(LINES)]
    halves = [lines[: LINES // 2], lines[LINES // 2 :]]
    assert [sum(not line["status"] for line in half) for half in halves] == [4, 4]
    service.drop_rules()
    record = service.wait(request_id)
    assert record["status"] == "success"
    assert len(service.output(record)) == LINES
    until(lambda: not files(service, request_id), "the look is removed")


def test_a_cancel_in_the_middle_keeps_what_a_look_showed(service: Service) -> None:
    """Lines that were seen finished are in the output of a job that is cancelled after that."""
    request_id = begun(service, 0.5)
    done = [line["custom_id"] for line in looked(service, request_id, 9) if not line["status"]]
    service.rule({"call": "cancel"}, {"finish": "JOB_STATE_CANCELLED", "rows": 0.5})
    service.cancel(request_id)
    record = service.wait(request_id)
    output = {line["custom_id"]: line["status"] for line in service.output(record)}
    assert all(output[name] == "" for name in done)
    assert sum('"cancelled"' in status for status in output.values()) == LINES // 2
