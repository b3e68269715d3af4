import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.models import JobRecord
from penstock.client.progress import (
    Bar,
    Lines,
    Notebook,
    Progress,
    Silent,
    auto,
    chosen,
    columns_of,
    style_of,
)
from penstock.client.progress_text import (
    WIDTH_MIN,
    Style,
    bar,
    count_line,
    cut,
    detail_lines,
    dollars,
    duration,
    job_line,
    roughly,
    transfer_line,
)
from penstock.client.screen import cells, clean

NOW = 1_795_363_200
HERE = {"TERM": "xterm"}


class Terminal(io.StringIO):
    """A stream that says that somebody looks at it."""

    def isatty(self) -> bool:
        return True


class Old(io.TextIOWrapper):
    """A terminal that knows ASCII alone."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A time that passes when a test says so."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def job(status: str = "processing", done: int = 1_000, bad: int = 3, **more: Any) -> JobRecord:  # noqa: ANN401  # JSON goes as it is
    """Return a job of 2,000 lines."""
    stats = {"successful_count": done, "failed_count": bad, "total_count": 2_000}
    outcome = {"batch_job_completion_stats": stats, **more.pop("outcome", {})}
    record = {"request_id": "7d0c", "status": status, "outcome": outcome, **more}
    return msgspec.convert(record, JobRecord)


RUNNING = job(
    status_detail="The provider has the job; there it has been RUNNING for 4 min.",
    estimate={"lines": 2_000, "cost_usd": {"low": "1", "expected": "1.204", "high": "2"}},
    waiting={"reason": "provider_run", "eta": {"expected_at": NOW + 900}},
)


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (20, "processing  ████░░░░"),
        (40, "processing  1,003/2,000  50 %  3 not ok"),
        (60, "processing  1,003/2,000  50 %  3 not ok  ~15 min left  2:13"),
        (
            80,
            "processing  ███░░░░  1,003/2,000  50 %  3 not ok  est. $1.20  ~15 min left  2:13",
        ),
        (
            120,
            (
                "processing  ███████████░░░░░░░░░░░  1,003/2,000  50 %  3 not ok  est. $1.20  "
                "~15 min left  running at the provider  2:13"
            ),
        ),
    ],
)
def test_a_line_fits_its_terminal(width: int, line: str) -> None:
    """What matters least goes first, and what is left is never wider than the terminal."""
    assert job_line(RUNNING, width, 133, now_seconds=NOW) == line


@given(
    text=st.text(max_size=60),
    width=st.integers(1, 150),
    numbers=st.tuples(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9)),
    style=st.builds(
        Style, colour=st.just(value=False), is_unicode=st.booleans(), has_bar=st.booleans()
    ),
)
def test_nothing_moves_the_cursor_or_leaves_the_line(
    text: str, width: int, numbers: tuple[int, int, int], style: Style
) -> None:
    """Whatever a server or a model wrote, a line is printable and as wide as it may be."""
    done, bad, total = numbers
    stats = {"successful_count": done, "failed_count": bad, "total_count": total}
    record = msgspec.convert(
        {
            "request_id": text,
            "status": text,
            "status_detail": text,
            "outcome": {"batch_job_completion_stats": stats, "actual_cost_usd": text},
            "waiting": {"reason": text, "position": {"number": 2, "of": 5}},
        },
        JobRecord,
    )
    lines = [
        job_line(record, width, 1e6, now_seconds=NOW, style=style),
        transfer_line(text, done, total, width, elapsed_seconds=3, style=style),
    ]
    for line in lines:
        assert line.isprintable()
        assert cells(line) <= max(width, WIDTH_MIN)


@given(text=st.text(max_size=40), width=st.integers(3, 40))
def test_a_cut_text_fits(text: str, width: int) -> None:
    """Wide characters count twice, and what is missing leaves a mark."""
    made = cut(clean(text), width)
    assert cells(made) <= width
    assert made == clean(text) or made.endswith("…")


@pytest.mark.parametrize(
    ("waiting", "said"),
    [
        ({"reason": "our_queue", "position": {"number": 2, "of": 5}}, "in our queue, 2 of 5"),
        ({"reason": "our_queue"}, "in our queue"),
        ({"reason": "provider_queue", "slow_since": 1}, "waiting at the provider (slow)"),
        ({"reason": "shards", "shards": {"of": 10, "ended": 3}}, "3 of 10 parts done"),
        ({"reason": "on_the_moon"}, "on the moon"),
        ({"reason": "sending", "round": {"number": 2, "of": 3}}, "being sent, round 2"),
        ({"reason": ""}, "Stored."),
    ],
)
def test_why_it_waits(waiting: dict[str, Any], said: str) -> None:
    """A reason is told in words, and one of a newer server as it stands."""
    record = job(done=0, bad=0, waiting=waiting, status_detail="Stored.")
    assert job_line(record, 120, 0) == f"processing  2,000 lines  {said}  0:00"


def test_a_job_that_is_over() -> None:
    """Its line has neither a bar nor a time that is left, but what it did cost."""
    record = job(
        "success",
        done=1_997,
        outcome={"actual_cost_usd": "1.1876"},
        waiting={"eta": {"expected_at": NOW + 9}},
    )
    line = job_line(record, 120, 3_723, now_seconds=NOW)
    assert line == "success  2,000/2,000  3 not ok  $1.19  1:02:03"


def test_money_that_is_spent_before_the_end() -> None:
    """What runs for the first time has an estimate, and in a later round what it cost so far."""
    estimate = {"cost_usd": {"expected": "2"}}
    for spent, said in (("0.000000", "est. $2.00"), ("1.5", "$1.50 so far")):
        record = job(estimate=estimate, outcome={"actual_cost_usd": spent})
        assert f"3 not ok  {said}  0:00" in job_line(record, 120, 0)
    nothing = job("cancelled", estimate=estimate, outcome={"actual_cost_usd": "0.000000"})
    assert "3 not ok  $0.00  0:00" in job_line(nothing, 120, 0)


def test_colours_are_only_where_they_are_wanted() -> None:
    """Colours take no room, and failures are red."""
    line = job_line(job("failed"), 60, 0, style=Style(colour=True))
    assert line.startswith("\x1b[31mfailed\x1b[0m  1,003/2,000  \x1b[31m3 not ok\x1b[0m")


def test_an_overdue_job() -> None:
    """A job that takes longer than expected is due any moment, not done in the past."""
    record = job(waiting={"eta": {"expected_at": NOW - 5}})
    assert "due any moment" in job_line(record, 120, 0, now_seconds=NOW)
    assert "left" not in job_line(record, 120, 0)


def test_transfers_and_counts() -> None:
    """Bytes are told with their speed once there is one, and things by their number."""
    line = transfer_line("sent", 1_500_000, 3_000_000, 60, elapsed_seconds=2)
    assert line == f"sent  {bar(0.5, 23)}  1.5 of 3.0 MB  50 %  0.8 MB/s"
    assert transfer_line("sent", 1_500_000, None, 60) == "sent  1.5 MB"
    assert count_line("pictures", 3, 12, 30) == f"3 of 12 pictures  {bar(0.25, 12)}"
    assert count_line("pictures", 0, 0, 30) == "0 of 0 pictures"
    assert bar(0.5, 4, style=Style(is_unicode=False)) == "##--"


@pytest.mark.parametrize(
    ("seconds", "exact", "rough"),
    [
        (0, "0:00", "under 1 min"),
        (754, "12:34", "13 min"),
        (7_200, "2:00:00", "2 h"),
        (7_800, "2:10:00", "2 h 10 min"),
        (86_400, "24:00:00", "1 d"),
        (100_800, "28:00:00", "1 d 4 h"),
    ],
)
def test_times(seconds: int, exact: str, rough: str) -> None:
    """A time that passed is exact, one that is expected is not."""
    assert (duration(seconds), roughly(seconds)) == (exact, rough)


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("0", "$0.00"),
        ("1234.5", "$1,234.50"),
        ("0.0042", "$0.0042"),
        ("0.00001", "under $0.0001"),
        ("NaN", "$NaN"),
        ("1e999999", "$1e999999"),
        ("nothing\x1b", "$nothing\\x1b"),
    ],
)
def test_money(amount: str, said: str) -> None:
    """Cents are enough for people, unless it is less than one."""
    assert dollars(amount) == said


def test_the_sentence_is_wrapped() -> None:
    """Those who have more lines get all of the server's sentence."""
    assert detail_lines(RUNNING, 40) == [
        "The provider has the job; there it has",
        "been RUNNING for 4 min.",
    ]
    failed = job("failed", outcome={"message": "no rights"})
    assert detail_lines(failed, 40) == ["no rights"]


