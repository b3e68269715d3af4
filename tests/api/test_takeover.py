"""Bodies that another reader takes over from the server, over a real socket."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import orjson
import pytest
from tests.api.driver import BASE, Api, files, lines, permit, submission
from tests.fake_clock import FakeClock
from tests.wire import serving

from penstock.api.protocol import guarded
from penstock.blobs.spool import Spool
from penstock.core.limits import Limits
from penstock.store.store import Store

PATIENCE_SECONDS = 20.0
LIMITS = Limits(idle_seconds_max=2.0, body_bytes_per_second_min=1_000)
LINE = lines(1).encode()
JSONL = LINE * 20_000
HALF = len(LINE) * 10_000
GARBAGE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"\x00\xff" * 10_000


class Served:
    """A running server, and what it stands on."""

    def __init__(self, api: Api, url: str, key: str) -> None:
        self.url = url
        self.key = key
        self._room = api.uploads._door.room
        self._root = api.partials._folder.parent

    def connect(self) -> socket.socket:
        """A connection."""
        address = urlsplit(self.url)
        return socket.create_connection(
            (str(address.hostname), int(address.port or 0)), timeout=PATIENCE_SECONDS
        )

    def head(self, length: int | None, *more: str, kind: str = "application/jsonl") -> bytes:
        """The head of a submission."""
        size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        rows = [
            f"POST {BASE}/requests HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {self.key}",
            f"Content-Type: {kind}",
            size,
            *more,
        ]
        return "\r\n".join([*rows, "", ""]).encode()

    def jobs(self) -> int:
        """How many jobs there are, asked on a connection of its own."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return int(httpx2.get(f"{self.url}{BASE}/requests", headers=headers).json()["total"])

    def is_empty(self) -> bool:
        """Whether no upload has a file or room."""
        return not files(self._root / "incoming") and not self._room._holds


@pytest.fixture
async def key(store: Store) -> str:
    """A key of acme."""
    return await permit(store, "acme")


@pytest.fixture
def served(store: Store, spool: Spool, tmp_path: Path, key: str) -> Iterator[Served]:
    """The application behind our own protocol, over the test's database."""
    del store
    api = Api(Store.open(tmp_path / "penstock.db"), spool, FakeClock(), LIMITS)
    with serving(api.app, guarded(LIMITS)) as url:
        yield Served(api, url, key)


@pytest.fixture
def client(served: Served) -> Iterator[socket.socket]:
    """A connection to it."""
    with closing(served.connect()) as made:
        yield made


class Answer:
    """One answer as it came."""

    def __init__(self, received: bytes) -> None:
        head, _, body = received.partition(b"\r\n\r\n")
        first, *rest = head.decode().lower().split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = dict(row.split(": ", 1) for row in rest)
        length = int(self.headers["content-length"])
        self.json = orjson.loads(body[:length])
        self.behind = body[length:]

    @property
    def is_last(self) -> bool:
        """Whether the connection ends with it, which tells that the body was taken over."""
        return self.headers.get("connection") == "close"


def read_all(client: socket.socket) -> Answer:
    """The answer of a connection that the server closes in order."""
    received = b""
    while block := client.recv(65_536):
        received += block
    return Answer(received)


