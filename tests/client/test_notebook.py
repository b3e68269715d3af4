from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.models import JobRecord
from penstock.client.money import Dollars, Estimate, Tokens
from penstock.client.notebook import (
    ROWS_MAX,
    TEXT_CHARACTERS_MAX,
    count_html,
    estimate_html,
    job_html,
    results_html,
    transfer_html,
    with_notes,
)

NOW = 1_795_363_200
TAGS = {"div", "strong", "span", "table", "thead", "tbody", "tr", "th", "td"}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><a href='javascript:x'>\u202e"


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.styles: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            self.styles.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> str:
    """Return the text of HTML in which nothing can happen."""
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.tags <= TAGS
    assert reader.attributes <= {"style"}
    assert not [style for style in reader.styles if "url" in style or "\\" in style]
    assert reader.text.replace(" ", "").isprintable()
    return reader.text


def job(**more: Any) -> JobRecord:  # noqa: ANN401  # JSON goes as it is
    """Return a job of 2,000 lines, with more of a record."""
    stats = {"successful_count": 1_000, "failed_count": 3, "total_count": 2_000, "error": 3}
    outcome = {"batch_job_completion_stats": {**stats, "ok": 1_000}}
    record = {"request_id": "7d0c", "status": "processing", "outcome": outcome, **more}
    return msgspec.convert(record, JobRecord)


def result(line: int, text: str, error: str | None = None, key: object = None) -> Any:  # noqa: ANN401
    """Return what a preview sees of a result."""
    failed = None if error is None else SimpleNamespace(code=error, message=text)
    outcome = "ok" if error is None else "error"
    return SimpleNamespace(line=line, key=key, outcome=outcome, text=text, error=failed)


@given(text=st.one_of(st.just(HOSTILE), st.text(max_size=40)))
def test_nothing_that_others_wrote_does_anything(text: str) -> None:
    """Whatever stands in a record, an answer or a key, it is shown as text and can do nothing."""
    hostile = job(
        request_id=text,
        status=text,
        status_detail=text,
        payload={"model": text},
        outcome={"actual_cost_usd": text, "message": text},
        waiting={"reason": text},
    )
    for html in (
        job_html(hostile, elapsed_seconds=1, now_seconds=NOW),
        transfer_html(text, 1, 2),
        count_html(text, 1, 2),
        results_html([result(1, text, key=text), result(2, text, error=text)]),
        estimate_html(Estimate(cost_usd=Dollars(low=text, expected=text, high=text))),
        with_notes([text], ""),
    ):
        read(html)


def test_a_running_job() -> None:
    """It has what a person asks for: state, counts, failures, cost, the end, why it waits."""
    text = read(
        job_html(
            job(
                status_detail="The provider has the job.",
                payload={"model": "gemini-3-flash-preview"},
                estimate={"cost_usd": {"expected": "1.204"}},
                waiting={"reason": "provider_run", "eta": {"expected_at": NOW + 900}},
            ),
            elapsed_seconds=133,
            now_seconds=NOW,
        )
    )
    assert text == (
        "processing 7d0c gemini-3-flash-preview1,003 of 2,000 lines · 3 not ok · est. $1.20 · "
        "~15 min left · 2:131,000 ok · 3 errorThe provider has the job."
    )


def test_a_job_by_itself() -> None:
    """Without a wait it says since when it is; without counts there are none."""
    assert read(job_html(job(created_at=NOW))).endswith(
        "1,003 of 2,000 lines · 3 not ok · since 2026-11-22 16:00 UTC1,000 ok · 3 error"
    )
    plain = job(outcome=None, waiting={"reason": "our_queue"})
    assert read(job_html(plain)) == "processing 7d0c in our queue"
    one_way = {"batch_job_completion_stats": {"total_count": 2, "successful_count": 2, "ok": 2}}
    assert "ok" not in read(job_html(job(outcome=one_way, status="success")))
    older = {"batch_job_completion_stats": {"total_count": 2, "failed_count": 2}}
    assert read(job_html(job(outcome=older))).endswith("2 of 2 lines · 2 not ok")


@pytest.mark.parametrize(
    ("html", "text"),
    [
        (transfer_html("sent", 1_500_000, 3_000_000), "sent 1.5 of 3.0 MB, 50 %"),
        (transfer_html("sent", 1_500_000, None, elapsed_seconds=3), "sent 1.5 MB, 0.5 MB/s"),
        (count_html("rows", 1, 1_200), "1 of 1,200 rows"),
        (count_html("rows", 0, 0), "0 of 0 rows"),
        (with_notes([], "<div></div>"), ""),
    ],
)
def test_how_far_something_is(html: str, text: str) -> None:
    """Bytes and things are told as numbers beside the bar."""
    assert read(html) == text


def test_an_estimate() -> None:
    """What is expected stands beside what it may become; without a price that is said."""
    tokens = Tokens(low=1, expected=2_000, high=3_000)
    cost = Dollars(low="0.5", expected="1.204", high="2")
    estimate = Estimate(
        lines=10, prompt_tokens=tokens, output_tokens=tokens, cost_usd=cost, online_cost_usd="2.4"
    )
    assert read(estimate_html(estimate)) == (
        "expectednine in tenlines10tokens in2,0001 to 3,000tokens out2,0001 to 3,000"
        "cost$1.20$0.50 to $2.00the same online$2.40"
    )
    assert read(estimate_html(Estimate())).endswith("costunknown: the model has no price")


def test_a_preview_is_short() -> None:
    """Few rows, each cut, and it says that there are more, and how many if that is known."""
    many = [result(number, "x" * 1_000) for number in range(1, ROWS_MAX + 2)]
    text = read(results_html(iter(many)))
    assert text.endswith(f"the first {ROWS_MAX}; there are more")
    assert text.count("x") == ROWS_MAX * TEXT_CHARACTERS_MAX
    assert read(results_html(many[:2], total=1_234)).endswith("the first 2 of 1,234")
    few = read(results_html([result(1, "a\nb", key="k"), result(2, "no", error="429", key=7)]))
    assert few == "linekeyoutcomeanswer1koka b27error429: no"
