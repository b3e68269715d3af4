"""Lines that are put aside, and a trial of a file: what is written, kept and told."""

import json
from pathlib import Path

import pytest
from tests.ingest.naive import GOOD, Memory

from penstock.core.limits import Limits
from penstock.errors import BlobCorrupt, InvalidInput, Problem
from penstock.ingest import jsonl, survey
from penstock.ingest.intake import Accepted
from penstock.ingest.jsonl import JsonlIntake, Tally
from penstock.ingest.problems import pack_problem, read_problems
from penstock.ingest.survey import GROUP_LINES_MAX, GROUPS_MAX, Duplicates, described
from penstock.ingest.treatment import Treatment

ASIDE = Treatment(puts_aside=True)
TRIAL = Treatment(is_trial=True)


def fed(data: bytes, treatment: Treatment, limits: Limits | None = None) -> tuple[Tally, Memory]:
    """Feed a file whole; byte by byte it must come to the same."""
    sink = Memory()
    intake = JsonlIntake(limits or Limits(), sink, treatment=treatment)
    intake.feed(data)
    tally = intake.finish()
    slow = Memory()
    again = JsonlIntake(limits or Limits(), slow, treatment=treatment)
    for byte in data:
        again.feed(bytes([byte]))
    assert again.finish() == tally
    assert b"".join(slow.problems) == b"".join(sink.problems)
    assert b"".join(slow.blocks) == b"".join(sink.blocks)
    return tally, sink


def test_a_problem_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Numbers and all members come back, in their order."""
    problems = {
        2: Problem(code="bom", message="m", line=5),
        7: Problem(code="invalid_json", message="é\n", line=9, column=3, path="$.a", hint="h"),
    }
    path = tmp_path / "problems"
    path.write_bytes(b"".join(pack_problem(*one) for one in problems.items()))
    assert read_problems(path) == problems
    assert list(read_problems(path)) == [2, 7]


@pytest.mark.parametrize("damaged", [b"[1", b'[1,{"code":"x"}]\n', b'{"a":1}\n', b"\xff\n"])
def test_a_damaged_file_is_told(tmp_path: Path, damaged: bytes) -> None:
    """What we cannot have written is an error, and not no problem."""
    path = tmp_path / "problems"
    path.write_bytes(pack_problem(1, Problem(code="bom", message="m")) + damaged)
    with pytest.raises(BlobCorrupt):
        read_problems(path)


def test_lines_behind_a_bad_one_are_kept() -> None:
    """Everything is stored and indexed; only the bad lines are named besides."""
    data = b"x\n\n" + GOOD + b"\n[]\n" + GOOD
    tally, sink = fed(data, ASIDE)
    assert (tally.line_count, tally.problem_count) == (4, 2)
    assert [bad.code for bad in tally.problems] == ["invalid_json", "not_an_object"]
    assert b"".join(sink.blocks) == data
    assert [json.loads(row)[0] for row in sink.problems] == [1, 3]
    assert tally.report is None


def test_many_bad_lines_are_named_by_their_line_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """To search places costs time, which is bounded in all; the code and the hint stay."""
    monkeypatch.setattr(jsonl, "SEARCHED_BYTES_MAX", 9)
    data = GOOD + b"\n" + b'{"key":1}\n' * 3
    tally, sink = fed(data, ASIDE, Limits(problems_reported_max=2))
    assert (tally.problem_count, len(tally.problems)) == (3, 2)
    first, second, third = (json.loads(row)[1] for row in sink.problems)
    assert (first["column"], first["path"]) == (1, "$.request")
    assert second == third | {"line": 3, "offset": second["offset"]}
    assert "column" not in second
    assert "excerpt" not in second
    assert (second["code"], second["hint"]) == (first["code"], first["hint"])


def test_too_many_bad_lines_end_it_at_once() -> None:
    """Before the rest of the file has come."""
    intake = JsonlIntake(Limits(quarantine_lines_max=2), Memory(), treatment=ASIDE)
    with pytest.raises(InvalidInput) as caught:
        intake.feed(b"x\n" * 200_000)
    assert caught.value.error_code == "too_many_problems"
    assert caught.value.problems_total == 3


def row(text: str) -> bytes:
    """A line with a text."""
    return GOOD.replace(b"hi", text.encode()) + b"\n"


def test_a_trial_counts_what_is_the_same() -> None:
    """The largest groups first, each with some of its lines; blank lines count as lines."""
    numbers = range(GROUPS_MAX + 5)
    data = b"".join(row(f"t{number}") * (1 + number % 3) + b"\n" for number in numbers)
    data += row("many") * 9
    tally, _ = fed(data, TRIAL)
    report = tally.report
    assert report is not None
    again = sum(number % 3 for number in numbers) + 8
    assert report.duplicate_lines == again
    assert report.duplicate_groups == sum(number % 3 > 0 for number in numbers) + 1
    assert len(report.duplicates) == 17
    largest = report.duplicates[0]
    assert (largest.lines, len(largest.first_lines)) == (9, GROUP_LINES_MAX)
    lines = data.split(b"\n")
    assert all(lines[number - 1] == row("many")[:-1] for number in largest.first_lines)


def test_a_trial_shows_no_more_groups_than_that() -> None:
    """All are counted."""
    data = b"".join(row(f"t{number}") * 2 for number in range(GROUPS_MAX + 5))
    report = fed(data, TRIAL)[0].report
    assert report is not None
    assert (report.duplicate_groups, len(report.duplicates)) == (GROUPS_MAX + 5, GROUPS_MAX)


@pytest.mark.parametrize(
    ("text", "is_warned"),
    [("007", True), ("-1.50", True), (" 3 ", True), ("1e5", True), ("7b", False), ("", False)],
)
def test_texts_that_look_like_numbers_are_named(text: str, is_warned: bool) -> None:  # noqa: FBT001
    """The importer may turn them into numbers."""
    report = fed(row(text), TRIAL)[0].report
    assert report is not None
    assert bool(report.warnings) is is_warned


def test_a_trial_describes_lines_of_every_way_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ordinary ones, odd ones, long ones; those that are too long are only counted."""
    monkeypatch.setattr(survey, "READ_BYTES_MAX", 100)
    odd = b'{"request":{"contents":[{"parts":[{"text":1}]}],"labels":null}}'
    ends = GOOD + b"\r"
    tally, sink = fed(b"\n".join((odd, ends, row("x" * 100), GOOD)), TRIAL)
    assert tally.report is not None
    assert tally.report.unread_lines == 1
    assert [(one.code, one.lines) for one in tally.report.normalisations] == [("null_member", 1)]
    assert tally.report.duplicate_lines == 1
    assert sink.problems == []


