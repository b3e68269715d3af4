"""`penstock validate`, and the flags of a submission."""

import io
import json
import sys
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from tests.client.stub import Reply, Seen, Stub, job

from penstock.cli.main import run

pytestmark = pytest.mark.usefixtures("shell")

GOOD = '{"request": {"contents": [{"parts": [{"text": "hi"}]}]}}\n'
FOUND: dict[str, object] = {
    "valid": False,
    "model": "gemini-3-flash-preview",
    "line_count": 1_200,
    "input_bytes": 99_000,
    "problem_count": 23,
    "problems": [
        {
            "code": "invalid_json",
            "message": "unexpected character",
            "line": number,
            "column": 3,
            "hint": "Write it\x1b[2J right.",
            "excerpt": "x",
        }
        for number in range(1, 23)
    ],
    "warnings": [
        {"code": "numeric_text", "message": "looks like a number", "lines": 2, "first_line": 9}
    ],
    "normalisations": [{"code": "null_member", "message": "left out", "lines": 7, "first_line": 4}],
    "duplicates": {
        "lines": 5,
        "groups": 1,
        "largest": [{"lines": 6, "first_lines": [2, 1_003]}],
    },
    "unread_lines": 1,
    "estimate": {
        "lines": 1_195,
        "prompt_tokens": {"low": 1_000, "expected": 2_000, "high": 3_000},
        "output_tokens": {"low": 10, "expected": 20, "high": 30},
        "cost_usd": {"low": "0.100000", "expected": "0.200000", "high": "0.300000"},
        "online_cost_usd": "0.400000",
        "basis": "1,000 of 1,200 lines were looked at.",
    },
}

Out = pytest.CaptureFixture[str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file to judge."""
    path = tmp_path / "in.jsonl"
    path.write_text(GOOD)
    return path


def answered(**changes: object) -> Reply:
    """A server's report."""
    return Reply(content=json.dumps(FOUND | changes).encode())


def query_of(seen: Seen) -> dict[str, list[str]]:
    """The query of a request."""
    return parse_qs(seen.path.partition("?")[2])


def test_the_report_is_shown_from_the_problems_to_the_cost(
    stub: Stub, file: Path, capsys: Out
) -> None:
    """Places, hints, what is good to know, and the end says that it would be refused."""
    stub.on("POST", "/requests", answered())
    assert run(["validate", str(file)]) == 6
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0] == f"{file}:1:3  invalid_json: unexpected character"
    assert lines[1:3] == ["    x", "    hint: Write it\\x1b[2J right."]
    assert lines[-9:] == [
        "… and 3 more",
        "1,200 requests, 99,000 bytes; 23 invalid",
        "warning: looks like a number (numeric_text: 2 lines, first 9)",
        "changed on the provider's copy: left out (null_member: 7 lines, first 4)",
        "duplicates: 5 lines repeat the request of another, such as lines 2, 1,003",
        "not looked at beyond the rules: 1 lines over 1 MiB",
        "expected: 2,000 tokens in (1,000 to 3,000), 20 out (10 to 30)",
        "cost: $0.200000 ($0.100000 to $0.300000); $0.400000 online",
        "1,000 of 1,200 lines were looked at.",
    ]
    assert "error[invalid_input]: 23 of 1,200 requests are invalid" in shown.err
    assert stub.seen[0].body == GOOD.encode()
    assert query_of(stub.seen[0]) == {
        "validate_only": ["true"],
        "model": ["gemini-3-flash-preview"],
    }


def test_a_valid_file_ends_well(stub: Stub, file: Path, capsys: Out) -> None:
    """Nothing is said of what there is not; a cost that nobody knows is not zero."""
    estimate = {"cost_usd": None, "basis": ""}
    stub.on(
        "POST",
        "/requests",
        answered(
            valid=True,
            problems=[],
            problem_count=0,
            warnings=[],
            normalisations=[],
            duplicates={"lines": 1, "groups": 1, "largest": []},
            unread_lines=0,
            estimate=estimate,
        ),
    )
    assert run(["validate", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1,200 requests, 99,000 bytes; 0 invalid",
        "duplicates: 1 lines repeat the request of another",
        "expected: 0 tokens in (0 to 0), 0 out (0 to 0)",
        "cost: the price of this model is not known",
    ]


def test_a_cost_over_the_cap_ends_as_a_limit(stub: Stub, file: Path, capsys: Out) -> None:
    """The lines are good, so it is not the input that is invalid."""
    refusal = {"code": "cost_over_cap", "message": "too dear", "hint": "send less"}
    reply = answered(problems=[], problem_count=0, estimate=None, refusal=refusal)
    stub.on("POST", "/requests", reply)
    assert run(["validate", str(file), "--max-cost", "0.01", "--json"]) == 7
    shown = capsys.readouterr()
    assert json.loads(shown.out)["refusal"] == refusal
    assert shown.err == "error[cost_over_cap]: too dear\nfix: send less\n"
    assert query_of(stub.seen[0])["max_cost_usd"] == ["0.01"]


def test_a_pipe_is_judged_too(stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: Out) -> None:
    """Standard input is sent as it comes."""
    stub.on("POST", "/requests", answered(valid=True))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode())))
    assert run(["validate", "-"]) == 0
    assert capsys.readouterr().out.startswith("standard input:1:3")
    assert stub.seen[0].body == GOOD.encode()


@pytest.mark.parametrize(
    ("text", "flags", "code"),
    [
        (GOOD, [], 0),
        (GOOD + "nonsense\n", [], 6),
        (GOOD + "nonsense\n", ["--quarantine"], 0),
        ("nonsense\n", ["--quarantine"], 6),
        ("[]", [], 6),
    ],
)
def test_without_a_server_the_rules_are_the_same(
    stub: Stub, tmp_path: Path, capsys: Out, text: str, flags: list[str], code: int
) -> None:
    """`--local` judges here, asks nobody and knows no cost."""
    file = tmp_path / "in.jsonl"
    file.write_text(text)
    assert run(["validate", str(file), "--local", *flags]) == code
    assert not stub.seen
    shown = capsys.readouterr()
    assert "expected:" not in shown.out
    if "nonsense" in text:
        number = text.count("\n")
        assert shown.out.startswith(f"{file}:{number}:1  invalid_json: ")
    if text == "[]":
        assert "json_array_file" in shown.err


def test_a_local_pipe(monkeypatch: pytest.MonkeyPatch, capsys: Out) -> None:
    """Standard input is read here."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode() * 2)))
    assert run(["validate", "-", "--local"]) == 0
    assert "duplicates: 1 lines" in capsys.readouterr().out


def test_submit_sends_the_options(stub: Stub, file: Path) -> None:
    """Each flag is an option of the query; without flags there is none."""
    stub.on("POST", "/requests", job(), job())
    flags = ["--max-cost", "5", "--quarantine", "--no-dedupe", "--shards", "2", "--retry", "0"]
    assert run(["submit", str(file), *flags]) == 0
    assert query_of(stub.seen[0]) == {
        "max_cost_usd": ["5"],
        "on_invalid": ["quarantine"],
        "deduplicate": ["false"],
        "shards": ["2"],
        "retry_attempts": ["0"],
    }
    assert run(["submit", str(file)]) == 0
    assert query_of(stub.seen[1]) == {}
