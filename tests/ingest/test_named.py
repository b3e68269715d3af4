r"""Files that requests name are judged wherever they stand, however their members are spelled."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ingest.naive import FILES, Tree, line_code, turned
from tests.ingest.test_properties import moderate

from penstock.core.files import FileRule
from penstock.core.limits import Limits
from penstock.ingest.check import PARSED_BYTES, LineCheck
from penstock.ingest.named import FILE_DATA, FILE_URI
from penstock.ingest.outline import ADDRESS_BYTES, TEXT_BYTES, without_texts

LIMITS = Limits()
LINE = b'{"request":{"contents":[{"parts":[{"text":"x"},{"fileData":{"fileUri":"%b"}}]}]}}'
ADDRESSES = [
    *("gs://bucket/name", "https://example.com/a", "file:///a", "http://h.example/a", ""),
    *("gs://own-bucket/penstock/a", "gs://own-bucket/other", "gs://bucket/" + "n" * 400),
    *("https://example.com/" + "n" * 4_000, "x" * 5_000, None, 17),
]

names = st.sampled_from(
    ["fileData", "file_data", "FILEDATA", "fileDatas", "inlineData", "parts", "text"]
)
uris = st.sampled_from(["fileUri", "file_uri", "FileURI", "uri", "mimeType"])
files = st.dictionaries(uris, st.sampled_from(ADDRESSES), max_size=2)
trees: st.SearchStrategy[Tree] = st.recursive(
    files | st.sampled_from(ADDRESSES),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A line with files here and there, some of them allowed, in any spelling."""
    request = {"contents": [{"parts": draw(trees)}]}
    for member in ("systemInstruction", "generationConfig", "fileData"):
        if draw(st.booleans()):
            request[member] = draw(trees)
    tree = {"key": draw(trees), "request": request}
    line = json.dumps(tree, ensure_ascii=draw(st.booleans())).encode()
    for plain, spelled in ((b'"f', b'"\\u0066'), (b"U", b"\\u0055"), (b"_", b"\\u005F")):
        if draw(st.integers(0, 3)) == 0:
            line = line.replace(plain, spelled)
    return line


@moderate
@given(lines())
def test_all_ways_find_the_same_files(line: bytes) -> None:
    """The quick look, the careful one, and that for long lines agree with the reference."""
    expected = line_code(line, LIMITS)
    check = LineCheck(LIMITS, FILES)
    problem = check.problem(line, 1, 0)
    assert (problem.code if problem else None) == expected
    assert check.is_plainly_good(line) == (expected is None)
    padded = b'{"pad":"%b",%b' % (b"x" * PARSED_BYTES, line[1:])
    long = check.problem(padded, 1, 0)
    assert (long.code if long else None) == expected
    assert check.is_bad(padded) == (expected is not None)


def test_a_bad_address_is_told_with_its_place() -> None:
    """Line, column, offset, path, code, excerpt and hint, for all bad lines at once."""
    good, own = LINE % b"gs://bucket/a", LINE % b"gs://own-bucket/penstock/a"
    first, second = turned(b"\n".join((good, LINE % b"file:///a", own)), raw=True).problems
    column = LINE.index(b'"%b"') + 1
    assert (first.line, first.column, first.code) == (2, column, "invalid_file_uri")
    assert first.offset == len(good) + column
    assert first.path == "$.request.contents[0].parts[1].fileData.fileUri"
    assert "not like gs://bucket/name" in first.message
    assert '"fileUri":"file:///a"' in (first.excerpt or "")
    assert (second.line, second.code) == (3, "file_uri_not_allowed")
    assert second.path == first.path
    assert "others have sent" in (second.hint or "")


def test_the_spellings_are_those_of_both_names() -> None:
    """Letters of either case, with the underscore between the words or without."""
    assert {"fileData", "file_data", "filedata", "File_Data", "FILEDATA"} <= FILE_DATA
    assert {"fileUri", "file_uri", "fileuri", "File_Uri", "FILEURI"} <= FILE_URI
    assert (len(FILE_DATA), len(FILE_URI)) == (2 * 2**8, 2 * 2**7)


def test_a_list_is_kept() -> None:
    """What the operator does not list is refused, and what he lists is looked at quickly."""
    rule = FileRule.of(["gs://bucket/in/"], [])
    check = LineCheck(LIMITS, rule)
    for address, is_good in ((b"gs://bucket/in/a", True), (b"gs://bucket/a", False)):
        assert check.is_plainly_good(LINE % address) == is_good
        assert check.is_bad(LINE % address) != is_good


@pytest.mark.parametrize(
    ("text", "is_kept"),
    [
        (b"gs://bucket/" + b"n" * 900, True),
        (b"GS:" + b"n" * TEXT_BYTES, True),
        (b"https://" + b"n" * 4_000, True),
        (b"\\u0067\\u0073\\u003A//bucket/" + b"\\u006e" * 800, True),
        (b"\\u0048TTPS:\\/\\/h/" + b"n" * 800, True),
        (b"\\n" + b"n" * TEXT_BYTES, False),
        (b"https://" + b"n" * ADDRESS_BYTES, False),
        (b"file:///" + b"n" * TEXT_BYTES, False),
        (b"http://" + b"n" * TEXT_BYTES, False),
    ],
)
def test_an_address_stays_in_the_outline(text: bytes, is_kept: bool) -> None:  # noqa: FBT001
    """What could be allowed stays whole; what is emptied would be refused anyway."""
    outline = without_texts(LINE % text)
    assert outline == (LINE % text if is_kept else LINE % b"")
