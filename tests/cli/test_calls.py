"""Commands that ask a server one thing: models, limits, estimates, any call at all."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.client.stub import BASE, Reply, Stub, job

from penstock.cli.main import run

pytestmark = pytest.mark.usefixtures("shell")

Out = pytest.CaptureFixture[str]
MODELS = {
    "model_ids": ["Gemini-batch-inference"],
    "models": [
        {
            "parameters": [
                {"name": "input_data"},
                {"name": "model", "constraints": {"allowed": ["gemini-a", "gemini-b"]}},
            ],
            "price_info": {
                "models": {
                    "gemini-a": {
                        "description": "Fast",
                        "price": {"input": 250_000, "output": 1_500_000},
                    }
                }
            },
        },
        {"parameters": None},
        {"parameters": [{"name": "model", "constraints": None}]},
    ],
}


def reply(value: Any) -> Reply:  # noqa: ANN401  # JSON
    """An answer in JSON."""
    return Reply(content=json.dumps(value).encode())


def test_models(stub: Stub, capsys: Out) -> None:
    """What may be named, with what a million tokens cost; an unknown price is called so."""
    stub.on("GET", "/models", reply(MODELS))
    assert run(["models", "ls"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "gemini-a\t$0.250\t$1.500\tFast",
        "gemini-b\tunknown\tunknown\t-",
    ]
    assert run(["model", "ls", "-q"]) == 0
    assert capsys.readouterr().out == "gemini-a\ngemini-b\n"
    assert run(["models", "ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model_ids"] == ["Gemini-batch-inference"]


def test_limits(stub: Stub, capsys: Out) -> None:
    """Each quota with what is used, reserved and left of it; what has no limit is called so."""
    usage = {
        "org_id": "acme",
        "quotas": {"jobs_in_flight_max": 3, "spend_day_micro_dollars_max": 10_000_000},
        "used": {
            "jobs_in_flight": 1,
            "spent_day_micro_dollars": 9_000_000,
            "reserved_day_micro_dollars": 2_000_000,
        },
    }
    stub.serve("/api/v1/usage", reply(usage))
    assert run(["limits"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["jobs in flight", "1", "-", "3", "2"]
    assert rows[1] == ["bytes stored", "0", "-", "unlimited", "-"]
    assert rows[4] == ["spent today", "$9.00", "$2.00", "$10.00", "$0.00"]
    assert run(["quota", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == usage


def estimated(cost: str | None, **more: Any) -> Reply:  # noqa: ANN401  # JSON
    """A judgement with an estimate."""
    dollars = cost and {"low": "0.1", "expected": cost, "high": "0.9"}
    tokens = {"low": 1, "expected": 1_000, "high": 3}
    estimate = {
        "prompt_tokens": tokens,
        "output_tokens": tokens,
        "cost_usd": dollars,
        "basis": "A guess.",
        "online_cost_usd": cost,
    }
    return reply({"valid": True, "line_count": 7, "estimate": estimate, **more})


def test_estimates_are_compared(stub: Stub, tmp_path: Path, capsys: Out) -> None:
    """A row a model, each asked for by itself; an unknown price is never zero."""
    file = tmp_path / "in.jsonl"
    file.write_text("{}\n")
    stub.on("POST", "/requests", estimated("0.5"), estimated(None), reply({"valid": True}))
    assert run(["estimate", str(file), "--compare", "a, b,c"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "a\t7\t1,000\t1,000\t$0.5\t$0.1 to $0.9\t$0.5",
        "b\t7\t1,000\t1,000\tunknown\t-\t-",
        "c\t0\tunknown\tunknown\tunknown\t-\t-",
    ]
    assert shown.err == "A guess.\n"
    assert [seen.path.rpartition("=")[2] for seen in stub.seen] == ["a", "b", "c"]


def test_one_estimate_as_json(stub: Stub, tmp_path: Path, capsys: Out) -> None:
    """Without --compare it is one, of the model that is named."""
    file = tmp_path / "in.jsonl"
    file.write_text("{}\n")
    stub.on("POST", "/requests", estimated("0.5"))
    assert run(["estimate", str(file), "--model", "m", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["model"], value["estimate"]["cost_usd"]["expected"]) == ("m", "0.5")
    assert run(["estimate", str(file), "--compare", " , "]) == 2


def test_a_bad_file_has_no_estimate(stub: Stub, tmp_path: Path) -> None:
    """The input is what is wrong."""
    file = tmp_path / "in.jsonl"
    file.write_text("{}\n")
    stub.on("POST", "/requests", estimated("0.5", valid=False, problem_count=3))
    assert run(["estimate", str(file)]) == 6


def test_several_files_are_judged(stub: Stub, tmp_path: Path, capsys: Out) -> None:
    """All of them, although one is bad; which one is said, and as JSON there is a list."""
    files = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    for file in files:
        file.write_text("{}\n")
    bad = {"valid": False, "line_count": 2, "problem_count": 1}
    replies = (reply(bad), reply({"valid": True, "line_count": 2}))
    stub.on("POST", "/requests", *replies, *replies)
    assert run(["lint", *map(str, files)]) == 6
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        f"{files[0]}:",
        "… and 1 more",
        "2 requests, 0 bytes; 1 invalid",
        f"{files[1]}:",
        "2 requests, 0 bytes; 0 invalid",
    ]
    assert f"error[invalid_input]: {files[0]}: 1 of 2 requests" in shown.err
    assert run(["validate", *map(str, files), "--json"]) == 6
    assert [one["valid"] for one in json.loads(capsys.readouterr().out)] == [False, True]


def test_open_prints_the_address(stub: Stub, capsys: Out) -> None:
    """The record's, which `penstock api` understands."""
    full = "req_" + "a" * 26
    assert run(["open", full]) == 0
    url = capsys.readouterr().out.strip()
    assert url == f"{stub.url}{BASE}/requests/{full}"
    stub.on("GET", f"/requests/{full}", Reply(content=b'{"a": 1}'))
    assert run(["api", "GET", url]) == 0
    assert capsys.readouterr().out == '{"a": 1}\n'


