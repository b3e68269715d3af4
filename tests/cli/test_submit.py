"""What a person sees before a file is sent, and what a script is spared."""

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import click
import pytest
from tests.client.stub import Reply, Stub, error, job

from penstock.cli.main import run
from penstock.client.profile import Profile, Profiles, config_path, save

pytestmark = pytest.mark.usefixtures("shell")

Out = pytest.CaptureFixture[str]
USAGE = {
    "org_id": "acme",
    "quotas": {"spend_month_micro_dollars_max": 5_000_000_000, "jobs_in_flight_max": 3},
    "used": {"spent_month_micro_dollars": 3_000_000, "reserved_month_micro_dollars": 1_000_000},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file to submit."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"request": {"contents": [{}]}}\n')
    return path


def judged(cost: str | None = "4.00", **more: Any) -> Reply:  # noqa: ANN401  # JSON
    """What a server says of a file that is only judged."""
    dollars = None if cost is None else {"low": "1.00", "expected": cost, "high": "99.00"}
    found = {"valid": True, "line_count": 1, "input_bytes": 32, "estimate": {"cost_usd": dollars}}
    return Reply(content=json.dumps(found | more).encode())


def sit_down(monkeypatch: pytest.MonkeyPatch, answer: bool | None = None) -> list[str]:  # noqa: FBT001  # what is typed
    """Somebody sits there and answers so; the questions are noted."""
    asked: list[str] = []

    def confirm(text: str, **options: object) -> bool:
        asked.append(text)
        assert answer is not None, (text, options)
        return answer

    monkeypatch.setattr(click, "confirm", confirm)
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    return asked


def is_judging(path: str) -> bool:
    """Whether a call only asked for a judgement."""
    return parse_qs(path.partition("?")[2]).get("validate_only") == ["true"]


def test_name_and_labels_go_with_it(stub: Stub, file: Path) -> None:
    """They are what the job is found by later."""
    stub.on("POST", "/requests", job())
    assert run(["submit", str(file), "--name", "nov", "--label", "a=b", "--label", "c=d:e"]) == 0
    query = parse_qs(stub.seen[0].path.partition("?")[2])
    assert query == {"name": ["nov"], "label": ["a:b", "c:d:e"]}


def test_a_plan_creates_nothing(stub: Stub, file: Path, capsys: Out) -> None:
    """It shows cost, budget and what would be sent, and ends with 0."""
    stub.on("POST", "/requests", judged())
    stub.serve("/api/v1/usage", Reply(content=json.dumps(USAGE).encode()))
    assert run(["submit", str(file), "--plan", "--name", "nov", "--label", "a=b"]) == 0
    shown = capsys.readouterr()
    assert "cost: $4.00 ($1.00 to $99.00)" in shown.out
    assert "budget: $4,996.00 of $5,000.00 left (spent this month)" in shown.out
    assert "would send name: nov\nwould send labels: a=b\n" in shown.out
    assert "nothing was created" in shown.err
    assert all(is_judging(seen.path) for seen in stub.calls("POST"))


def test_a_plan_as_json(stub: Stub, file: Path, capsys: Out) -> None:
    """A script gets all of it."""
    stub.on("POST", "/requests", judged())
    stub.serve("/api/v1/usage", Reply(content=b'{"quotas": {}}'))
    assert run(["submit", str(file), "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["would_send"] == {"model": "gemini-3-flash-preview"}
    assert (plan["validation"]["valid"], plan["usage"]) == (True, {"quotas": {}})


def test_a_plan_of_a_bad_file_fails(stub: Stub, file: Path, capsys: Out) -> None:
    """What would be refused is not planned."""
    bad: dict[str, Any] = {"valid": False, "problem_count": 1, "problems": [{"code": "c"}]}
    stub.on("POST", "/requests", judged(**bad))
    stub.serve("/api/v1/usage", Reply(content=b"{}"))
    assert run(["submit", str(file), "--plan"]) == 6
    assert "spending is not limited" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--detach", "--wait"],
        ["--plan", "--watch"],
        ["--plan", "--idempotency-key", "x"],
        ["--allow-partial"],
        ["--timeout", "0"],
    ],
)
def test_what_does_not_go_together(stub: Stub, file: Path, arguments: list[str]) -> None:
    """It is refused before anything is sent."""
    assert run(["submit", str(file), *arguments]) == 2
    assert not stub.seen


def test_off_a_terminal_nothing_is_asked(stub: Stub, file: Path) -> None:
    """A script sends its file once, however dear it is."""
    stub.on("POST", "/requests", job())
    assert run(["submit", str(file)]) == 0
    assert len(stub.seen) == 1


@pytest.mark.parametrize("arguments", [["--yes"], ["-q"]])
def test_whoever_says_yes_is_not_asked(
    stub: Stub, file: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """On a terminal, too, and the file is sent once."""
    assert sit_down(monkeypatch) == []
    stub.on("POST", "/requests", job())
    assert run(["submit", str(file), *arguments]) == 0
    assert len(stub.seen) == 1


@pytest.mark.parametrize(
    ("cost", "threshold", "is_asked"),
    [
        ("20.00", None, False),
        ("20.01", None, True),
        (None, None, True),
        ("4.00", "3.99", True),
        ("4.00", "4", False),
    ],
)
def test_a_person_is_asked_above_a_threshold(
    stub: Stub,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    cost: str | None,
    threshold: str | None,
    is_asked: bool,
) -> None:
    """Of what is cheap nobody is asked, of what nobody knows the cost of one is."""
    asked = sit_down(monkeypatch, answer=True)
    if threshold is not None:
        monkeypatch.setenv("PENSTOCK_CONFIRM_ABOVE", threshold)
    stub.on("POST", "/requests", judged(cost), job())
    assert run(["submit", str(file)]) == 0
    assert asked == (["Submit?"] if is_asked else [])
    assert [is_judging(seen.path) for seen in stub.calls("POST")] == [True, False]


def test_whoever_says_no_has_sent_nothing(
    stub: Stub, file: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is that of an interruption, so that what follows does not run."""
    sit_down(monkeypatch, answer=False)
    stub.on("POST", "/requests", judged("21.50"), job())
    assert run(["submit", str(file)]) == 130
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "$21.50 expected ($1.00 to $99.00)" in shown.err
    assert shown.err.endswith("nothing was sent\n")
    assert len(stub.calls("POST")) == 1


def test_the_threshold_of_a_profile(
    stub: Stub, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile says from when on its owner wants to be asked."""
    monkeypatch.delenv("PENSTOCK_URL")
    profile = Profile(url=stub.url, key="pk_x", confirm_above_usd=1)
    save(Profiles(current="work", profiles={"work": profile}), config_path())
    asked = sit_down(monkeypatch, answer=True)
    stub.on("POST", "/requests", judged("1.50"), job())
    assert run(["submit", str(file)]) == 0
    assert asked == ["Submit?"]


def test_a_threshold_that_is_none(
    stub: Stub, file: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told before anything is created."""
    sit_down(monkeypatch, answer=True)
    monkeypatch.setenv("PENSTOCK_CONFIRM_ABOVE", "much")
    stub.on("POST", "/requests", judged())
    assert run(["submit", str(file)]) == 2
    assert "'much' is no amount of dollars" in capsys.readouterr().err


def test_a_bad_file_on_a_terminal(
    stub: Stub, file: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with it is shown beside standard output, which has data only."""
    sit_down(monkeypatch)
    problem = {"code": "c", "message": "m", "line": 1}
    stub.on("POST", "/requests", judged(valid=False, problem_count=1, problems=[problem]))
    assert run(["submit", str(file)]) == 6
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{file}:1  c: m" in shown.err


def test_watched_to_its_end(stub: Stub, file: Path, capsys: Out) -> None:
    """--watch shows the job when it has ended; the id comes first."""
    stub.on("POST", "/requests", job())
    stub.on("GET", "/requests/req_7", job("success"))
    assert run(["submit", str(file), "--watch"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["req_7", "id        req_7"]
    assert run(["submit", str(file), "--watch", "-q"]) == 0
    assert capsys.readouterr() == ("req_7\n", "")


def test_quiet_waiting_still_tells_a_failure(stub: Stub, file: Path, capsys: Out) -> None:
    """Errors are no hints."""
    stub.on("POST", "/requests", job())
    stub.on("GET", "/requests/req_7", job("failed", message="why"))
    assert run(["submit", str(file), "--wait", "-q"]) == 3
    assert capsys.readouterr().err.startswith("error[job_failed]: req_7 is failed: why\n")


def test_wait_says_how_it_ended(stub: Stub, capsys: Out) -> None:
    """0, 9 or, where that is allowed, 0 again; 8 if the time is over first."""
    stats = {"successful_count": 1, "failed_count": 1, "total_count": 2}
    stub.on("GET", "/requests/req_7", job("success", batch_job_completion_stats=stats))
    assert run(["wait", "req_7"]) == 9
    assert run(["wait", "req_7", "--allow-partial"]) == 0
    assert run(["watch", "req_7"]) == 9
    stub.on("GET", "/requests/req_7", job("processing"))
    assert run(["wait", "req_7", "--timeout", "0"]) == 8
    assert "error[still_running]" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--timeout", "1"], ["--allow-partial"]])
def test_a_retry_that_is_not_waited_for(stub: Stub, arguments: list[str]) -> None:
    """What would have no effect is refused."""
    assert run(["retry", "req_7", *arguments]) == 2
    assert not stub.seen


def test_words_of_the_command_line_in_place_of_calls(stub: Stub, file: Path, capsys: Out) -> None:
    """A hint of the server names calls of the API; here it names commands."""
    stub.on("POST", "/requests", error(401, "unauthenticated", "no", hint="Send a header."))
    assert run(["submit", str(file)]) == 4
    assert "fix: keep another key: penstock auth login;" in capsys.readouterr().err
    hint = "Wait. GET /api/v1/usage shows all quotas."
    stub.on("POST", "/requests", error(429, "quota_jobs", "no", hint=hint))
    assert run(["submit", str(file)]) == 7
    assert "fix: Wait. See all quotas: penstock limits" in capsys.readouterr().err


def test_the_servers_request_id_is_told(stub: Stub, file: Path, capsys: Out) -> None:
    """Of what is the server's fault, so that its operator finds it in the log."""
    failure = error(500, "internal", "a bug")
    failure.headers["X-Request-ID"] = "abc123"
    stub.on("POST", "/requests", failure)
    assert run(["submit", str(file)]) == 1
    assert "request id abc123, for the server's log" in capsys.readouterr().err