def terminal_bar(clock: Clock, width: int = 60) -> tuple[Bar, Terminal]:
    """Return a bar, and the terminal that it draws on."""
    stream = Terminal()
    shown = Bar(stream, style=Style(), columns=lambda: width, now=clock, wall=lambda: NOW)
    return shown, stream


def test_a_bar_is_one_line_that_is_drawn_again() -> None:
    """A terminal sees one line, not more often than it can be read, and the end in any case."""
    clock = Clock()
    shown, stream = terminal_bar(clock, 40)
    with shown:
        shown.transfer("sent", 500_000, 1_000_000)
        shown.transfer("sent", 600_000, 1_000_000)
        shown.transfer("sent", 1_000_000, 1_000_000)
        clock.at += 0.05
        shown.job(job("processing", bad=0))
        shown.job(job("processing", done=1_001, bad=0))
        shown.job(job("success", done=2_000, bad=0))
        shown.note("look \x1b[2Jhere")
        shown.count("pictures", 1, 3)
    assert stream.getvalue().split("\r\x1b[K")[1:] == [
        "sent  ██████░░░░░░  0.5 of 1.0 MB  50 %",
        "sent  ███████████  1.0 of 1.0 MB  100 %",
        "processing  1,000/2,000  50 %  0:00",
        "success  2,000/2,000  0:00",
        "look \\x1b[2Jhere\nsuccess  2,000/2,000  0:00\n",
    ]


