import json
from typing import Any

import pytest
from tests.client.kinds import Connect
from tests.client.stub import Reply, Stub, error

from penstock.client import APIError, Line, Stats

PATH = "/requests/req_7/lines"


def reply(**value: Any) -> Reply:  # noqa: ANN401  # JSON
    """An answer in JSON."""
    return Reply(content=json.dumps(value).encode())


def numbered(*numbers: int) -> list[dict[str, Any]]:
    """Lines as a server answers them; members that this client does not know are there, too."""
    return [{"line": number, "outcome": "error", "code": "429", "new": 1} for number in numbers]


def test_lines_are_read_page_after_page(connect: Connect, stub: Stub) -> None:
    """The iterator asks for the next page when it is needed, with the same filter."""
    stub.on(
        "GET",
        PATH,
        reply(lines=numbered(1, 2), total=3, line_count=9, next_cursor="abc"),
        reply(lines=numbered(7), total=3, line_count=9),
    )
    with connect(stub) as client:
        found = client.lines("req_7", outcome=["error", "missing"], code="429", with_output=True)
        lines = iter(found)
        assert next(lines).line == 1
        assert len(stub.seen) == 1
        assert [line.line for line in lines] == [2, 7]
    query = "?outcome=error%2Cmissing&code=429&include=output&limit=1000"
    assert [seen.path.removeprefix("/api/v1/ie/requestqueue/apikey") for seen in stub.seen] == [
        PATH + query,
        f"{PATH}{query}&cursor=abc",
    ]


def test_nothing_is_asked_that_was_not_wanted(connect: Connect, stub: Stub) -> None:
    """Without a filter there is none in the query; one outcome may be given as it is."""
    stub.on("GET", PATH, reply(lines=[]))
    with connect(stub) as client:
        assert list(client.lines("req_7")) == []
        assert list(client.lines("req_7", outcome="blocked", partial=True)) == []
    queries = [seen.path.partition("?")[2] for seen in stub.seen]
    assert queries == ["limit=1000", "outcome=blocked&partial=true&limit=1000"]


def test_the_first_lines_are_as_many_as_are_wanted(connect: Connect, stub: Stub) -> None:
    """A server with smaller pages is asked for the rest, and no further than that."""
    stub.on(
        "GET",
        PATH,
        reply(lines=numbered(1, 2), total=9, next_cursor="a"),
        reply(lines=numbered(3), total=9, next_cursor="b"),
    )
    with connect(stub) as client:
        page = client.lines("req_7").first(3)
    assert ([line.line for line in page.lines], page.total) == ([1, 2, 3], 9)
    assert len(stub.seen) == 2
    assert "limit=1&cursor=a" in stub.seen[1].path


def test_one_line_whole(connect: Connect, stub: Stub) -> None:
    """The line comes with its output, and says it in words."""
    parts = [{"thought": True}, {"text": "po"}, {"text": "sitive"}, 7]
    output = {"status": "", "response": {"candidates": [{"content": {"parts": parts}}]}}
    stub.on("GET", f"{PATH}/17", reply(line=17, outcome="ok", hint="", output=output))
    with connect(stub) as client:
        line = client.line("req_7", 17)
        client.line("req_7", 17, partial=True)
    assert (line.ok, line.text) == (True, "positive")
    assert stub.seen[1].path.endswith("/lines/17?partial=true")


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (None, ""),
        ({"status": "quota exceeded", "response": {}}, "quota exceeded"),
        ({"status": 7, "response": []}, ""),
        ({"status": "", "response": {"candidates": []}}, ""),
        ({"status": "", "response": {"candidates": [7]}}, ""),
        ({"status": "", "response": {"candidates": [{"content": 7}]}}, ""),
        ({"status": "", "response": {"candidates": [{"content": {"parts": 7}}]}}, ""),
    ],
)
def test_the_text_of_any_output(output: dict[str, Any] | None, text: str) -> None:
    """An error is its own text, and a response of any shape raises nothing."""
    line = Line(line=1, outcome="error", output=output)
    assert (line.text, line.ok) == (text, False)


def test_groups(connect: Connect, stub: Stub) -> None:
    """In which ways lines ended comes as it was answered."""
    group = {"outcome": "error", "code": "429", "count": 3, "example_line": 2, "retryable": True}
    stub.on("GET", f"{PATH}/groups", reply(line_count=9, groups=[group]))
    with connect(stub) as client:
        groups = client.groups("req_7")
    assert groups.line_count == 9
    assert (groups.groups[0].count, groups.groups[0].retryable) == (3, True)


def test_a_refusal_keeps_its_code(connect: Connect, stub: Stub) -> None:
    """A job whose lines are not known yet is told apart from one that does not exist."""
    stub.on("GET", PATH, error(409, "lines_not_ready", "not yet", hint="wait"))
    with connect(stub) as client, pytest.raises(APIError) as caught:
        list(client.lines("req_7"))
    assert (caught.value.code, caught.value.hint) == ("lines_not_ready", "wait")


def test_counts_by_outcome() -> None:
    """What ended otherwise than well is counted once; an older server's counts still say it."""
    stats = Stats(ok=5, blocked=2, error=1, missing=1, cancelled=3, failed_count=2, total_count=12)
    assert stats.not_ok == 7
    counted = {"ok": 5, "blocked": 2, "error": 1, "missing": 1, "cancelled": 3}
    assert stats.by_outcome == counted
    assert (Stats(failed_count=4).not_ok, Stats(failed_count=4).by_outcome) == (4, {})
