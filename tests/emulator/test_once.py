"""Directives with `-once`: a line that ends badly in one job and well in the next."""

from pathlib import Path

import pytest
from tests.emulator.driver import Emulator, fresh_emulator, line


def statuses(emulator: Emulator, *texts: str) -> dict[str, str]:
    """The status of each row of a new job over lines with these texts, by key."""
    lines = [line(text, f"k-{number}") for number, text in enumerate(texts)]
    return {row["key"]: row["status"] for row in emulator.rows(emulator.run(lines))}


def test_a_line_fails_in_the_first_job_only(emulator: Emulator) -> None:
    """The same text fails with its code in one job and is answered in the next."""
    text = "a [[emulator:fail-once=429]]"
    assert statuses(emulator, text)["k-0"].startswith("RESOURCE_EXHAUSTED")
    assert statuses(emulator, "other", text) == {"k-0": "", "k-1": ""}


def test_all_lines_of_the_first_job_fail(emulator: Emulator) -> None:
    """Lines with the same text in one job end alike, under whatever key."""
    text = "a [[emulator:fail-once=503]]"
    assert all(statuses(emulator, text, text).values())
    assert not any(statuses(emulator, text, text).values())


def test_a_row_is_missing_once(emulator: Emulator) -> None:
    """The row is not there in the first job, and there in the second."""
    text = "a [[emulator:missing-once]]"
    assert statuses(emulator, text, "b").keys() == {"k-1"}
    assert statuses(emulator, text, "b").keys() == {"k-0", "k-1"}


def test_how_many_jobs_are_struck_can_be_said(emulator: Emulator) -> None:
    """With `times` so many jobs are struck before one gets through."""
    text = "a [[emulator:fail-once=500]] [[emulator:times=2]]"
    found = [bool(statuses(emulator, text)["k-0"]) for _ in range(3)]
    assert found == [True, True, False]


@pytest.mark.parametrize("times", ["x", ""])
def test_a_number_that_is_none_means_one(emulator: Emulator, times: str) -> None:
    """An unreadable `times` is once."""
    text = f"a [[emulator:fail-once=500]] [[emulator:times={times}]]"
    assert [bool(statuses(emulator, text)["k-0"]) for _ in range(2)] == [True, False]


def test_another_text_is_another_line(emulator: Emulator) -> None:
    """What one line has met says nothing about another."""
    assert statuses(emulator, "a [[emulator:fail-once=500]]")["k-0"]
    assert statuses(emulator, "b [[emulator:fail-once=500]]")["k-0"]


def test_a_restart_remembers_what_was_struck(tmp_path: Path) -> None:
    """The second job is healed also in an emulator that was started anew."""
    text = "a [[emulator:fail-once=429]]"
    with fresh_emulator(tmp_path) as before:
        assert statuses(before, text)["k-0"]
    with fresh_emulator(tmp_path) as after:
        assert not statuses(after, text)["k-0"]