def test_a_note_without_a_line() -> None:
    """A sentence stands alone where nothing has been drawn, and nothing is there to be ended."""
    shown, stream = terminal_bar(Clock())
    shown.note("look")
    shown.close()
    assert stream.getvalue() == "look\n"


def test_a_log_has_few_lines() -> None:
    """The first state, one every half a minute, and the last; no single bytes and no bars."""
    clock, stream = Clock(), io.StringIO()
    shown = Lines(stream, now=clock, wall=lambda: NOW)
    shown.transfer("sent", 1, 2)
    shown.count("pictures", 1, 3)
    shown.job(RUNNING)
    clock.at += 29
    shown.job(RUNNING)
    clock.at += 1
    shown.job(RUNNING)
    shown.job(job("success", done=1_997))
    shown.job(job("success", done=1_997))
    shown.note("done")
    shown.close()
    first = "processing  1,003/2,000  50 %  3 not ok  est. $1.20  ~15 min left  "
    first += "running at the provider"
    assert stream.getvalue().splitlines() == [
        f"7d0c  {first}  0:00  The provider has the job; there it has been RUNNING for 4 min.",
        f"7d0c  {first}  0:30",
        "7d0c  success  2,000/2,000  3 not ok  0:30",
        "done",
    ]


def test_silence_still_says_what_must_be_known() -> None:
    """Without progress there are sentences, and without a stream there is nothing."""
    stream = io.StringIO()
    for shown in (Silent(stream), Silent()):
        shown.job(RUNNING)
        shown.transfer("sent", 1, 2)
        shown.count("pictures", 1, 3)
        shown.note("look")
        shown.close()
    assert stream.getvalue() == "look\n"