def read_one(client: socket.socket) -> Answer:
    """The answer on a connection that lives on."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(65_536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(65_536)
    return Answer(head + b"\r\n\r\n" + body)


def until_empty(served: Served) -> None:
    """Wait until nothing is left of any upload."""
    tick = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / 0.02)):
        if served.is_empty():
            return
        tick.wait(0.02)
    raise AssertionError("something is left")


# -- what is taken -------------------------------------------------------------------------------


def test_a_large_body_is_taken(served: Served, client: socket.socket, spool: Spool) -> None:
    """It arrives whole, is answered, and the connection ends in order."""
    client.sendall(served.head(len(JSONL)) + JSONL)
    answer = read_all(client)
    assert (answer.status, answer.is_last, answer.behind) == (200, True, b"")
    assert spool.path(answer.json["request_id"], "input.jsonl").read_bytes() == JSONL
    assert served.is_empty()


@pytest.mark.parametrize("at", [0, 1, 1_000, 70_000, 1_000_000])
def test_any_part_may_have_come_before(
    served: Served, client: socket.socket, spool: Spool, at: int
) -> None:
    """Wherever the server stopped reading, no byte is lost or doubled."""
    body = orjson.dumps(submission(lines(20_000) + "\n"))
    client.sendall(served.head(len(body), kind="application/json") + body[:at])
    # Another request in between gives the server time to begin with the first.
    assert served.jobs() == 0
    client.sendall(body[at:])
    answer = read_all(client)
    assert (answer.status, answer.is_last) == (200, True)
    stored = spool.path(answer.json["request_id"], "input.jsonl").read_text()
    assert stored == lines(20_000) + "\n"


def test_a_client_that_asks_first_gets_its_100(served: Served, client: socket.socket) -> None:
    """The server asks for the body in place of the reader, once."""
    client.sendall(served.head(len(JSONL), "Expect: 100-continue"))
    asked = client.recv(65_536)
    assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(JSONL)
    answer = read_all(client)
    assert (answer.status, answer.is_last) == (200, True)


def test_a_small_body_is_not_taken(served: Served, client: socket.socket) -> None:
    """The connection lives on after it, with and without being asked for the body."""
    for more in ([], ["Expect: 100-continue"], []):
        client.sendall(served.head(len(LINE), *more))
        if more:
            assert client.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(LINE)
        answer = read_one(client)
        assert (answer.status, answer.is_last) == (200, False)
    assert served.jobs() == 3


def test_a_chunked_body_is_not_taken(served: Served, client: socket.socket, spool: Spool) -> None:
    """The marks between its chunks are for the server's parser; the connection lives on."""
    for _ in range(2):
        client.sendall(served.head(None))
        for start in range(0, len(JSONL), 300_001):
            chunk = JSONL[start : start + 300_001]
            client.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        client.sendall(b"0\r\n\r\n")
        answer = read_one(client)
        assert (answer.status, answer.is_last) == (200, False)
        assert spool.path(answer.json["request_id"], "input.jsonl").read_bytes() == JSONL


def test_a_connection_that_was_used_before_is_taken(served: Served, client: socket.socket) -> None:
    """A large body may come after other requests on the same connection."""
    client.sendall(served.head(len(LINE)) + LINE)
    assert read_one(client).status == 200
    client.sendall(served.head(len(JSONL)) + JSONL)
    assert read_all(client).status == 200


def test_a_large_body_behind_others_in_one_go(served: Served, client: socket.socket) -> None:
    """Requests that did not wait for each other are all answered, in order."""
    client.sendall(2 * (served.head(len(LINE)) + LINE) + served.head(len(JSONL)) + JSONL)
    received = b""
    while block := client.recv(65_536):
        received += block
    assert received.count(b"HTTP/1.1 200") == 3
    assert served.jobs() == 3


def test_two_lengths_are_refused(served: Served, client: socket.socket) -> None:
    """A length and chunks at once are smuggling, and never reach anybody."""
    client.sendall(served.head(len(JSONL), "Transfer-Encoding: chunked") + JSONL[:1_000])
    assert client.recv(65_536).startswith(b"HTTP/1.1 400")


PIECES = [(b"\\ud83d", b"\\ude00"), (b"\\ud8", b"3d\\ude00"), (b"\\", b"\\n"), (b"\xc3", b"\xa9")]


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(("first", "second"), PIECES)
def test_an_escape_may_be_split_anywhere(
    served: Served,
    client: socket.socket,
    spool: Spool,
    first: bytes,
    second: bytes,
    *,
    declared: bool,
) -> None:
    """Between two chunks, or between what the server had read and the rest: it is one escape."""
    before = b'{"input_data":"{\\"key\\":\\"' + first
    rest = b'\\",\\"request\\":{\\"contents\\":[{\\"parts\\":[]}]}}'
    behind = second + rest + b"\\n" * 200_000 + b'"}'
    length = len(before) + len(behind) if declared else None
    client.sendall(served.head(length, kind="application/json"))
    pieces = [
        piece if declared else b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (before, behind)
    ]
    client.sendall(pieces[0])
    # Another request in between gives the server time to take the first piece.
    assert served.jobs() == 0
    client.sendall(pieces[1] + (b"" if declared else b"0\r\n\r\n"))
    answer = read_one(client)
    assert (answer.status, answer.is_last) == (200, declared)
    stored = spool.path(answer.json["request_id"], "input.jsonl").read_bytes()
    assert stored.decode() == orjson.loads(before + behind)["input_data"]


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("good_bytes", [0, HALF])
def test_a_refusal_is_read_by_who_goes_on_sending(
    served: Served, client: socket.socket, good_bytes: int
) -> None:
    """Twenty megabytes behind the mistake do not destroy the answer."""
    bad = JSONL[:good_bytes] or b"["
    rest = 20 * 1_048_576
    client.sendall(served.head(len(bad) + 300_000 + rest) + bad + b"\x00" * 300_000)
    for _ in range(20):
        client.sendall(bytes(1_048_576))
    answer = read_all(client)
    assert (answer.status, answer.is_last) == (400, True)
    expected = "invalid_input" if good_bytes else "json_array_file"
    assert answer.json["code"] == expected
    until_empty(served)


