"""What a person sees: a real server and emulator, and the commands on a terminal of two widths."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.terminal import Screen, drawn, seen
from tests.journeys.service import Service, prompt, running, until

from penstock.client.screen import cells

pytestmark = pytest.mark.slow

WIDTHS = pytest.mark.parametrize("columns", [120, 60])
_ID = re.compile(r"req_[0-9a-z]{26}")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server and an emulator, each a process."""
    with running(tmp_path_factory.mktemp("pair")) as service:
        yield service


@pytest.fixture
def penstock(pair: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """The same, known to the environment."""
    monkeypatch.setenv("PENSTOCK_URL", pair.url)
    monkeypatch.setenv("PENSTOCK_API_KEY", pair.key)
    return pair


def written(path: Path, *texts: str) -> str:
    """A file of prompts."""
    lines = [json.dumps(prompt(text, key=f"k{number}")) for number, text in enumerate(texts)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def scrubbed(screen: Screen, columns: int) -> list[str]:
    """The screen without what differs from run to run; each line fits, but for what is copied."""
    for line in screen.lines:
        assert cells(line) <= columns or _ID.search(line), line
    text = _ID.sub("ID", screen.text)
    for pattern, word in (
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "TIME"),
        (r"\$[0-9.]+[0-9]", "$N"),
        (r"\b\d+:\d\d\b", "M:SS"),
        (r"\d[\d,]* bytes", "N bytes"),
        (r"\d[\d,]* (in|out|thinking)\b", r"N \1"),
    ):
        text = re.sub(pattern, word, text)
    return text.splitlines()


@WIDTHS
@pytest.mark.usefixtures("penstock")
def test_a_job_from_its_submission_to_its_answers(tmp_path: Path, columns: int) -> None:
    """Submitted, watched, shown, listed and downloaded, all by @last and by its name."""
    file = written(tmp_path / "in.jsonl", "one", "two", "three")
    screen = seen(["submit", file, "--name", f"reviews-{columns}", "--watch"], columns)
    assert screen.code == 0, screen.text
    lines = scrubbed(screen, columns)
    assert [line.split("  ")[0] for line in lines[:6]] == [
        "judged",
        "valid",
        "estimate",
        "sent",
        "ID",
        "success",
    ]
    assert lines[1] == "valid     3 requests, N bytes"
    assert lines[5].startswith("success  3/3")
    assert lines[6:9] == ["id        ID", f"name      reviews-{columns}", lines[8]]
    assert lines[-1].strip().endswith("penstock download ID -o OUT")

    by_name = seen(["show", f"reviews-{columns}"], columns)
    assert scrubbed(by_name, columns) == lines[6:]

    target = tmp_path / "out.jsonl"
    fetched = seen(["download", "@last", "-o", str(target)], columns)
    assert fetched.code == 0
    assert [json.loads(line)["key"] for line in target.read_text().splitlines()] == [
        "k0",
        "k1",
        "k2",
    ]
    assert "SHA-256 verified" in " ".join(fetched.text.split())

    listed = scrubbed(seen(["ls"], columns), columns)
    assert listed[0].split()[:3] == ["ID", "NAME", "STATUS"]
    assert f"reviews-{columns}" in listed[1]
    assert ("CREATED" in listed[0]) is (columns == 120)


@WIDTHS
@pytest.mark.usefixtures("penstock")
def test_failed_lines_and_their_retry(tmp_path: Path, columns: int) -> None:
    """What went wrong, in which line, whether another try helps, and that it did."""
    texts = [f"good {columns}", f"bad {columns} [[emulator:fail-once=429]]"]
    file = written(tmp_path / "in.jsonl", *texts)
    screen = seen(["submit", file, "--watch", "--retry", "0"], columns)
    assert screen.code == 9, screen.text
    text = " ".join(" ".join(scrubbed(screen, columns)).split())
    assert "1 error 429 another try may mend it e.g. line 2" in text
    assert "next: penstock retry ID" in text
    assert "1 of 2 requests failed; see why: penstock lines ID --groups" in text

    groups = seen(["lines", "@last", "--groups"], columns)
    assert groups.lines[0].split()[:3] == ["COUNT", "OUTCOME", "CODE"]
    assert groups.lines[1].split()[:3] == ["1", "error", "429"]
    assert max(map(cells, groups.lines)) <= columns

    again = seen(["retry", "@last", "--wait"], columns)
    assert again.code == 0, again.text
    assert scrubbed(again, columns)[-1] == "ID  success  2/2"


@WIDTHS
def test_an_interrupt_leaves_the_job_alone(penstock: Service, tmp_path: Path, columns: int) -> None:
    """Ctrl-C while watching: the job keeps running, and how to go on and how to stop it is said."""
    file = written(tmp_path / "in.jsonl", f"slow {columns} [[emulator:delay=10h]]")
    stopped: list[int] = []

    def stop(text: str, pid: int) -> None:
        if "processing" in text and not stopped:
            stopped.append(pid)
            os.kill(pid, signal.SIGINT)

    screen = seen(["submit", file, "--yes", "--watch"], columns, on_text=stop)
    assert screen.code == 130, screen.text
    found = _ID.search(screen.text)
    assert found is not None
    job = found[0]
    assert screen.lines[-3:] == [
        "stopped watching; the job keeps running",
        f"  go on:   penstock watch {job}",
        f"  stop it: penstock cancel {job}",
    ]
    assert "Traceback" not in screen.raw
    assert penstock.get(job)["status"] == "processing"

    waiting = seen(["wait", job, "--timeout", "0"], columns)
    assert waiting.code == 8
    assert seen(["cancel", job], columns).code == 0
    until(lambda: penstock.get(job)["status"] == "cancelled", "the cancel")
    ended = seen(["watch", job], columns)
    assert ended.code == 3
    assert f"error[job_cancelled]: {job} is cancelled" in ended.text


def test_a_question_on_a_terminal(penstock: Service, tmp_path: Path) -> None:
    """It is asked above the threshold, and an answer of no sends nothing."""
    file = written(tmp_path / "in.jsonl", "a question")
    before = penstock.http.get(f"{penstock.url}/api/v1/ie/requestqueue/apikey/requests").json()
    screen = seen(["submit", file], 60, typed="n\n", PENSTOCK_CONFIRM_ABOVE="0")
    assert screen.code == 130, screen.text
    assert screen.lines[-1].endswith("nothing was sent")
    assert "Submit? [Y/n]:" in screen.text
    after = penstock.http.get(f"{penstock.url}/api/v1/ie/requestqueue/apikey/requests").json()
    assert after["total"] == before["total"]
    assert seen(["submit", file], 60, typed="y\n", PENSTOCK_CONFIRM_ABOVE="0").code == 0


def test_the_beginning_of_an_id(penstock: Service, tmp_path: Path) -> None:
    """What a narrow table has cut can be pasted, and a real server finds the job."""
    file = written(tmp_path / "in.jsonl", "a beginning")
    assert seen(["submit", file, "-q"], 60).code == 0
    job = seen(["submit", file, "-q"], 60).lines[-1]
    for text in (job[:12], job[:14] + "…", "@1"):
        assert seen(["show", text, "-q"], 60).lines == [job]
    ambiguous = seen(["show", "req_"], 60)
    assert ambiguous.code == 2
    assert "error[ambiguous]: 'req_' may be" in ambiguous.text
    assert penstock.get(job)["request_id"] == job


def test_a_screen_is_drawn_as_a_terminal_does() -> None:
    """The judge of these tests: returns, clearings and colours."""
    assert drawn("12345\r\x1b[Kab\r\nc\x1b[31md\x1b[0m\r\n") == ["ab", "cd"]
    assert drawn("abc\rx") == ["xbc"]
