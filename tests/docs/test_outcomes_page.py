"""What docs/outcomes.md says of codes and bounds is what the code does."""

import re
from pathlib import Path

import pytest

from penstock.api.answer_parts import picture_type
from penstock.core import answer_schema, schema_dialect
from penstock.core.line import LineOutcome
from penstock.core.provider_error import code_of
from penstock.emulator.directives import find_directives

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "outcomes.md").read_text("utf-8")
EMULATOR = (ROOT / "docs" / "emulator.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| `") and line.count("|") == 5
]


def test_every_outcome_is_on_the_page() -> None:
    """No outcome is without a row, and no row without an outcome."""
    named = {word for row in ROWS for word in re.findall(r"`([a-z_]+)`", row[0])}
    assert named == set(LineOutcome)


def test_errors_may_be_tried_again_as_the_page_says() -> None:
    """Each number and each of Google's words on the page is judged as its row says."""
    seen = 0
    for row in ROWS:
        if row[0] != "`error`":
            continue
        for code in re.findall(r"`([0-9]{3}|[A-Z_]{3,})`", row[1].partition(" but for ")[0]):
            assert code_of(f'{{"error": {{"code": {code}}}}}' if code.isdigit() else code) == (
                code,
                row[2] == "yes",
            )
            seen += 1
    assert seen >= 16
    assert [code_of(f'{{"error": {{"code": {code}}}}}')[1] for code in (501, 505)] == [False, False]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("over 256 KiB", answer_schema.SCHEMA_BYTES_MAX == 256 * 1024),
        ("200 levels", schema_dialect.DEPTH_MAX == 200),
        ("20,000 values", schema_dialect.NODES_MAX == 20_000),
        ("or 50 patterns", schema_dialect.PATTERNS_MAX == 50),
        ("200 million steps", answer_schema.WORK_MAX == 200_000_000),
        ("after 20 million values", answer_schema.COMPILED_NODES_MAX == 20_000_000),
        ("PNG, JPEG, WebP or GIF", picture_type(b"GIF89a") == "image/gif"),
    ],
)
def test_the_bounds_on_the_page_are_those_of_the_code(text: str, *, value: bool) -> None:
    """Each bound has the size that the page tells."""
    assert text in " ".join(PAGE.split())
    assert value


def test_the_directives_of_the_emulators_page_are_read() -> None:
    """Every directive on the page is spelled so that the emulator finds it."""
    named = re.findall(r"\[\[emulator:[^\]`]*\]\]", EMULATOR)
    assert len(named) > 20
    for one in named:
        found = find_directives({"contents": [{"parts": [{"text": one}]}]})
        assert len(found) == 1, one
