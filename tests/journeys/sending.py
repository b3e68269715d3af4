"""Bodies sent by hand to a real server: any length stated, cut anywhere, and on without a look."""

import json
import select
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from urllib.parse import urlsplit

from tests.journeys.service import BASE, PATIENCE_SECONDS, Json, Service, until

GOOD = b'{"key":"k","request":{"contents":[{"parts":[{"text":"next"}]}]}}\n'
MORE = bytes(1_048_576)
"""What a client that hears nothing goes on sending."""


@contextmanager
def nothing_stays(service: Service) -> Iterator[None]:
    """Hold that the block leaves no file and no job, and that the next upload works."""
    before, total = stored(service), jobs(service)
    yield
    until(lambda: stored(service) <= before, "what was refused is removed")
    assert jobs(service) == total
    good = send(service, GOOD)
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
    """The answer, to the last byte that it says it has, with its status and Retry-After."""
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
    seconds = first.lower().partition(b"\r\nretry-after: ")[2].split(b"\r\n")[0]
    return {
        "http": int(first.split(b" ")[1]),
        "retry_after": seconds.decode() or None,
        **json.loads(body),
    }


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