def send_steadily(client: socket.socket, pieces: int) -> None:
    """Send a megabyte in pieces, a twentieth of a second apart, without a look at any answer."""
    tick = threading.Event()
    for _ in range(pieces):
        tick.wait(0.05)
        client.sendall(bytes(1_048_576 // pieces))


def test_a_refusal_waits_for_who_is_still_sending(
    served: Served, client: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that looks for the answer behind its body finds it, however long the body takes."""
    monkeypatch.setattr("penstock.api.protocol.LINGER_SECONDS", 0.3)
    client.sendall(served.head(2_000_000) + b"[")
    send_steadily(client, 25)
    answer = read_all(client)
    assert (answer.status, answer.json["code"]) == (400, "json_array_file")


def test_a_refused_client_that_sends_more_than_it_said_is_cut(
    served: Served, client: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is dropped has an end: the stated length."""
    monkeypatch.setattr("penstock.api.protocol.LINGER_SECONDS", 0.3)
    client.sendall(served.head(300_000) + b"[")
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        send_endlessly(client)
    until_empty(served)


def send_endlessly(client: socket.socket) -> None:
    """Send until the connection is cut."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        client.sendall(bytes(65_536))


def test_a_length_that_is_too_large_is_told(served: Served, client: socket.socket) -> None:
    """Who ends the body early learns that it was cut."""
    client.sendall(served.head(2 * len(JSONL)) + JSONL)
    client.shutdown(socket.SHUT_WR)
    answer = read_all(client)
    assert (answer.status, answer.json["code"]) == (400, "truncated_body")
    assert answer.json["hint"]
    until_empty(served)
    assert served.jobs() == 0


def test_a_length_that_is_too_small_cuts_there(
    served: Served, client: socket.socket, spool: Spool
) -> None:
    """What is behind the stated length is nobody's: neither input nor another request."""
    client.sendall(served.head(HALF) + JSONL[:HALF] + GARBAGE)
    answer = read_all(client)
    assert (answer.status, answer.is_last, answer.behind) == (200, True, b"")
    stored = spool.path(answer.json["request_id"], "input.jsonl").read_bytes()
    assert stored == JSONL[:HALF]


def test_a_length_that_cuts_a_line_is_refused(served: Served, client: socket.socket) -> None:
    """The half line is named."""
    client.sendall(served.head(HALF - 10) + JSONL + GARBAGE)
    answer = read_all(client)
    assert (answer.status, answer.json["code"]) == (400, "invalid_input")
    assert [detail["line"] for detail in answer.json["details"]] == [10_000]
    assert answer.behind == b""


def test_a_second_request_behind_a_taken_body_is_dropped(
    served: Served, client: socket.socket
) -> None:
    """It is told by `Connection: close`, and is taken neither for a request nor for the body."""
    second = served.head(len(LINE)) + LINE
    client.sendall(served.head(len(JSONL)) + JSONL + second * 3)
    answer = read_all(client)
    assert (answer.status, answer.is_last, answer.behind) == (200, True, b"")
    assert served.jobs() == 1


def test_a_client_that_vanishes_leaves_nothing(served: Served, client: socket.socket) -> None:
    """A reset in the middle frees the files and the room, and the next upload works."""
    client.sendall(served.head(2 * len(JSONL)) + JSONL)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    until_empty(served)
    assert served.jobs() == 0
    with closing(served.connect()) as another:
        another.sendall(served.head(len(JSONL)) + JSONL)
        assert read_all(another).status == 200


def test_a_client_that_stops_is_cut(served: Served, client: socket.socket) -> None:
    """The reader's own deadline answers 408."""
    client.sendall(served.head(2 * len(JSONL)) + JSONL)
    answer = read_all(client)
    assert (answer.status, answer.json["code"]) == (408, "body_too_slow")
    until_empty(served)
