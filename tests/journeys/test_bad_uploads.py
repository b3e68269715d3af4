"""What bad input gets at any offset of a body, while its sender goes on, and that nothing stays.

The server has its real receiving processes. Its limits are the real ones but for the size of a job,
so that a body over it comes in a moment.
"""

import base64
import gzip
import hashlib
import json
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from urllib.parse import urlsplit

import pytest
from backports import zstd
from tests.journeys.service import BASE, PATIENCE_SECONDS, Json, Service, running, until

pytestmark = pytest.mark.slow

JOB_BYTES_MAX = 66 * 1_048_576
LINE_BYTES_MAX = 64 * 1_048_576
MORE = bytes(1_048_576)
"""What a client that hears nothing goes on sending."""

LINE = (
    b'{"key":"k","request":{"contents":[{"parts":[{"text":"Caf\xc3\xa9 \\ud83d\\ude00 %b"}]}]}}\n'
)
LINES = b"".join(
    # Text that no compression makes small enough to look like a bomb.
    LINE % base64.b64encode(hashlib.shake_256(b"%d" % number).digest(675))
    for number in range(6_000)
)
"""About six megabytes."""

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
def nothing_stays(service: Service) -> Iterator[None]:
    """After each refusal: no file of an upload, no job, and the next upload works."""
    before, total = stored(service), jobs(service)
    yield
    until(lambda: stored(service) <= before, "what was refused is removed")
    assert jobs(service) == total
    good = send(service, LINE % b"next")
    assert good["http"] == 200, good
    until(lambda: jobs(service) == total + 1, "the next upload is a job")


def stored(service: Service) -> set[str]:
    """Files of uploads that go on, and of accepted inputs."""
    names = service.files()
    return {name for name in names if name.endswith((".part", "input.jsonl"))}


def jobs(service: Service) -> int:
    """How many jobs there are."""
    answer: Json = service.http.get(f"{service.url}{BASE}/requests").json()
    return int(answer["total"])


def connect(service: Service) -> socket.socket:
    """A connection."""
    address = urlsplit(service.url)
    return socket.create_connection(
        (str(address.hostname), int(address.port or 0)), timeout=PATIENCE_SECONDS
    )


def head(service: Service, kind: str, *more: str) -> bytes:
    """The head of a submission."""
    rows = [
        f"POST {BASE}/requests HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {service.key}",
        f"Content-Type: {kind}",
        *more,
    ]
    return "\r\n".join([*rows, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def answer_of(client: socket.socket) -> Json:
    """The answer, to the last byte that it says it has."""
    received = b""
    while b"\r\n\r\n" not in received:
        block = client.recv(65_536)
        assert block, received
        received += block
    first, _, body = received.partition(b"\r\n\r\n")
    length = int(first.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        block = client.recv(65_536)
        assert block, received
        body += block
    return {"http": int(first.split(b" ")[1]), **json.loads(body)}


def send(
    service: Service,
    body: bytes,
    *,
    kind: str = "application/jsonl",
    encoding: str = "identity",
    length: int | None = -1,
    goes_on: bool = False,
) -> Json:
    """Send a body and return the answer; with `length` None in chunks, else as so many bytes.

    Who `goes_on` sends up to 20 MB more until there is an answer, and 4 MB after it.
    """
    declared = len(body) if length == -1 else length
    more = f"Content-Encoding: {encoding}"
    size = "Transfer-Encoding: chunked" if declared is None else f"Content-Length: {declared}"
    with closing(connect(service)) as client:
        client.sendall(head(service, kind, more, size))
        # Who is refused by his head is read for a moment only: the rest may find a closed door, and
        # the answer is there all the same.
        with suppress(BrokenPipeError):
            client.sendall(body if declared is not None else chunk(body))
        if goes_on:
            go_on(client, MORE if declared is not None else chunk(MORE))
        elif declared is None:
            client.sendall(b"0\r\n\r\n")
        elif declared > len(body):
            client.shutdown(socket.SHUT_WR)
        return answer_of(client)


def go_on(client: socket.socket, more: bytes) -> None:
    """Send more until something comes back, and a little longer: clients look late."""
    # The door may close behind the answer, which is there all the same.
    with suppress(BrokenPipeError):
        for _ in range(20):
            client.sendall(more)
            if select.select([client], [], [], 0)[0]:
                break
        for _ in range(4):
            client.sendall(more)


def body_json(inside: bytes, end: bytes = b'"}}') -> bytes:
    """The JSON form around an `input_data`."""
    return b'{"payload": {"input_data": "' + inside + end


def escaped(data: bytes) -> bytes:
    """The data as the inside of a JSON string."""
    return json.dumps(data.decode())[1:-1].encode()


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


@pytest.mark.parametrize("offset", OFFSETS[1:])
def test_a_length_that_is_too_large_is_told(service: Service, offset: int) -> None:
    """A body that ends before its Content-Length was cut."""
    refusal = send(service, LINES[:offset], length=2 * len(LINES))
    assert (refusal["http"], refusal["code"]) == (400, "truncated_body")


@pytest.mark.parametrize("offset", [OFFSETS[1] + 10, OFFSETS[2] - 10])
def test_a_length_that_is_too_small_cuts_the_last_line(service: Service, offset: int) -> None:
    """What comes behind is neither input nor a request, and the half line is named."""
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
