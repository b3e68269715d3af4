"""`penstock results`: a look into answers, read as they come."""

import json
from typing import Any

import pytest
from tests.client.outputs import JOB, Output, answered, failed, verdict
from tests.client.stub import Stub, job

from penstock.cli import results_text
from penstock.cli.main import run
from penstock.cli.results_stats import Lengths

pytestmark = pytest.mark.usefixtures("shell")

RATE = 'Too Many Requests: {"error": {"code": 429, "message": "Resource exhausted."}}'
EVIL = "\x1b[2Jgone\x9b\u202e\x7f\n"
Out = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def output(stub: Stub) -> Output:
    """A job of five lines, of which one failed and one says what no terminal should get."""
    lines = [
        answered("one", "a"),
        failed(RATE, "b"),
        answered(EVIL, "c\r"),
        answered("Not Sure", "d", reason="MAX_TOKENS"),
        answered("5 of 2026-11", "e"),
    ]
    verdicts = [
        verdict(2, "error", code="429", retryable=True),
        verdict(4, "truncated", code="MAX_TOKENS"),
    ]
    made = Output(stub, lines, verdicts)
    made.say("success", actual_cost_usd="0.001200")
    return made


def screen(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Have a terminal of this width."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))


def test_head_shows_the_first_answers(capsys: Out) -> None:
    """In a pipe: number, key, outcome and the whole text, with tabs; an error says why."""
    assert run(["results", "head", JOB, "-n", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1\ta\tok\tone",
        "2\tb\terror\t429: Resource exhausted.",
    ]


def test_hostile_answers_are_shown_as_symbols(capsys: Out) -> None:
    """No control character reaches a terminal, whatever a model or a key says."""
    assert run(["results", "head", JOB]) == 0
    out = capsys.readouterr().out
    assert "3\tc␍\tok\t␛[2Jgone\\x9b\\u202e␡␊\n" in out
    assert all(line.replace("\t", "").isprintable() for line in out.splitlines())


def test_a_terminal_gets_lines_that_fit(capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are cut to the width; what did not end well has its outcome before the text."""
    screen(monkeypatch, 30)
    assert run(["results", "head", JOB]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "      1  a  one"
    assert lines[1] == "      2  b  error  429: Resou…"
    assert max(map(len, lines)) <= 30


def test_head_as_json_gives_the_lines_themselves(capsys: Out, output: Output) -> None:
    """JSONL, byte for byte as the server has it."""
    assert run(["results", "head", JOB, "--json"]) == 0
    assert capsys.readouterr().out.encode() == output.content


def test_json_on_a_terminal_is_harmless(
    output: Output, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Characters that JSON may hold as they are get escapes, and it is the same value."""
    raw = json.dumps(output.lines[2], ensure_ascii=False).encode()
    screen(monkeypatch, 80)
    shown = results_text.raw_json(raw)
    assert shown.isprintable()
    assert json.loads(shown) == output.lines[2]
    assert run(["results", "head", JOB, "-n", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == output.lines[0]


def test_head_of_some_outcomes(capsys: Out) -> None:
    """Only lines with these outcomes; without any it is said beside the data."""
    assert run(["results", "head", JOB, "--outcome", "truncated", "-q"]) == 0
    assert capsys.readouterr().out == "4\n"
    assert run(["results", "head", JOB, "--outcome", "blocked"]) == 0
    assert capsys.readouterr().err == "there is no such answer\n"


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["Sure"], ["4"]),
        (["sure", "-i"], ["4"]),
        (["-E", "[0-9]{4}-[0-9]{2}"], ["5"]),
        (["-E", "^NOT", "-i"], ["4"]),
        (["-E", "^(one|5)", "-m", "1"], ["1"]),
        (["exhausted"], ["2"]),
        (["o", "--outcome", "ok"], ["1", "3", "5"]),
    ],
)
def test_grep_finds_answers(capsys: Out, arguments: list[str], lines: list[str]) -> None:
    """Plain text, with case or without, and regular expressions, over what each line says."""
    assert run(["results", "grep", JOB, *arguments, "-q"]) == 0
    assert capsys.readouterr().out.split() == lines


def test_grep_without_a_hit_has_an_exit_code(capsys: Out) -> None:
    """5, and nothing on standard output."""
    assert run(["results", "grep", JOB, "nowhere"]) == 5
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "no answer has it\n")


@pytest.mark.parametrize(
    "arguments", [["-E", "(a)\\1"], ["-E", "(?=a)b"], ["-E", "["], [""], ["x" * 1_001]]
)
def test_patterns_that_cannot_be_searched_for(capsys: Out, arguments: list[str]) -> None:
    """What is no linear search, or nothing at all, is a wrong usage."""
    assert run(["results", "grep", JOB, *arguments]) == 2
    assert "error[usage]" in capsys.readouterr().err


def test_grep_shows_the_place(stub: Stub, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a long text begins a little before the hit."""
    Output(stub, [answered("x" * 500 + "needle" + "y" * 500, "k")], [])
    screen(monkeypatch, 60)
    assert run(["results", "grep", JOB, "needle"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "…xxx" in line
    assert "needle" in line
    assert len(line) <= 60


def test_stats_count_everything(capsys: Out) -> None:
    """Outcomes, errors, finish reasons, tokens, lengths and the cost, for people."""
    assert run(["results", "stats", JOB]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "lines     5",
        "outcomes  ok 3, error 1, truncated 1",
        "errors    429 1, MAX_TOKENS 1",
        "finish    STOP 3, MAX_TOKENS 1",
        "tokens    prompt 12, output 20",
        "length    min 3, mean 9, p50 8, p95 12, p99 12, max 12",
        "cost      $0.001200",
    ]


def test_stats_as_json(capsys: Out) -> None:
    """The same for programs."""
    assert run(["results", "stats", JOB, "--json"]) == 0
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert value["outcomes"] == {"ok": 3, "error": 1, "truncated": 1}
    assert value["tokens"] == {"prompt": 12, "output": 20, "thoughts": 0, "cached": 0}
    assert value["cost_usd"] == "0.001200"


def test_hostile_words_do_not_fill_the_memory(stub: Stub, capsys: Out) -> None:
    """Finish reasons beyond fifty different ones are one, and long ones are cut."""
    lines = [answered("x", reason=f"{number:03}" + "z" * 100) for number in range(80)]
    Output(stub, lines, [])
    assert run(["results", "stats", JOB, "--json"]) == 0
    reasons = json.loads(capsys.readouterr().out)["finish_reasons"]
    assert len(reasons) == 51
    assert reasons["other"] == 30
    assert max(map(len, reasons)) == 50


def test_lengths_are_right_to_a_twentieth() -> None:
    """Quantiles of a thousand known lengths, and of nothing."""
    lengths = Lengths()
    assert lengths.summary() == {}
    for length in range(1_000):
        lengths.add(length)
    found = lengths.summary()
    assert (found["min"], found["mean"], found["max"]) == (0, 500, 999)
    assert found["p50"] == pytest.approx(499, rel=0.06)
    assert found["p99"] == pytest.approx(989, rel=0.06)


def test_a_job_without_output_says_so(stub: Stub, capsys: Out) -> None:
    """A job that runs has nothing to look into yet; the exit code is as of a download."""
    stub.on("GET", f"/requests/{JOB}", job("processing"))
    assert run(["results", "head", JOB]) == 8
    assert "not ready" in capsys.readouterr().err
