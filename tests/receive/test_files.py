"""The files of one upload, with the one for lines that are put aside."""

import hashlib
from pathlib import Path

import pytest
from tests.receive.driver import begin_files

from penstock.receive.files import PIECE_BYTES, Files


def test_rows_of_bad_lines_are_written_in_their_order(tmp_path: Path) -> None:
    """A few at the end, many in between; all are there when the files are synced."""
    paths = begin_files(tmp_path)
    problems = tmp_path / "problems"
    problems.write_bytes(b"")
    many = [b"%d" % number * 1_000 + b"\n" for number in range(10, 99)] * 20
    assert sum(map(len, many)) > PIECE_BYTES
    with Files(*paths, problems) as files:
        for row in many:
            files.write_problem(row)
        files.write(b"x")
        files.sha256()
        files.sync()
    assert problems.read_bytes() == b"".join(many)
    assert paths[0].read_bytes() == b"x"


def test_an_input_that_is_there_is_only_hashed(tmp_path: Path) -> None:
    """Its bytes are not written again; the index is."""
    paths = begin_files(tmp_path)
    paths[0].write_bytes(b"there")
    with Files(*paths, is_input_there=True) as files:
        files.write(b"there")
        files.write_index(b"rows")
        assert files.sha256() == hashlib.sha256(b"there").hexdigest()
        files.sync()
    assert [path.read_bytes() for path in paths] == [b"there", b"rows"]


def test_a_file_that_is_gone_leaves_none_open(tmp_path: Path) -> None:
    """Whoever gave the upload up has removed them."""
    paths = begin_files(tmp_path)
    with pytest.raises(FileNotFoundError):
        Files(*paths, tmp_path / "problems")
