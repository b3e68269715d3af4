"""docs/verified.md and the code say the same."""

import json
import re
from pathlib import Path

from penstock.doctor.assumptions import ASSUMPTIONS, BY_ID, HOW, block

PAGE = Path(__file__).parents[2] / "docs" / "verified.md"
TEXT = PAGE.read_text("utf-8")
LIVE = re.compile(r"^- Verified live: (.+)\.$", re.MULTILINE)
REPORT = re.compile(r"```json\n(.*?)```", re.DOTALL)


def test_the_page_and_the_code_have_the_same_ids() -> None:
    """Each assumption has its heading and no heading is without one; ids are unique."""
    assert re.findall(r"^### `(.+)`$", TEXT, re.MULTILINE) == [each.id for each in ASSUMPTIONS]
    assert len(BY_ID) == len(ASSUMPTIONS)


def test_the_page_has_the_texts_of_the_code() -> None:
    """What rests on it, what if not, how it is verified: word by word."""
    missing = [each.id for each in ASSUMPTIONS if block(each) not in TEXT]
    assert not missing, f"write them as the code has them:\n\n{block(BY_ID[missing[0]])}"
    assert {each.how for each in ASSUMPTIONS} == set(HOW)


def test_nothing_is_said_to_be_verified_without_a_report() -> None:
    """`never`, or the day of a report on the page that was not made with an emulator."""
    reports = [json.loads(text) for text in REPORT.findall(TEXT)]
    assert all(set(report["results"]) <= set(BY_ID) for report in reports)
    days = {report["day"] for report in reports if not report["emulator"]}
    assert set(LIVE.findall(TEXT)) <= days | {"never"}
    assert len(LIVE.findall(TEXT)) == len(ASSUMPTIONS)