class Display:
    """What stands in for `IPython.display`: it keeps all that was ever shown."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def display(self, bundle: dict[str, str], **how: bool) -> "Display":
        assert how == {"raw": True, "display_id": True}
        self.shown.append(bundle)
        return self

    def update(self, bundle: dict[str, str], **how: bool) -> None:
        assert how == {"raw": True}
        self.shown.append(bundle)


def notebook_modules(display: Display, **shell: object) -> dict[str, Any]:
    """Return the modules of a process that runs a notebook."""
    ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(**shell))
    return {"IPython": ipython, "IPython.display": display}


def test_a_notebook_shows_html_in_one_place() -> None:
    """A cell has one output, replaced as the job goes on; who cannot show HTML gets text."""
    display = Display()
    shown = auto(io.StringIO(), environ={}, modules=notebook_modules(display, kernel=1))
    assert isinstance(shown, Notebook)
    shown.note("<b>look</b>")
    shown.transfer("sent", 1_000_000, 1_000_000)
    shown.count("pictures", 3, 3)
    shown.job(RUNNING)
    shown.job(RUNNING)
    shown.close()
    texts = [bundle["text/plain"].splitlines() for bundle in display.shown]
    assert texts[0] == ["<b>look</b>"]
    assert [lines[1].split("  ")[0] for lines in texts[1:]] == [
        "sent",
        "3 of 3 pictures",
        "processing",
    ]
    assert all("&lt;b&gt;look&lt;/b&gt;" in bundle["text/html"] for bundle in display.shown)


def test_a_notebook_is_not_asked_too_often() -> None:
    """A notebook stores each state, so it gets two a second, and the end in any case."""
    clock = Clock()
    states: list[str] = []

    def replace(html: str, text: str) -> None:
        assert html
        states.append(text)

    def show(html: str, text: str) -> Callable[[str, str], None]:
        replace(html, text)
        return replace

    shown = Notebook(show, now=clock, wall=lambda: NOW)
    shown.transfer("sent", 1, 3)
    shown.transfer("sent", 2, 3)
    shown.count("rows", 1, 3)
    shown.job(RUNNING)
    clock.at += 0.4
    shown.job(RUNNING)
    shown.job(job("success", done=2_000, bad=0))
    assert [state.split("  ")[0] for state in states] == ["sent", "processing", "success"]


def kind(environ: dict[str, str], stream: io.StringIO, **modules: Any) -> type[Progress]:  # noqa: ANN401  # modules of a notebook
    """Return the class of what is chosen."""
    return type(auto(stream, environ=environ, modules=modules))


def test_the_place_decides() -> None:
    """A terminal has a bar; CI, a pipe and a terminal without a cursor have lines."""
    assert kind(HERE, Terminal()) is Bar
    assert kind({**HERE, "CI": "true"}, Terminal()) is Lines
    assert kind({"TERM": "dumb"}, Terminal()) is Lines
    assert kind(HERE, io.StringIO()) is Lines
    shell = notebook_modules(Display())
    assert type(auto(Terminal(), environ=HERE, modules=shell)) is Bar


def test_the_caller_decides_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """`PENSTOCK_PROGRESS` and `progress=` come before the place."""
    notebook = notebook_modules(Display(), kernel=1)
    for mode, expected in (("bar", Bar), ("lines", Lines), ("none", Silent), ("auto", Notebook)):
        shown = auto(Terminal(), environ={"PENSTOCK_PROGRESS": mode}, modules=notebook)
        assert type(shown) is expected
    own = Lines(io.StringIO())
    assert chosen(own) is own
    stream = io.StringIO()
    assert type(chosen("bar", stream)) is Bar
    assert type(chosen(progress=False, stream=stream)) is Silent
    assert type(chosen(None)) is Silent
    monkeypatch.setenv("PENSTOCK_PROGRESS", "bar")
    assert type(chosen(progress=True, stream=stream)) is Bar


def test_an_old_terminal_gets_letters_it_has() -> None:
    """Neither a bar nor a name raises because of an encoding."""
    raw = io.BytesIO()
    stream = Old(raw, encoding="ascii")
    assert style_of(stream, {**HERE, "NO_COLOR": "1"}) == Style(colour=False, is_unicode=False)
    assert style_of(stream, HERE).colour
    shown = Bar(stream, columns=lambda: 50)
    shown.count("Bilder für dich", 1, 2)
    Lines(stream).job(job(status_detail="schön"))
    assert b"1 of 2 Bilder f?r dich  ##" in raw.getvalue()
    assert b"sch?n" in raw.getvalue()


def test_the_width_of_what_is_no_terminal() -> None:
    """What has no columns is drawn on as if it had eighty."""
    assert columns_of(io.StringIO()) == 80
    stream = Terminal()
    Bar(stream, style=Style()).count("x", 0, 1)
    assert len(stream.getvalue()) < 90
