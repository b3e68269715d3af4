"""A client's connection that a receiving process reads itself, so that no byte passes the server.

The server reads the head of the request and what came with it, stops reading, and hands the socket
over. Only a body whose length is stated can be read so: a chunked one has marks between its bytes
that the server's parser may have begun to read.
"""

import socket
from collections.abc import Callable, Iterator

import msgspec

from penstock.clock import monotonic
from penstock.core.limits import Limits
from penstock.errors import InvalidRequest, TooSlow

CHUNK_BYTES = 262_144
"""Read from a socket at once."""


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A connection in the middle of a body, as its protocol hands it over."""

    client: socket.socket
    """The connection, with a descriptor of its own; whoever reads it closes it."""

    head: bytes
    """What of the body had come already."""

    rest_bytes: int
    """What is to come, by the Content-Length."""


def chunks(
    client: socket.socket,
    head: bytes,
    rest_bytes: int,
    limits: Limits,
    elapsed: Callable[[], float] = monotonic,
) -> Iterator[bytes]:
    """Yield the body of the connection.

    Raises `TooSlow` when less than the least rate comes while we wait, `InvalidRequest` when the
    connection ends too early.
    """
    if head:
        yield head
    waited_seconds = 0.0
    window_bytes = 0
    least_bytes = limits.body_bytes_per_second_min * limits.idle_seconds_max
    while rest_bytes:
        # Only the wait counts: time that we spend on checking is not the client's.
        client.settimeout(max(0.001, limits.idle_seconds_max - waited_seconds))
        began = elapsed()
        chunk = _received(client, min(CHUNK_BYTES, rest_bytes))
        waited_seconds += elapsed() - began
        if chunk:
            window_bytes += len(chunk)
            rest_bytes -= len(chunk)
            yield chunk
        # A body that is here was not too slow, whatever its last bytes took.
        if rest_bytes and waited_seconds >= limits.idle_seconds_max:
            if window_bytes < least_bytes:
                raise too_slow(limits)
            waited_seconds = 0.0
            window_bytes = 0


def too_slow(limits: Limits) -> TooSlow:
    """Return the refusal of a body that does not come."""
    return TooSlow(
        f"The body came with less than {limits.body_bytes_per_second_min} "
        f"bytes a second over {limits.idle_seconds_max:g} seconds.",
        hint="Send it over a faster or steadier connection.",
    )


def _received(client: socket.socket, most_bytes: int) -> bytes | None:
    """Return what came, None if nothing did in time; raises `InvalidRequest` at the end."""
    try:
        chunk = client.recv(most_bytes)
    except TimeoutError:
        return None
    except OSError:
        # The kernel has many words for it: reset, aborted, no route any more.
        chunk = b""
    if not chunk:
        raise InvalidRequest(
            "The connection ended before the body did.",
            code="truncated_body",
            hint="The upload was cut, or the Content-Length is too large; send it again.",
        )
    return chunk
