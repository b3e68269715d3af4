"""The BigQuery-style rules: one bad line fails the whole job before inference."""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.emulator.driver import Emulator, jsonl, line

from penstock.emulator.importer import Importer, ImportRefusal


def nested(depth: int) -> dict[str, Any]:
    """A line with `depth` objects inside each other, `request` being the first."""
    value: dict[str, Any] = {"leaf": 1}
    for _ in range(depth - 1):
        value = {"a": value}
    return {"key": "k-0", "request": value}


def schema_line(schema: dict[str, Any]) -> dict[str, Any]:
    """A line with a response JSON schema."""
    return line("a", responseJsonSchema=schema)


BAD: list[tuple[str, list[dict[str, Any]], str]] = [
    ("deep", [nested(16)], "Schema nested too deeply"),
    ("dollar", [schema_line({"$ref": "x"})], 'Invalid field name "$ref"'),
    ("blank", [schema_line({"properties": {"a b": 1}})], 'Invalid field name "a b"'),
    ("slash", [schema_line({"properties": {"a/b": 1}})], 'Invalid field name "a/b"'),
    ("empty key", [schema_line({"properties": {"": 1}})], 'Invalid field name ""'),
    ("empty", [{"request": {"tools": [{"google_search": {}}]}}], "Cannot store struct"),
    ("null", [schema_line({"enum": ["a", None]})], "Only optional fields can be set to NULL"),
    ("mode", [schema_line({"type": "string"}), schema_line({"type": ["string"]})], "REPEATED"),
    ("mode turned", [schema_line({"type": ["a"]}), schema_line({"type": "a"})], "REPEATED"),
    ("null array", [schema_line({"enum": ["a"]}), schema_line({"enum": None})], "NULL"),
    ("kind", [schema_line({"items": {"a": 1}}), schema_line({"items": "a"})], "RECORD"),
    ("mode in key", [{**line("a"), "tag": "x"}, {**line("a"), "tag": ["x"]}], "REPEATED"),
    ("no request", [{"key": "k-0"}], 'no column "request"'),
]


@pytest.mark.parametrize(("lines", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_lines_fail_the_job(
    shared: Emulator, lines: list[dict[str, Any]], message: str
) -> None:
    """Code 3 with Google's beginning, no rows, nothing charged, good lines notwithstanding."""
    done = shared.run([line("good", "k-9"), *lines] if "no column" not in message else lines)
    assert done["state"] == "JOB_STATE_FAILED"
    assert done["error"]["code"] == 3
    assert done["error"]["message"].startswith(
        "Failed to import data. Please check 'Prepare input' section"
    )
    assert message in done["error"]["message"]
    assert "completionStats" not in done
    assert "outputInfo" not in done


@pytest.mark.parametrize(
    "body", [b"", b"\n \n", b"{]\n", b"[1]\n", b'{"request": {"a": NaN}}\n', b'"text"\n']
)
def test_what_is_no_object_fails_the_job(shared: Emulator, body: bytes) -> None:
    """Empty inputs, broken JSON and rows that are no objects."""
    done = shared.run(body)
    assert done["error"]["code"] == 3


def test_fifteen_levels_null_fields_and_blank_lines_are_fine(emulator: Emulator) -> None:
    """The limits themselves are allowed: 15 objects, null for one value, mixed scalars."""
    lines = [
        nested(15),
        {"key": "k-1", "request": {"b": None}},
        {"key": "k-2", "request": {"b": 1}},
    ]
    done = emulator.run(jsonl(lines) + b"\n\n")
    assert done["state"] == "JOB_STATE_SUCCEEDED"
    assert done["completionStats"] == {"failedCount": "3"}


def test_one_byte_too_many_fails_the_import(tmp_path: Path) -> None:
    """One GiB is the most; the size is judged before a line is read."""
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 1_073_741_825)
    with pytest.raises(ImportRefusal, match="more than 1073741824 bytes"):
        Importer().read_file(path)


def test_one_line_too_many_fails_the_job(emulator: Emulator) -> None:
    """200,000 requests are the most."""
    done = emulator.run(b'{"request":{"a":1}}\n' * 200_001)
    assert done["error"]["code"] == 3
    assert "more than 200000 requests" in done["error"]["message"]
