"""A few lines of an input are read, the same ones each time, wherever they stand in it."""

import json
from pathlib import Path

import pytest

from penstock.core.estimate import SAMPLE_LINES_MAX
from penstock.core.tokens import Traits
from penstock.ingest.index import pack_rows
from penstock.ingest.sampling import SAMPLE_BYTES_MAX, sample_of

TRAITS = Traits(draws=False, thinks=True, output_tokens=1_000)


def store(folder: Path, lines: list[bytes]) -> tuple[Path, Path]:
    """Write an input and its index."""
    rows, offset = [], 0
    for line in lines:
        rows.append((offset, len(line)))
        offset += len(line) + 1
    paths = folder / "input", folder / "index"
    paths[0].write_bytes(b"".join(line + b"\n" for line in lines))
    paths[1].write_bytes(pack_rows(rows))
    return paths


def asking(text: str) -> bytes:
    """A line."""
    return json.dumps({"request": {"contents": [{"parts": [{"text": text}]}]}}).encode()


@pytest.mark.parametrize("count", [1, 2, 7, SAMPLE_LINES_MAX])
def test_every_line_of_a_small_input_is_read(tmp_path: Path, count: int) -> None:
    """Each once; equal requests have equal digests."""
    lines = [asking("x" * 4 * (number % 5)) for number in range(count)]
    found = sample_of(*store(tmp_path, lines), TRAITS)
    assert len(found.guesses) == found.line_count == count
    assert sorted(one.prompt.expected for one in found.guesses) == sorted(
        number % 5 for number in range(count)
    )
    assert len(set(found.digests)) == min(count, 5)
    assert found.input_bytes == sum(len(line) + 1 for line in lines)


def test_a_large_input_is_read_in_places(tmp_path: Path) -> None:
    """Five hundred lines, evenly spread: each tenth of the input has its tenth of them."""
    lines = [asking("x" * 4 * number) for number in range(4_000)]
    paths = store(tmp_path, lines)
    found = sample_of(*paths, TRAITS)
    assert found == sample_of(*paths, TRAITS)
    assert (found.line_count, len(found.guesses)) == (4_000, SAMPLE_LINES_MAX)
    tenths = [int(one.prompt.expected // 400) for one in found.guesses]
    assert all(45 <= tenths.count(tenth) <= 55 for tenth in range(10))


def test_large_lines_end_the_sample_early(tmp_path: Path) -> None:
    """No more bytes are read than the bound allows, and what is read is spread all the same."""
    lines = [asking("x" * (SAMPLE_BYTES_MAX // 6 + number)) for number in range(12)]
    found = sample_of(*store(tmp_path, lines), TRAITS)
    assert len(found.guesses) == 5
    numbers = sorted(
        lines.index(asking("x" * (size - len(asking(""))))) for size in found.sizes_bytes
    )
    assert numbers[0] < 4
    assert numbers[-1] > 7


def test_one_line_is_read_however_large_it_is(tmp_path: Path) -> None:
    """Otherwise nothing could be said."""
    found = sample_of(*store(tmp_path, [asking("x" * SAMPLE_BYTES_MAX * 2)] * 2), TRAITS)
    assert len(found.guesses) == 1


@pytest.mark.parametrize("bad", [b"{", b"7", b"{}", b'{"request": 7}'])
def test_bad_lines_count_for_nothing(tmp_path: Path, bad: bytes) -> None:
    """They are put aside or refused, and cost nothing; the good ones stand for themselves."""
    found = sample_of(*store(tmp_path, [asking("a" * 40), bad, asking("b" * 40), bad]), TRAITS)
    assert (len(found.guesses), found.line_count) == (2, 2)
    assert sample_of(*store(tmp_path, [bad]), TRAITS).line_count == 0
    assert sample_of(*store(tmp_path, []), TRAITS).line_count == 0