def test_any_call(stub: Stub, capsys: Out) -> None:
    """Fields are the query of what reads, and the JSON body of what changes something."""
    stub.serve("/api/v1/usage", Reply(content=b"{}\n"))
    assert run(["api", "get", "/api/v1/usage", "-f", "from=2026-11-01", "-f", "x=true"]) == 0
    assert capsys.readouterr().out == "{}\n"
    assert stub.seen[-1].path == "/api/v1/usage?from=2026-11-01&x=true"
    stub.answers["POST", "/api/v1/keys"] = [Reply(content=b"")]
    fields = ["-f", "name=ci", "-f", "n=3", "-f", "on=true", "-f", 'text="3"', "-f", "list=[1]"]
    assert run(["api", "POST", "/api/v1/keys", *fields]) == 0
    assert json.loads(stub.seen[-1].body) == {
        "name": "ci",
        "n": 3,
        "on": True,
        "text": '"3"',
        "list": "[1]",
    }
    assert stub.seen[-1].headers["content-type"] == "application/json"


def test_a_call_with_a_body(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file or from standard input, of the type that is said."""
    file = tmp_path / "body"
    file.write_bytes(b"x" * 300_000)
    stub.on("POST", "/requests", Reply(), Reply())
    assert run(["api", "POST", "/requests", "--input", str(file), "--content-type", "a/b"]) == 0
    assert stub.seen[-1].body == file.read_bytes()
    assert stub.seen[-1].headers["content-type"] == "a/b"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"abc")))
    assert run(["api", "POST", "/requests", "--input", "-"]) == 0
    assert stub.seen[-1].body == b"abc"


def test_a_public_call_has_no_key(stub: Stub, capsys: Out) -> None:
    """What everybody may read is asked for as by everybody."""
    stub.serve("/healthz", Reply(content=b"ok"))
    assert run(["api", "GET", "/healthz"]) == 0
    assert capsys.readouterr().out == "ok\n"
    assert "authorization" not in stub.seen[-1].headers


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["GET", "http://elsewhere.example/x"], "is no path of"),
        (["GET", "requests"], "a path begins with /"),
        (["POST", "/requests", "-f", "a=1", "--input", "-"], "not both"),
        (["POST", "/requests", "-f", "a"], "is not KEY=VALUE"),
        (["BREW", "/requests"], "is not one of"),
    ],
)
def test_calls_that_are_none(stub: Stub, capsys: Out, arguments: list[str], says: str) -> None:
    """They are refused here: the key goes to its own server alone."""
    assert run(["api", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not stub.seen


def test_a_call_that_fails(stub: Stub, capsys: Out) -> None:
    """Its exit code is that of any other command."""
    assert run(["api", "GET", "/requests/x"]) == 5
    assert capsys.readouterr().out == ""
    assert len(stub.seen) == 1


def test_completion_is_installed(
    tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shell has its own place, and the script is the one that `show` prints."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for shell in ("bash", "zsh", "fish"):
        monkeypatch.setenv("SHELL", f"/bin/{shell}")
        assert run(["completion", "install"]) == 0
        installed = capsys.readouterr()
        assert run(["completion", "show"]) == 0
        path = Path(installed.out.strip())
        assert path.is_relative_to(tmp_path)
        assert path.read_text().rstrip("\n") == capsys.readouterr().out.rstrip("\n")
        assert ("fpath=(" in installed.err) == (shell == "zsh")
        assert "_PENSTOCK_COMPLETE" in path.read_text()


def test_completion_of_another_shell(
    tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that nobody knows is asked for; a place that cannot be written is told."""
    monkeypatch.setenv("SHELL", "/bin/csh")
    assert run(["completion", "show"]) == 2
    assert "which shell? Name one of bash, zsh, fish" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    assert run(["completion", "install", "bash"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error[cannot_write]: cannot write ")
    assert "fix: put it where your shell looks: penstock completion show bash > FILE" in shown


def test_an_output_goes_through_a_pipe(stub: Stub, capfdbinary: Any) -> None:  # noqa: ANN401  # pytest's own
    """-o - writes the answers when they are checked, and nothing but them."""
    stub.serve("/out", Reply(content=b'{"a": 1}\n'))
    stub.on("GET", "/requests/req_7", job("success", url=f"{stub.url}/out"))
    assert run(["download", "req_7", "-o", "-"]) == 0
    assert capfdbinary.readouterr().out == b'{"a": 1}\n'
    tag = {"ETag": f'"sha256-{"0" * 64}"'}
    stub.serve("/out", Reply(content=b"wrong", headers=tag))
    assert run(["download", "req_7", "-o", "-"]) == 1
    assert capfdbinary.readouterr().out == b""
    assert run(["download", "req_7", "-o", "-", "--json"]) == 2


def test_a_download_says_where_it_goes_on(stub: Stub, tmp_path: Path, capsys: Out) -> None:
    """A part of an earlier run is not fetched again."""
    content = b"x" * 2_000_000
    tag = '"strong"'
    target = tmp_path / "out"
    (tmp_path / "out.part").write_bytes(content[:1_500_000])
    (tmp_path / "out.part.etag").write_text(tag)
    rest = {"ETag": tag, "Content-Range": "bytes 1500000-1999999/2000000"}
    stub.serve("/out", Reply(206, content[1_500_000:], rest))
    stub.on("GET", "/requests/req_7", job("success", url=f"{stub.url}/out"))
    assert run(["download", "req_7", "-o", str(target)]) == 0
    assert "resumed at 1.5 MB\n" in capsys.readouterr().err
    assert target.read_bytes() == content