def test_a_trial_looks_at_lines_that_are_judged_carefully() -> None:
    """A line that is too long to be built at once, and good, is described all the same."""
    long = b'{"pad":"' + b"x" * 1_048_000 + b'",' + GOOD[1:-2] + b',"labels":null}}'
    tally, _ = fed_whole(long)
    assert tally.report is not None
    assert [one.code for one in tally.report.normalisations] == ["null_member"]
    longer = b'{"pad":"' + b"x" * 1_100_000 + b'",' + GOOD[1:]
    tally, _ = fed_whole(longer)
    assert tally.report is not None
    assert tally.report.unread_lines == 1


def fed_whole(data: bytes) -> tuple[Tally, Memory]:
    """Feed a file in one piece."""
    sink = Memory(keep=False)
    intake = JsonlIntake(Limits(), sink, treatment=TRIAL)
    intake.feed(data)
    return intake.finish(), sink


def test_what_holds_no_texts_is_not_warned_of() -> None:
    """Where texts should stand may stand something else; the provider judges that."""
    odd = b'{"request":{"contents":[{"parts":[[{"text":"7"}]]}]}}'
    report = fed(odd, TRIAL)[0].report
    assert report is not None
    assert not report.warnings


def test_bad_lines_refuse_nothing_in_a_trial() -> None:
    """They are told like everything else, even if all are bad."""
    tally, sink = fed(b"x\n[]\n", TRIAL)
    assert (tally.line_count, tally.problem_count) == (2, 2)
    assert described(tally, bad_max=0).valid is False
    assert described(tally, bad_max=9).valid is False
    assert sink.problems == []
    with pytest.raises(InvalidInput):
        fed(b"\n", TRIAL)


def test_what_is_told_of_a_file_without_a_report() -> None:
    """Members are there all the same."""
    accepted = Accepted.__struct_fields__
    assert {"problem_count", "problems", "report"} <= set(accepted)
    tally = Tally(line_count=1, input_bytes=2, sha256="")
    assert described(tally, bad_max=0).valid is True
    assert described(tally, bad_max=0).duplicates == Duplicates(lines=0, groups=0, largest=())
