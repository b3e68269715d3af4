"""Raw connections to a server, and what it says on them."""

import os
import select
import socket
from pathlib import Path
from urllib.parse import urlsplit

from tests.journeys.service import PATIENCE_SECONDS, Service


def address(service: Service) -> tuple[str, int]:
    """Where the server listens."""
    url = urlsplit(service.url)
    return str(url.hostname), int(url.port or 0)


def connect(service: Service) -> socket.socket:
    """A connection to the server."""
    return socket.create_connection(address(service), timeout=PATIENCE_SECONDS)


def head(service: Service, line: str, *fields: str, key: str | None = None) -> bytes:
    """A head with the server's own Host, and the service's key unless another is given."""
    host, port = address(service)
    bearer = service.key if key is None else key
    lines = [f"{line} HTTP/1.1", f"Host: {host}:{port}", f"Authorization: Bearer {bearer}", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes or cuts."""
    received = b""
    try:
        while block := connection.recv(65_536):
            received += block
    except ConnectionError:
        # What was said before is what counts.
        return received
    return received


def dribble(connection: socket.socket, data: bytes) -> bytes:
    """Send a byte at a time until the server says something or cuts; return all that it says."""
    try:
        for byte in data:
            readable, _, _ = select.select([connection], [], [], 0.05)
            if readable:
                break
            connection.sendall(bytes([byte]))
    except ConnectionError:
        # It was cut between the look and the byte.
        return read_all(connection)
    return read_all(connection)


def statuses(received: bytes) -> list[int]:
    """The final status of each answer."""
    found = [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]
    return [status for status in found if status >= 200]


def resident_bytes(service: Service) -> int:
    """What the server's process holds in memory now, without its children."""
    assert service.server is not None
    status = Path(f"/proc/{service.server._child.pid}/statm").read_text("ascii")
    return int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE")
