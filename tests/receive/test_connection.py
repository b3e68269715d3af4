import socket
import struct
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ingest.naive import pieces
from tests.receive.driver import (
    BODIES,
    JSONL,
    LINES,
    PATIENCE_SECONDS,
    begin_files,
    in_process,
    order,
    reply_of,
    served,
)

from penstock.core.limits import Limits
from penstock.errors import InvalidRequest, TooSlow
from penstock.receive.connection import chunks
from penstock.receive.wire import packed

QUICK = Limits(idle_seconds_max=0.6, body_bytes_per_second_min=100)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection as clients have them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    return ours, theirs


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's end and ours."""
    client, taken = tcp_pair()
    with client, taken:
        yield client, taken


Pair = tuple[socket.socket, socket.socket]


@settings(deadline=None, max_examples=40)
@given(
    st.binary(max_size=2_000),
    st.integers(0, 2_000),
    st.lists(st.integers(1, 500), max_size=20),
)
def test_any_split_gives_the_same_bytes(body: bytes, at: int, sizes: list[int]) -> None:
    """Whatever had come before, and in whatever pieces the rest comes, it is the body."""
    head, rest = body[:at], body[at:]
    client, taken = socket.socketpair()
    with client, taken:
        stream = chunks(taken, head, len(rest), Limits())
        for piece in pieces(rest, sizes):
            client.sendall(piece)
        # What comes behind the body is another request, and nobody's business here.
        client.sendall(b"GET / HTTP/1.1")
        assert b"".join(stream) == body
        assert taken.recv(100) == b"GET / HTTP/1.1"


@pytest.mark.parametrize("how", ["closed", "half-closed", "reset"])
def test_a_connection_that_ends_early_is_refused(pair: Pair, how: str) -> None:
    """A body that is shorter than was said is truncated, however its sender went."""
    client, taken = pair
    client.sendall(b"xyz")
    stream = chunks(taken, b"w", 10, Limits())
    assert (next(stream), next(stream)) == (b"w", b"xyz")
    if how == "half-closed":
        client.shutdown(socket.SHUT_WR)
    elif how == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how != "half-closed":
        client.close()
    with pytest.raises(InvalidRequest) as refusal:
        next(stream)
    assert refusal.value.error_code == "truncated_body"


def test_a_silent_client_is_too_slow(pair: Pair) -> None:
    """Who sends nothing is refused after the idle time, whatever came before."""
    client, taken = pair
    client.sendall(b"x" * 10)
    with pytest.raises(TooSlow):
        list(chunks(taken, b"", 1_000, QUICK))


STEADY = Limits(idle_seconds_max=10, body_bytes_per_second_min=10)


def every_look_takes(seconds: float) -> Callable[[], float]:
    """A clock on which each wait for the client takes so long, and what is between as well."""
    looks = count()
    return lambda: next(looks) * seconds


def test_a_dripping_client_is_too_slow(pair: Pair) -> None:
    """A few bytes now and then are less than the least rate."""
    client, taken = pair
    stream = chunks(taken, b"", 10_000, STEADY, every_look_takes(3))
    for _ in range(4):
        client.sendall(b"x" * 24)
        assert next(stream) == b"x" * 24
    with pytest.raises(TooSlow):
        next(stream)


def test_a_steady_client_is_not_cut(pair: Pair) -> None:
    """Who keeps to the least rate may take as long as that takes."""
    client, taken = pair
    stream = chunks(taken, b"", 25 * 400, STEADY, every_look_takes(3))
    for _ in range(400):
        client.sendall(b"x" * 25)
        assert next(stream) == b"x" * 25
    assert not list(stream)


def test_a_body_that_is_complete_is_never_too_slow(pair: Pair) -> None:
    """When its last bytes come in the last moment there is nothing more to wait for."""
    client, taken = pair
    stream = chunks(taken, b"", 2, STEADY, every_look_takes(9))
    for byte in (b"x", b"y"):
        client.sendall(byte)
        assert next(stream) == byte
    assert not list(stream)


def test_our_own_time_is_not_the_clients(pair: Pair) -> None:
    """While we check, a client that would send is not called slow, however long that takes."""
    client, taken = pair
    now = [0.0]
    stream = chunks(taken, b"", 400, STEADY, lambda: now[0])
    for _ in range(4):
        client.sendall(b"x" * 100)
        assert next(stream) == b"x" * 100
        now[0] += 1_000
    assert not list(stream)


@pytest.mark.parametrize("name", BODIES)
def test_a_taken_body_is_stored_as_any_other(pair: Pair, name: str, tmp_path: Path) -> None:
    """Head and rest of a client's connection become what the same bytes become by another way."""
    client, taken = pair
    upload, body = BODIES[name]
    paths = begin_files(tmp_path)
    wanted = msgspec.structs.replace(
        order(upload, tmp_path), head=body[:1_000], rest_bytes=len(body) - 1_000
    )
    with served(taken) as connection:
        connection.sendall(packed(wanted))
        client.sendall(body[1_000:])
        reply = reply_of(connection)
    assert (reply.accepted, *(path.read_bytes() for path in paths)) == in_process(upload, body)


def test_a_slow_taken_body_is_refused(pair: Pair, tmp_path: Path) -> None:
    """The client's slowness comes through as 408."""
    begin_files(tmp_path)
    wanted = msgspec.structs.replace(order(JSONL, tmp_path, QUICK), rest_bytes=len(LINES))
    with served(pair[1]) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        connection.sendall(packed(wanted))
        refusal = reply_of(connection).refusal
    assert refusal is not None
    assert (refusal.kind, refusal.error().status) == ("TooSlow", 408)
