import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.client.stub import KEY, Reply, Seen, Stub, error, job, record

from penstock.cli.main import run

pytestmark = pytest.mark.usefixtures("shell")

STATS = {"successful_count": 2, "failed_count": 0, "incomplete_count": 0, "total_count": 2}


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A file to submit."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"request": {"contents": [{}]}}\n')
    return path


class Held:
    """An answer that the server holds back until it is released."""

    def __init__(self, reply: Reply) -> None:
        self.reached = threading.Event()
        self.released = threading.Event()
        self._reply = reply

    def __call__(self, seen: Seen) -> Reply:
        self.reached.set()
        assert self.released.wait(30), seen
        return self._reply


Out = pytest.CaptureFixture[str]


def test_submit(stub: Stub, lines: Path, capsys: Out) -> None:
    """Standard output is the id alone; what to do next is on standard error."""
    stub.on("POST", "/requests", job())
    assert run(["submit", str(lines), "--model", "gemini-3-pro-preview"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "req_7\n"
    assert shown.err == "next: penstock watch req_7\n"
    assert json.loads(stub.seen[0].body)["payload"]["model"] == "gemini-3-pro-preview"


def test_submit_with_terms(stub: Stub, lines: Path) -> None:
    """A priority and a key of one's own go with the file."""
    stub.on("POST", "/requests", job())
    arguments = ["--priority", "7", "--idempotency-key", "nightly-1"]
    assert run(["submit", str(lines), *arguments]) == 0
    assert stub.seen[0].headers["x-penstock-priority"] == "7"
    assert stub.seen[0].headers["idempotency-key"] == "nightly-1"


@pytest.mark.parametrize(
    ("name", "held"),
    [("spend_day", "req_1 holds $0.003000"), ("jobs_in_flight", "req_1 has not ended")],
)
def test_submit_at_a_quota(stub: Stub, lines: Path, capsys: Out, name: str, held: str) -> None:
    """A quota that is used up is told with who holds it and when it counts anew."""
    quota = {
        "name": name,
        "reserved_by": [{"request_id": "req_1", "amount": 3_000}],
        "resets_at": 1_795_392_000 if name == "spend_day" else None,
    }
    stub.on("POST", "/requests", error(429, f"quota_{name}", "used up", quota=quota))
    assert run(["submit", str(lines)]) != 0
    shown = capsys.readouterr().err
    assert f"error[quota_{name}]: used up" in shown
    assert held in shown
    assert ("2026-11-23 00:00:00 UTC" in shown) == (name == "spend_day")


def test_submit_json(stub: Stub, lines: Path, capsys: Out) -> None:
    """With --json standard output is the record."""
    stub.on("POST", "/requests", job())
    assert run(["submit", str(lines), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["request_id"] == "req_7"


def test_submit_standard_input(stub: Stub, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash reads standard input, and bad lines are said to be of it."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x")))
    stub.on("POST", "/requests", error(400, "c", "m", details=[{"line": 1, "message": "bad"}]))
    assert run(["submit", "-"]) == 6
    assert "standard input:1  bad\n" in capsys.readouterr().err


def test_submit_and_wait(stub: Stub, lines: Path, tmp_path: Path, capsys: Out) -> None:
    """--wait -o ends with the answers in the file; progress is a line per change."""
    content = b'{"status": ""}\n' * 2
    stub.serve("/out", Reply(content=content))
    stub.on("POST", "/requests", job())
    done = job("success", url=f"{stub.url}/out", batch_job_completion_stats=STATS)
    stub.on("GET", "/requests/req_7", done)
    target = tmp_path / "out.jsonl"
    assert run(["submit", str(lines), "--wait", "-o", str(target)]) == 0
    shown = capsys.readouterr()
    assert shown.out == "req_7\n"
    assert shown.err == (
        f"req_7  success  2/2  0:00\n{target}: 30 bytes, the server stated no checksum\n"
    )
    assert target.read_bytes() == content


def test_failed_lines(stub: Stub, lines: Path, capsys: Out) -> None:
    """A job that finished with failed lines ends with 9, and says where to look."""
    stats = {**STATS, "successful_count": 1, "failed_count": 1}
    stub.on("POST", "/requests", job())
    stub.on("GET", "/requests/req_7", job("success", batch_job_completion_stats=stats))
    assert run(["submit", str(lines), "--wait", "--json"]) == 9
    shown = capsys.readouterr()
    assert json.loads(shown.out)["status"] == "success"
    assert "1 of 2 requests failed; see why: penstock lines req_7 --groups" in shown.err
    assert run(["submit", str(lines), "--wait", "--allow-partial"]) == 0


@pytest.mark.parametrize(
    ("status", "error_member", "says"),
    [
        ("failed", {"code": "expired", "message": "x"}, "error[expired]: req_7 is failed: why\n"),
        ("cancelled", None, "error[job_cancelled]: req_7 is cancelled: why\n"),
    ],
)
def test_failed_job(
    stub: Stub, lines: Path, capsys: Out, status: str, error_member: object, says: str
) -> None:
    """A job that failed or was cancelled ends with 3 and the server's reason."""
    stub.on("POST", "/requests", job())
    stub.on("GET", "/requests/req_7", job(status, message="why", error=error_member))
    assert run(["submit", str(lines), "--wait"]) == 3
    fix = "fix: see all that is known: penstock show req_7\n"
    assert capsys.readouterr().err.endswith(says + fix)


def test_still_running(stub: Stub, lines: Path, capsys: Out) -> None:
    """When --timeout ends before the job, the exit code is 8 and the job goes on."""
    stub.on("POST", "/requests", job())
    stub.on("GET", "/requests/req_7", job("processing"))
    assert run(["submit", str(lines), "--wait", "--timeout", "0s"]) == 8
    assert "error[still_running]: stopped waiting for req_7 after 0 s; the job continues" in (
        capsys.readouterr().err
    )


def interrupted(arguments: list[str], held: Held) -> tuple[int, str, str]:
    """Run a command in a process, interrupt it when the server holds it, return how it ended."""
    child = subprocess.Popen(
        [sys.executable, "-m", "penstock.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    try:
        assert held.reached.wait(30)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    finally:
        held.released.set()
        child.kill()
        child.wait()
    return child.returncode, out, err


def test_interrupted_while_waiting(stub: Stub, lines: Path) -> None:
    """An interrupt while waiting says that the job keeps running, and how to stop it."""
    stub.on("POST", "/requests", job())
    held = Held(job("processing"))
    stub.on("GET", "/requests/req_7", held)
    code, out, err = interrupted(["submit", str(lines), "--wait"], held)
    assert (code, out) == (130, "req_7\n")
    assert err.endswith(
        "stopped watching; the job keeps running\n"
        "  go on:   penstock watch req_7\n"
        "  stop it: penstock cancel req_7\n"
    )


def test_interrupted_while_sending(stub: Stub, lines: Path) -> None:
    """An interrupt before the answer says where to see whether the job was accepted."""
    held = Held(job())
    stub.on("POST", "/requests", held)
    code, out, err = interrupted(["submit", str(lines)], held)
    assert (code, out) == (130, "")
    assert err == "interrupted while sending; penstock ls shows whether the job was accepted\n"


def test_interrupted_while_fetching(stub: Stub, tmp_path: Path) -> None:
    """An interrupted download says that the same command goes on."""
    stub.on("GET", "/requests/req_7", job("success", url=f"{stub.url}/out"))
    held = Held(Reply())
    stub.serve("/out", held)
    command = ["download", "req_7", "-o", str(tmp_path / "out")]
    code, out, err = interrupted(command, held)
    assert (code, out) == (130, "")
    assert err == f"stopped; the same command goes on: penstock {' '.join(command)}\n"


def test_bad_lines(stub: Stub, lines: Path, capsys: Out) -> None:
    """Bad lines are shown with place and excerpt, twenty at most, and a hint stands there once."""
    first = {"line": 12, "column": 8, "message": "no\x1b[2Jcomma", "path": "$.request"}
    first |= {"excerpt": '{"a" 1}', "hint": "add a comma"}
    details = [first] + [
        {"line": line, "message": "bad", "hint": "add a comma"} for line in range(13, 53)
    ]
    stub.on(
        "POST",
        "/requests",
        error(400, "invalid_input", "140 lines are wrong", details=details, details_total=140),
    )
    assert run(["submit", str(lines)]) == 6
    shown = capsys.readouterr().err.splitlines()
    assert shown[:4] == [
        "error[invalid_input]: 140 lines are wrong",
        f"  {lines}:12:8  no\\x1b[2Jcomma ($.request)",
        '      {"a" 1}',
        "      hint: add a comma",
    ]
    assert shown[4] == f"  {lines}:13  bad"
    assert sum(": " not in line and "  bad" in line for line in shown) == 19
    assert shown[-1] == "  … and 120 more"


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 2), (401, 4), (402, 7), (403, 4), (404, 5), (409, 1), (413, 6), (429, 7), (500, 1)],
)
def test_exit_codes(stub: Stub, lines: Path, capsys: Out, status: int, code: int) -> None:
    """Each answer of the server has the exit code that the help promises."""
    stub.on("POST", "/requests", error(status, "the_code", "It is so.", hint="Do this."))
    assert run(["submit", str(lines)]) == code
    assert capsys.readouterr().err == "error[the_code]: It is so.\nfix: Do this.\n"


@pytest.mark.parametrize(
    "arguments", [["-o", "out"], ["--timeout", "5"], ["--wait", "-o", "/no/such/place"]]
)
def test_submit_usage(lines: Path, stub: Stub, capsys: Out, arguments: list[str]) -> None:
    """What could only fail after hours is refused before anything is sent."""
    assert run(["submit", str(lines), *arguments]) == 2
    assert capsys.readouterr().err.startswith("error[usage]: ")
    assert stub.seen == []


@pytest.mark.parametrize("duration", ["", "x", "5w", "-1"])
def test_durations(lines: Path, capsys: Out, duration: str) -> None:
    """A duration that is none is named together with what would be one."""
    assert run(["submit", str(lines), "--wait", f"--timeout={duration}"]) == 2
    assert "is not a duration such as 90, 30s, 15m or 2h" in capsys.readouterr().err


def test_no_key(lines: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key nothing is sent and the error says how to set one."""
    monkeypatch.delenv("PENSTOCK_API_KEY")
    assert run(["submit", str(lines)]) == 4
    assert "set PENSTOCK_API_KEY" in capsys.readouterr().err


def test_status(stub: Stub, capsys: Out) -> None:
    """A person sees counts, tokens and cost of a job, and how to get the answers."""
    answer = job(
        "success",
        url="http://x/out",
        batch_job_state="JOB_STATE_SUCCEEDED",
        batch_job_completion_stats=STATS,
        token_usage={
            "total_prompt_tokens": 5120,
            "total_candidates_tokens": 8000,
            "total_thoughts_tokens": 9,
        },
        actual_cost_usd="0.013280",
    )
    stub.on("GET", "/requests/req_7", answer)
    assert run(["status", "req_7"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "id        req_7",
        "status    success (JOB_STATE_SUCCEEDED)",
        "model     gemini-3-flash-preview",
        "created   2026-11-22 16:00:00Z",
        "updated   2026-11-22 16:01:00Z",
        "requests  2 total, 2 ok, 0 failed, 0 open",
        "tokens    5,120 in, 8,000 out, 9 thinking",
        "cost      $0.013280",
    ]
    assert shown.err == "next: penstock download req_7 -o OUT\n"


def test_status_of_a_job_without_output(stub: Stub, capsys: Out) -> None:
    """A job that has nothing to download yet gets no hint to do so."""
    stub.on("GET", "/requests/req_7", job())
    assert run(["status", "req_7"]) == 0
    shown = capsys.readouterr()
    assert "status    queued\n" in shown.out
    assert shown.err == "next: penstock watch req_7\n"


def test_status_of_nothing(capsys: Out) -> None:
    """A job that does not exist ends with 5."""
    assert run(["status", "req_8"]) == 5
    assert capsys.readouterr().err == "error[not_found]: no such thing\n"


def test_ls(stub: Stub, capsys: Out) -> None:
    """A pipe gets tab-separated lines without a heading; how many more there are is a hint."""
    page = {"requests": [record("success", actual_cost_usd="1.5"), record()], "total": 5}
    stub.on("GET", "/requests", Reply(content=json.dumps(page).encode()))
    assert run(["ls", "--limit", "2", "--status", "success"]) == 0
    shown = capsys.readouterr()
    flash = "2026-11-22 16:00:00Z\tgemini-3-flash-preview"
    assert shown.out.splitlines() == [
        f"req_7\t-\tsuccess\t0\t0\t0\t$1.5\t{flash}",
        f"req_7\t-\tqueued\t0\t0\t0\t-\t{flash}",
    ]
    assert shown.err == "2 of 5 jobs; more with --limit\n"
    assert stub.seen[0].path.endswith("/requests?limit=2&status=success")


def test_ls_over_several_pages(stub: Stub, capsys: Out) -> None:
    """A server that gives fewer jobs at once is asked for the rest."""
    first = {"requests": [record(), record()], "total": 3, "next_cursor": "abc"}
    second = {"requests": [record()], "total": 3}
    replies = [Reply(content=json.dumps(page).encode()) for page in (first, second)]
    stub.on("GET", "/requests", *replies)
    assert run(["ls", "--limit", "9"]) == 0
    shown = capsys.readouterr()
    assert (len(shown.out.splitlines()), shown.err) == (3, "")
    assert [seen.path.partition("?")[2] for seen in stub.seen] == [
        "limit=9",
        "limit=7&cursor=abc",
    ]


def test_ls_json(stub: Stub, capsys: Out) -> None:
    """Scripts get the page."""
    stub.on("GET", "/requests", Reply(content=b'{"requests": []}'))
    assert run(["ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["requests"] == []


def test_cancel(stub: Stub, capsys: Out) -> None:
    """A cancel that is not through yet says where to look."""
    stub.on("GET", "/requests/req_7", job("processing"))
    stub.on("POST", "/requests/req_7/cancel", job("processing", batch_job_state="S"))
    assert run(["cancel", "req_7"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "req_7\tprocessing  S\n"
    assert shown.err == "it stops as soon as the provider lets it: penstock watch req_7\n"


def test_cancelled_at_once(stub: Stub, capsys: Out) -> None:
    """A cancel that is through needs no hint."""
    stub.on("GET", "/requests/req_7", job("processing"))
    stub.on("POST", "/requests/req_7/cancel", job("cancelled"))
    assert run(["cancel", "req_7"]) == 0
    assert capsys.readouterr().err == ""


def test_download(stub: Stub, tmp_path: Path, capsys: Out) -> None:
    """A download says what came and that it is proven; --json says it to scripts."""
    digest = hashlib.sha256(b"answers").hexdigest()
    stub.serve("/out", Reply(content=b"answers", headers={"ETag": f'"sha256-{digest}"'}))
    stub.on("GET", "/requests/req_7", job("success", url=f"{stub.url}/out"))
    target = tmp_path / "out.jsonl"
    assert run(["download", "req_7", "-o", str(target), "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {
        "path": str(target),
        "bytes": 7,
        "sha256": digest,
        "verified": True,
    }
    assert shown.err == f"{target}: 7 bytes, SHA-256 verified\n"
    assert run(["download", "req_7", "-o", str(target)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("status", "code"), [("processing", 8), ("failed", 3)])
def test_download_of_nothing(
    stub: Stub, tmp_path: Path, capsys: Out, status: str, code: int
) -> None:
    """Without an output the exit code says whether there may be one later."""
    stub.on("GET", "/requests/req_7", job(status))
    assert run(["download", "req_7", "-o", str(tmp_path / "out")]) == code
    assert capsys.readouterr().err.startswith("error[output_not_ready]: req_7 is ")


def test_wrong_bytes(stub: Stub, tmp_path: Path, capsys: Out) -> None:
    """Bytes that are not the server's end the download with an error that names the part."""
    stub.serve("/out", Reply(content=b"x", headers={"ETag": f'"sha256-{"0" * 64}"'}))
    stub.on("GET", "/requests/req_7", job("success", url=f"{stub.url}/out"))
    assert run(["download", "req_7", "-o", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error[digest_mismatch]: the downloaded bytes have SHA-256 ")
    assert str(tmp_path / "out.part") in shown


@pytest.mark.parametrize("debug", ["0", "1"])
@pytest.mark.parametrize("arguments", [[], ["--key", KEY]])
def test_the_key_is_never_shown(
    capsys: Out, monkeypatch: pytest.MonkeyPatch, debug: str, arguments: list[str]
) -> None:
    """No way to fail shows the key, not even with a traceback."""
    monkeypatch.setenv("PENSTOCK_DEBUG", debug)
    assert run(["status", "req_8", *arguments]) == 5
    assert run(["status", *arguments]) == 2
    assert run(["status", "req_8", *arguments, "--nonsense"]) == 2
    assert run(["status", "req_8", "--url", "nowhere", *arguments]) == 1
    assert run(["status", "req_8", "--key", KEY + " \n"]) == 1
    assert run(["status", "--help"]) == 0
    shown = capsys.readouterr()
    assert KEY not in shown.out + shown.err
    assert ("Traceback" in shown.err) is (debug == "1")


def test_retry(stub: Stub, capsys: Out) -> None:
    """A round that begins says where to look, and names its outcomes to the server."""
    stub.on("GET", "/requests/req_7", job("success"))
    stub.on("POST", "/requests/req_7/retry", job("processing", batch_job_state="S"))
    assert run(["retry", "req_7", "--outcomes", "error,missing"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "req_7\tprocessing  S\n"
    assert shown.err == "next: penstock watch req_7\n"
    assert stub.seen[-1].path.endswith("/requests/req_7/retry?outcomes=error%2Cmissing")


def test_retry_and_wait(stub: Stub, capsys: Out) -> None:
    """With --wait the command ends as the job does."""
    stub.on("POST", "/requests/req_7/retry", job("processing"))
    stub.on("GET", "/requests/req_7", job("failed", batch_job_state="S"))
    assert run(["retry", "req_7", "--wait"]) == 3
    assert "?" not in stub.seen[1].path
    assert "req_7 is failed" in capsys.readouterr().err
