"""Which job a text means: ids, their beginnings, names, and the short words."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from tests.client.stub import Reply, Seen, Stub, record

from penstock.cli.main import run
from penstock.cli.recent import JOBS_MAX, Recent, recent

pytestmark = pytest.mark.usefixtures("shell")

FULL = "req_0123456789abcdefghjkmnpqrs"
Out = pytest.CaptureFixture[str]


def job(number: int, name: str | None = None) -> dict[str, Any]:
    """A job of this number."""
    return {**record("processing"), "request_id": f"req_{number:026}", "name": name}


def page(*jobs: dict[str, Any], **more: object) -> Reply:
    """An answer with these jobs."""
    return Reply(content=json.dumps({"requests": jobs, **more}).encode())


def query_of(seen: Seen) -> dict[str, list[str]]:
    """The query of a request."""
    return parse_qs(seen.path.partition("?")[2])


def found(stub: Stub, text: str) -> list[Seen]:
    """What was asked to find out which job a text means; the answer is job 1."""
    path = f"/requests/req_{1:026}"
    stub.on("GET", path, Reply(content=json.dumps(job(1)).encode()))
    assert run(["show", text, "-q"]) == 0
    assert stub.seen[-1].path.endswith(path)
    return stub.seen[:-1]


def test_a_full_id_asks_nobody(stub: Stub) -> None:
    """A script with an id pays for no other question."""
    assert found(stub, f"req_{1:026}") == []


@pytest.mark.parametrize("text", ["req_0", "req_000…"])
def test_the_beginning_of_an_id(stub: Stub, text: str) -> None:
    """As it was typed, or as a narrow table showed it."""
    stub.on("GET", "/requests", page(), page(job(1)))
    asked = found(stub, text)
    assert [query_of(one).get("name") for one in asked] == [None, [text.strip("…")], None]
    assert query_of(asked[-1])["prefix"] == [text.strip("…")]


def test_a_name(stub: Stub) -> None:
    """The name of one job means it."""
    stub.on("GET", "/requests", page(job(1, "nov eval")))
    assert query_of(found(stub, "nov eval")[-1])["name"] == ["nov eval"]


def test_a_server_that_does_not_know_names(stub: Stub, capsys: Out) -> None:
    """It answers with all its jobs, and none of them is taken for the one that is meant."""
    stub.on("GET", "/requests", page(job(1), job(2, "other")))
    assert run(["cancel", "nov"]) == 5
    assert run(["cancel", "req_9"]) == 5
    assert capsys.readouterr().err.count("error[not_found]") == 2
    assert not stub.calls("POST")


@pytest.mark.parametrize(("text", "name"), [("req_0", None), ("nov", "nov")])
def test_several_jobs_are_listed(stub: Stub, capsys: Out, text: str, name: str | None) -> None:
    """Nothing is done to a job that may not be meant; the candidates are told."""
    stub.on("GET", "/requests", page(job(1, name), job(2, name)))
    assert run(["cancel", text]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == f"error[ambiguous]: {text!r} may be 2 jobs"
    assert shown[1].split() == [f"req_{1:026}", "processing", *([name] if name else [])]
    assert shown[3] == "fix: write one of these ids, newest first"
    assert not stub.calls("POST")


def test_many_candidates_are_bounded(stub: Stub, capsys: Out) -> None:
    """Ten are listed, and that there are more is said."""
    stub.on("GET", "/requests", page(*(job(number, "n") for number in range(11))))
    assert run(["show", "n"]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].endswith("'n' may be more than 10 jobs")
    assert len(shown) == 12


def test_numbers_count_from_the_newest(stub: Stub) -> None:
    """@2 is the second of the list, also where a server gives fewer at once."""
    stub.on("GET", "/requests", page(job(7), next_cursor="c"), page(job(1)))
    assert [query_of(one) for one in found(stub, "@2")] == [
        {"limit": ["2"]},
        {"limit": ["1"], "cursor": ["c"]},
    ]


def test_a_number_that_there_is_not(stub: Stub, capsys: Out) -> None:
    """The error says how many there are."""
    stub.on("GET", "/requests", page(job(7)))
    assert run(["show", "@2"]) == 5
    assert "there is no @2: the organisation has 1 jobs" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["@", "@0", "@first", "@-1", "@12345"])
def test_other_words_are_refused(stub: Stub, capsys: Out, text: str) -> None:
    """A word that means nothing is not looked for as a name."""
    assert run(["show", text]) == 2
    assert "is neither @last nor a number such as @1" in capsys.readouterr().err
    assert not stub.seen


def test_last_is_what_was_submitted_from_here(stub: Stub, tmp_path: Path, capsys: Out) -> None:
    """What others submit, and what is only looked at, does not change it."""
    file = tmp_path / "in.jsonl"
    file.write_text("{}\n")
    stub.on("POST", "/requests", Reply(content=json.dumps(job(1, "mine")).encode()))
    assert run(["submit", str(file)]) == 0
    stub.on("GET", "/requests", page(job(9, "theirs"), job(1, "mine")))
    assert run(["ls"]) == 0
    stub.seen.clear()
    assert found(stub, "@last") == []
    assert run(["show", "@last", "--organization", "other"]) == 5
    assert "submitted from this machine to" in capsys.readouterr().err


def test_last_of_another_server_is_another(stub: Stub, capsys: Out) -> None:
    """An id of one server is never sent to another."""
    recent().remember("http://elsewhere", None, [(FULL, "")], is_mine=True)
    assert run(["cancel", "@last"]) == 5
    assert "fix: take an id of penstock ls" in capsys.readouterr().err
    assert not stub.seen


def test_the_cache_is_bounded_and_newest_first(tmp_path: Path) -> None:
    """The oldest go; a job that is submitted comes to the front, one that is seen does not."""
    cache = Recent(tmp_path / "a" / "recent.json")
    cache.remember("http://x/", None, [(str(number), "") for number in range(JOBS_MAX)])
    cache.remember("http://x", None, [("new", "n")], is_mine=True)
    cache.remember("http://x", None, [("seen", "")])
    assert len(cache.all()) == JOBS_MAX
    assert [one.id for one in cache.all()[:2]] == ["new", "0"]
    assert cache.last("http://x", None) == "new"
    assert cache.last("http://x", "org") is None


@pytest.mark.parametrize("content", ["", "[1]", "{}", '[{"url": 1}]', "\x00"])
def test_a_spoilt_cache_is_none(tmp_path: Path, content: str) -> None:
    """Whatever is in the file, commands go on, and the next job is kept."""
    path = tmp_path / "recent.json"
    path.write_text(content)
    assert Recent(path).all() == []
    Recent(path).remember("http://x", None, [("a", "")], is_mine=True)
    assert Recent(path).last("http://x", None) == "a"


def test_without_a_place_for_the_cache(
    stub: Stub, tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is submitted all the same, and it is said that @last does not know it."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    stub.on("POST", "/requests", Reply(content=json.dumps(job(1)).encode()))
    stub.on("GET", "/requests", page(job(1)))
    assert run(["submit", str(tmp_path / "file")]) == 0
    assert "note: @last will not know this job: " in capsys.readouterr().err
    assert run(["ls"]) == 0
    assert "note" not in capsys.readouterr().err


def test_the_cache_is_the_users_own(tmp_path: Path) -> None:
    """Nobody else reads it, and a crash while it is written leaves the old one."""
    path = tmp_path / "penstock" / "recent.json"
    Recent(path).remember("http://x", None, [("a", "")])
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    assert os.listdir(path.parent) == ["recent.json"]  # noqa: PTH208  # names alone
