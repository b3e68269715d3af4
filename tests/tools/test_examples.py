import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WRITE = (
    "import pathlib, runpy, sys; made = runpy.run_path(sys.argv[1]);"
    " out = pathlib.Path(sys.argv[2]);"
    " (out / 'reviews.jsonl').write_bytes(made['jsonl'](made['reviews']()));"
    " (out / 'images.jsonl').write_bytes(made['jsonl'](list(made['image_requests']())))"
)
NAMES = ["reviews.jsonl", "images.jsonl"]


def lines(name: str) -> list[dict[str, Any]]:
    """Return the lines of an example."""
    return [json.loads(line) for line in (EXAMPLES / name).read_bytes().splitlines()]


def shapes(value: object, path: str, found: dict[str, set[str]], depth: int = 1) -> None:
    """Collect the JSON types that stand at each path, as an importer infers columns."""
    found.setdefault(path, set()).add(type(value).__name__)
    assert depth <= 15, path
    if isinstance(value, dict):
        assert value, f"empty object at {path}"
        for name, each in value.items():
            assert name.isidentifier(), f"{name!r} is no column name"
            shapes(each, f"{path}.{name}", found, depth + 1)
    if isinstance(value, list):
        assert value, f"empty array at {path}"
        for each in value:
            shapes(each, f"{path}[]", found, depth + 1)


def test_files_are_what_the_generator_makes(tmp_path: Path) -> None:
    """The committed files are those of make_examples.py, byte for byte."""
    script = EXAMPLES / "make_examples.py"
    subprocess.run([sys.executable, "-c", WRITE, str(script), str(tmp_path)], check=True)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (EXAMPLES / name).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_files_can_be_imported(name: str) -> None:
    """Each path has one type in all lines, and nothing is empty, too deep or oddly named."""
    found: dict[str, set[str]] = {}
    for line in lines(name):
        shapes(line, "$", found)
    assert {path: kinds for path, kinds in found.items() if len(kinds) > 1} == {}


def test_reviews_are_varied() -> None:
    """The demo has enough lines of every kind, each with a key of its own."""
    reviews = lines("reviews.jsonl")
    text = (EXAMPLES / "reviews.jsonl").read_text()
    assert len({line["key"] for line in reviews}) == len(reviews) >= 240
    assert text.count('"inlineData"') >= 5
    for mark in ("gs://", '"responseSchema"', '"systemInstruction"', '"role": "model"'):
        assert mark in text
    assert len({line["metadata"]["language"] for line in reviews}) == 12
