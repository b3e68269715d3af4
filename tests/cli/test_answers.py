"""In which form commands answer: tables, tabs, ids, JSON; and what stands beside that."""

import json
import sys
from typing import Any

import pytest
from tests.client.stub import Reply, Stub, record

from penstock.cli.connection import Answer
from penstock.cli.listing import columns, cut, wrapped
from penstock.cli.main import run
from penstock.client.screen import cells

pytestmark = pytest.mark.usefixtures("shell")

Out = pytest.CaptureFixture[str]
HEADINGS = ("ID", "NAME", "STATUS", "MODEL")


def sit_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looks from now on, at sixty columns."""
    monkeypatch.setenv("COLUMNS", "60")
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)


def jobs(stub: Stub, *names: str, **more: Any) -> None:  # noqa: ANN401  # JSON
    """Let the server have jobs of these names."""
    rows = [
        {**record("success"), "request_id": f"req_{at:026}", "name": name}
        for at, name in enumerate(names)
    ]
    content = json.dumps({"requests": rows, "total": len(rows), **more})
    stub.on("GET", "/requests", Reply(content=content.encode()))


def test_quiet_is_ids_alone(stub: Stub, capsys: Out) -> None:
    """One id a line for the next command, and not a word beside it."""
    jobs(stub, "a", "b", total=9)
    assert run(["ls", "-q"]) == 0
    assert capsys.readouterr() == (f"req_{0:026}\nreq_{1:026}\n", "")


def test_filters_of_a_list(stub: Stub) -> None:
    """Name and labels go to the server, which looks at all jobs and not at a page."""
    jobs(stub)
    assert run(["ls", "--name", "nov", "--label", "team=search", "--label", "x=a=b"]) == 0
    assert stub.seen[0].path.endswith("?limit=20&name=nov&label=team%3Asearch&label=x%3Aa%3Db")


@pytest.mark.parametrize("label", ["team", "=x"])
def test_a_label_that_is_none(stub: Stub, capsys: Out, label: str) -> None:
    """It is told what one looks like."""
    assert run(["ls", "--label", label]) == 2
    assert "is no label such as team=search" in capsys.readouterr().err
    assert not stub.seen


def test_an_empty_list_says_what_to_do(stub: Stub, capsys: Out) -> None:
    """Data is nothing; the next step stands beside it."""
    jobs(stub)
    assert run(["ls"]) == 0
    assert capsys.readouterr() == ("", "no jobs; submit one: penstock submit FILE\n")


def test_a_narrow_table_fits(stub: Stub, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row is wrapped, whatever the names are; what is cut is marked."""
    sit_down(monkeypatch)
    jobs(stub, "x" * 80, "評価" * 20)
    assert run(["ls"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split()[:3] == ["ID", "NAME", "STATUS"]
    assert max(cells(line) for line in shown) <= 60
    assert "x…x" in shown[1]


def test_nothing_is_cut_if_that_is_asked(
    stub: Stub, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--no-truncate shows every column whole, on a terminal too."""
    sit_down(monkeypatch)
    jobs(stub, "x" * 80)
    assert run(["ls", "--no-truncate"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split()[-1] == "MODEL"
    assert "x" * 80 in row


def test_columns_are_dropped_in_order() -> None:
    """First those that say nothing, then by rank; the first column is cut last."""
    row = ("req_0123456789", "-", "processing", "gemini-3-flash-preview")
    assert columns(HEADINGS, [row], 53, drop=("NAME", "MODEL"))[1].split() == [
        "req_0123456789",
        "processing",
        "gemini-3-flash-preview",
    ]
    assert columns(HEADINGS, [row], 34, drop=("MODEL", "NAME"))[1].split() == [
        "req_0123456789",
        "processing",
    ]


@pytest.mark.parametrize(
    ("text", "most", "in_the_middle", "shown"),
    [
        ("short", 8, True, "short"),
        ("gemini-3-flash-preview", 10, True, "gemin…view"),
        ("gemini-3-flash-preview", 10, False, "gemini-3-…"),
        ("評価評価評価", 8, False, "評価評…"),
        ("e\u0301" * 9, 5, False, "e\u0301" * 4 + "…"),
        ("e\u0301" * 9, 5, True, "e\u0301" * 2 + "…" + "e\u0301" * 2),
    ],
)
def test_what_is_cut(text: str, most: int, shown: str, *, in_the_middle: bool) -> None:
    """Cells are counted as a terminal counts them."""
    assert cut(text, most, in_the_middle=in_the_middle) == shown
    assert cells(shown) <= most


def test_sheets_are_wrapped_below_their_values() -> None:
    """What does not fit stands further to the right; a pipe gets it as it is."""
    lines = ["name      " + "word " * 12, "short"]
    assert wrapped(lines, 0) == lines
    shown = wrapped(lines, 40)
    assert shown[0].startswith("name      word")
    assert shown[1].startswith(" " * 10 + "word")
    assert shown[-1] == "short"
    assert max(map(len, shown)) <= 40


def test_hints_that_are_to_be_copied_are_not_broken(
    capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prose is wrapped; a command stays in one line, on its own if it must."""
    sit_down(monkeypatch)
    answer = Answer()
    answer.hint("word " * 20)
    answer.hint("see " * 14 + "penstock show req_1")
    answer.next("penstock show req_1")
    answer.next("penstock show req_" + "1" * 40)
    shown = capsys.readouterr().err.splitlines()
    assert [len(line) <= 60 for line in shown] == [True, True, False, True, True, True]
    assert shown[-3:-1] == ["next: penstock show req_1", "next:"]


def test_hints_are_quiet_if_that_is_asked(capsys: Out) -> None:
    """--quiet is for programs, which read no hints."""
    Answer(quiet=True).hint("x")
    Answer(quiet=True).next("x")
    assert capsys.readouterr().err == ""


def test_without_standard_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose output is closed has no width, and shows no progress."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    answer = Answer()
    assert answer.width == 0
    answer.hint("x")
    answer.progress().close()
