import json
from typing import Any

import pytest
from tests.client.stub import Reply, Stub, error, job

from penstock.cli.main import run

pytestmark = pytest.mark.usefixtures("shell")

PATH = "/requests/req_7/lines"
STATS = {
    "successful_count": 3,
    "failed_count": 2,
    "incomplete_count": 0,
    "total_count": 5,
    "ok": 2,
    "blocked": 1,
    "error": 2,
}
GROUP = {
    "outcome": "error",
    "code": "429",
    "count": 1204,
    "example_line": 1204,
    "message": "quota\u202e exceeded",
    "retryable": True,
    "hint": "Send them again.",
}
GOOD = {"outcome": "ok", "count": 2, "example_line": 1}

Out = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def served(stub: Stub) -> None:
    """The job is there."""
    stub.on("GET", "/requests/req_7", job("success"))


def reply(**value: Any) -> Reply:  # noqa: ANN401  # JSON
    """An answer in JSON."""
    return Reply(content=json.dumps(value).encode())


def line(number: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401  # JSON
    """A line as the server answers it."""
    return {
        "line": number,
        "outcome": "error",
        "code": "429",
        "retryable": True,
        "round": 2,
        "twin": False,
        "prompt_tokens": 7,
        "output_tokens": 0,
        "output_bytes": 300,
        **more,
    }


def test_lines(stub: Stub, capsys: Out) -> None:
    """A pipe gets a line each, tabs and no heading; how many more there are is a hint."""
    stub.on("GET", PATH, reply(lines=[line(2), line(9, twin=True, code="")], total=612))
    assert run(["lines", "req_7", "--outcome", "error,missing", "--code", "429", "-n", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "2\terror\t429\tyes\t2\t7\t0",
        "9\terror\t-\tyes\t2 twin\t7\t0",
    ]
    assert shown.err == "2 of 612 lines; more with -n\n"
    assert stub.seen[-1].path.endswith("/lines?outcome=error%2Cmissing&code=429&limit=2")


def test_lines_with_their_text(stub: Stub, capsys: Out) -> None:
    """What a model wrote has no power over the terminal."""
    output = {"status": "quota\x1b[2J\nexceeded"}
    stub.on("GET", PATH, reply(lines=[line(2, output=output)], total=1))
    assert run(["lines", "req_7", "--text", "--partial"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "2\terror\t429\tyes\t2\t7\t0\tquota\\x1b[2J\\nexceeded\n"
    assert shown.err == ""
    assert stub.seen[-1].path.endswith("/lines?include=output&partial=true&limit=20")


def test_lines_as_json(stub: Stub, capsys: Out) -> None:
    """A script gets the lines and how many there are."""
    stub.on("GET", PATH, reply(lines=[line(2)], total=1, line_count=5))
    assert run(["lines", "req_7", "--json"]) == 0
    page = json.loads(capsys.readouterr().out)
    assert (page["total"], page["line_count"], page["lines"][0]["line"]) == (1, 5, 2)


def test_one_line(stub: Stub, capsys: Out) -> None:
    """A line whole says what to do, and what it says itself."""
    whole = line(1204, hint="Send it again.", output={"status": "quota\texceeded"}, twin=True)
    stub.on("GET", f"{PATH}/1204", reply(**whole))
    assert run(["lines", "req_7", "1204"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "line      1204",
        "outcome   error 429",
        "hint      Send it again.",
        "retryable yes",
        "round     2 (the answer of an identical line, not paid)",
        "tokens    7 in, 0 out",
        "text      quota\\texceeded",
    ]
    assert run(["lines", "req_7", "1204", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["output"]["status"] == "quota\texceeded"


def test_groups(stub: Stub, capsys: Out) -> None:
    """All ways in which lines ended, a line each."""
    stub.on("GET", f"{PATH}/groups", reply(line_count=5, groups=[GROUP, GOOD]))
    assert run(["lines", "req_7", "--groups"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1204\terror\t429\tyes\t1204\tquota\\u202e exceeded\tSend them again.",
        "2\tok\t-\tno\t1\t\t",
    ]


def test_lines_that_nobody_knows_yet(stub: Stub, capsys: Out) -> None:
    """A script can tell by the exit code that it may ask again later."""
    stub.on("GET", PATH, error(409, "lines_not_ready", "not yet", hint="wait"))
    assert run(["lines", "req_7"]) == 8
    assert capsys.readouterr().err == (
        "error[lines_not_ready]: not yet\n"
        "fix: wait for its end: penstock watch ID; or add --partial for what there is\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--groups", "--outcome", "error"],
        ["7", "--code", "429"],
        ["7", "--text"],
        ["7", "--groups"],
        ["0"],
        ["-n", "0"],
    ],
)
def test_what_does_not_go_together_is_refused(arguments: list[str], stub: Stub) -> None:
    """A filter that would have no effect is told, and nothing is asked."""
    assert run(["lines", "req_7", *arguments]) == 2
    assert not stub.seen


def test_status_tells_what_went_wrong(stub: Stub, capsys: Out) -> None:
    """Below the sheet stand the ways in which lines did not end well, with example and hint."""
    answer = job(
        "success",
        url="http://x/out",
        batch_job_completion_stats=STATS,
        lines_url="http://x/lines",
    )
    stub.on("GET", "/requests/req_7", answer)
    groups = [{**GROUP, "code": f"c{number}"} for number in range(12)]
    groups[1] |= {"hint": "", "message": "", "retryable": False}
    stub.on("GET", f"{PATH}/groups", reply(groups=[*groups, GOOD]))
    assert run(["status", "req_7"]) == 0
    out, err = capsys.readouterr()
    assert err == "next: penstock retry req_7\nnext: penstock download req_7 -o OUT\n"
    shown = out.splitlines()
    assert "requests  5 total, 2 ok, 1 blocked, 2 error" in shown
    first = next(at for at, text in enumerate(shown) if "c0" in text)
    says = "error c0  another try may mend it  e.g. line 1,204: quota\\u202e exceeded"
    assert shown[first : first + 3] == [
        f"    1,204 {says}",
        "          hint: Send them again.",
        "    1,204 error c1  e.g. line 1,204",
    ]
    assert shown[-1] == "          … and 2 more: penstock lines req_7 --groups"


@pytest.mark.parametrize("more", [{}, {"lines_url": "http://x/lines"}])
def test_status_asks_for_no_groups_in_vain(stub: Stub, more: dict[str, Any]) -> None:
    """A job whose lines are all well, or are not known, needs no second call."""
    stats = STATS if not more else {"successful_count": 2, "total_count": 2, "ok": 2}
    stub.on("GET", "/requests/req_7", job("success", batch_job_completion_stats=stats, **more))
    assert run(["status", "req_7"]) == 0
    assert not [seen for seen in stub.seen if "lines" in seen.path]


def test_status_as_json_is_the_job_alone(stub: Stub, capsys: Out) -> None:
    """A script that reads the job is not given anything else."""
    answer = job("success", batch_job_completion_stats=STATS, lines_url="http://x/lines")
    stub.on("GET", "/requests/req_7", answer)
    assert run(["status", "req_7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["request_id"] == "req_7"
    assert not [seen for seen in stub.seen if "lines" in seen.path]
