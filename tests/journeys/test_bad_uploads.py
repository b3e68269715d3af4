"""What bad input gets at any offset of a body, while its sender goes on, and that nothing stays.

The server has its real receiving processes. Its limits are the real ones but for the size of a job,
so that a body over it comes in a moment.
"""

import base64
import gzip
import hashlib
import socket
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest
from backports import zstd
from tests.journeys.sending import (
    answer_of,
    body_json,
    chunk,
    connect,
    escaped,
    head,
    nothing_stays,
    send,
    stored,
)
from tests.journeys.service import Service, running, until

pytestmark = pytest.mark.slow

JOB_BYTES_MAX = 66 * 1_048_576
LINE_BYTES_MAX = 64 * 1_048_576

LINE = (
    b'{"key":"k","request":{"contents":[{"parts":[{"text":"Caf\xc3\xa9 \\ud83d\\ude00 %b"}]}]}}\n'
)
LINES = b"".join(
    # Text that no compression makes small enough to look like a bomb.
    LINE % base64.b64encode(hashlib.shake_256(b"%d" % number).digest(675))
    for number in range(6_000)
)
"""About six megabytes."""

FORM = (
    b'--cut\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n%b\r\n--cut--\r\n'
)
OFFSETS = [0, len(LINES) // 2, len(LINES)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A pair whose jobs are smaller."""
    folder = tmp_path_factory.mktemp("service")
    with running(folder, PENSTOCK_LIMITS_JOB_BYTES_MAX=str(JOB_BYTES_MAX)) as pair:
        # What is accepted here need not be run, and its files are not looked at.
        pair.rule({}, {"hold": "queued"})
        yield pair


@pytest.fixture(autouse=True)
def no_rules() -> None:
    """The one rule of this module stays."""


@pytest.fixture(autouse=True)
def clean(service: Service) -> Iterator[None]:
    """After each refusal nothing is left, and the next upload works."""
    with nothing_stays(service):
        yield


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_truncated_compressed_body_is_refused(
    service: Service, encoding: str, share: float
) -> None:
    """Cut after a few bytes, in the middle or just before its checksum ends: it is cut."""
    packed = gzip.compress(LINES, 1) if encoding == "gzip" else zstd.compress(LINES)
    cut = max(12, int(share * len(packed)) - 4)
    for length in (-1, None):
        refusal = send(service, packed[:cut], encoding=encoding, length=length)
        assert (refusal["http"], refusal["code"]) == (400, "truncated_body")


DOORS = {
    "raw": ("application/jsonl", "identity", LINES),
    "escaped": ("application/json", "identity", body_json(escaped(LINES))),
    "base64": ("application/json", "identity", body_json(base64.b64encode(LINES))),
    "multipart": ("multipart/form-data; boundary=cut", "identity", FORM % LINES),
    "gzip": ("application/jsonl", "gzip", gzip.compress(LINES, 1)),
    "zstd": ("application/jsonl", "zstd", zstd.compress(LINES)),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("cut", [0.5, 1.0])
def test_a_length_that_is_too_large_is_told(service: Service, door: str, cut: float) -> None:
    """A body that ends before its Content-Length was cut, in the middle or where it could end."""
    kind, encoding, body = DOORS[door]
    refusal = send(
        service,
        body[: int(len(body) * cut)],
        kind=kind,
        encoding=encoding,
        length=len(body) + 1_000_000,
    )
    assert (refusal["http"], refusal["code"]) == (400, "truncated_body")


@pytest.mark.parametrize("door", list(DOORS)[1:])
@pytest.mark.parametrize("cut", [0.5, 1.0])
def test_a_length_that_is_too_small_cuts_the_form(service: Service, door: str, cut: float) -> None:
    """What comes behind is neither input nor a request; without it the form has no end."""
    kind, encoding, body = DOORS[door]
    length = int(len(body) * cut) - 3
    refusal = send(service, body, kind=kind, encoding=encoding, length=length)
    assert (refusal["http"], refusal["code"]) == (400, "truncated_body")


def test_a_length_in_characters_is_told(service: Service) -> None:
    """A small body whose bytes are more than its characters, as some clients count, is answered."""
    line = '{"request":{"contents":[{"parts":[{"text":"Grüße, schöne Straße"}]}]}}'
    refusal = send(service, line.encode(), length=len(line))
    assert (refusal["http"], refusal["code"]) == (400, "invalid_input")
    body = body_json(escaped(line.encode()).replace(b"\\u00fc", "ü".encode())).decode()
    refusal = send(service, body.encode(), kind="application/json", length=len(body))
    assert (refusal["http"], refusal["code"]) == (400, "truncated_body")


@pytest.mark.parametrize("cut", [0, 1_000, len(LINES) // 2])
def test_chunks_without_their_end_are_told(service: Service, cut: int) -> None:
    """Who closes its side before the last chunk learns that the body was cut."""
    with closing(connect(service)) as client:
        client.sendall(head(service, "application/jsonl", "Transfer-Encoding: chunked"))
        client.sendall(chunk(LINES[:cut]))
        client.shutdown(socket.SHUT_WR)
        refusal = answer_of(client)
    assert (refusal["http"], refusal["code"]) == (400, "truncated_body")


@pytest.mark.parametrize("offset", [OFFSETS[1] + 10, OFFSETS[2] - 10])
def test_a_length_that_is_too_small_cuts_the_last_line(service: Service, offset: int) -> None:
    """Lines as they are end anywhere, but the half of one is named."""
    refusal = send(service, LINES, length=offset)
    assert (refusal["http"], refusal["code"]) == (400, "invalid_input")
    assert refusal["details_total"] == 1


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("odd", [b"-", b"_", b"*", b"\\u00e9"])
def test_another_alphabet_in_base64_is_refused(service: Service, offset: int, odd: bytes) -> None:
    """The other alphabet of base64, or none at all, is refused where it begins."""
    text = base64.b64encode(LINES)
    at = offset // 3 * 4
    body = body_json(text[:at] + odd * 4 + text[at:], b"")
    refusal = send(
        service, body, kind="application/json", length=len(body) + 99_000_000, goes_on=True
    )
    assert (refusal["http"], refusal["code"]) == (400, "invalid_base64")


HALVES = {
    b"\\ud83d": "lone_surrogate",
    b"\\ud8": "invalid_json",
    b"\\": "invalid_json",
    b"\xc3": "invalid_utf8",
}


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("half", HALVES)
def test_a_half_of_an_escape_is_refused(service: Service, offset: int, half: bytes) -> None:
    """The first half alone is refused at any offset, although the other might have come."""
    inside = escaped(LINES[:offset] + b'{"key":"') + half
    body = body_json(inside, b"")
    refusal = send(
        service,
        body + b'"',
        kind="application/json",
        length=len(body) + 99_000_000,
        goes_on=True,
    )
    assert (refusal["http"], refusal["code"]) == (400, HALVES[half])


@pytest.mark.parametrize("chunked", [False, True])
def test_a_line_over_the_limit_is_refused(service: Service, *, chunked: bool) -> None:
    """64 MB without a line's end are refused as soon as they are there."""
    body = LINES[: LINES.index(b"\n") + 1] + b'{"key":"' + b"x" * (LINE_BYTES_MAX + 300_000)
    length = None if chunked else JOB_BYTES_MAX
    refusal = send(service, body, length=length, goes_on=True)
    assert (refusal["http"], refusal["code"]) == (413, "line_too_long")
    assert [detail["line"] for detail in refusal["details"]] == [2]


def test_more_lines_than_allowed_are_refused(service: Service) -> None:
    """The 200,001st line is one too many; the rest of the body does not matter."""
    body = b'{"request":{"contents":[{"parts":[]}]}}\n' * 200_001
    for length in (-1, None):
        refusal = send(service, body, length=length)
        assert (refusal["http"], refusal["code"]) == (413, "too_many_lines")
    refusal = send(service, body * 2, length=len(body) * 2 + 30_000_000, goes_on=True)
    assert (refusal["http"], refusal["code"]) == (413, "too_many_lines")


def test_a_byte_over_the_limit_is_refused(service: Service) -> None:
    """Declared it is refused before the body; counted, at that byte, through every door."""
    body = LINES * (JOB_BYTES_MAX // len(LINES) + 1)
    body = body[: JOB_BYTES_MAX + 1]
    declared = send(service, b"", length=JOB_BYTES_MAX + 4, goes_on=True)
    assert (declared["http"], declared["code"]) == (413, "input_too_large")
    counted = send(service, body, length=None, goes_on=True)
    assert (counted["http"], counted["code"]) == (413, "input_too_large")
    packed = send(service, zstd.compress(body, 1), encoding="zstd")
    assert packed["http"] == 413
    inside = body_json(base64.b64encode(body + b"xx"), b"")
    coded = send(
        service, inside, kind="application/json", length=len(inside) + 30_000_000, goes_on=True
    )
    assert (coded["http"], coded["code"]) == (413, "input_too_large")


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_sender_that_vanishes_leaves_nothing(service: Service, offset: int) -> None:
    """A reset at any offset is the end of the upload and of its files."""
    before = stored(service)
    with closing(connect(service)) as client:
        client.sendall(head(service, "application/jsonl", f"Content-Length: {2 * len(LINES)}"))
        client.sendall(LINES[:offset])
        until(lambda: stored(service) != before, "the upload begins")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
