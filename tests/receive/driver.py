"""Uploads of every form, and a receiving thread to give them to."""

import base64
import gzip
import json
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from backports import zstd
from tests.ingest.naive import Memory, pieces

from penstock.core.files import ANY_FILE
from penstock.core.limits import Limits
from penstock.errors import Refused
from penstock.ingest.intake import Accepted, Envelope
from penstock.ingest.upload import Form, Upload
from penstock.receive.wire import LENGTH, Order, Refusal, Reply, packed, read_reply
from penstock.receive.worker import serve

PATIENCE_SECONDS = 20.0
GOOD = b'{"key":"\xc3\xa9 %d","request":{"contents":[{"parts":[{"text":"hi"}]}]}}\n'
LINES = b"".join(GOOD % number for number in range(6_000))
"""More than one block of the input."""

ENVELOPE = Envelope(model=None, payload={"odd": [1, -(2**63), 2**64 - 1, 1.5, None]}, flat=True)
JSONL = Upload(form=Form.JSONL, encoding=None, content_length=None, boundary=b"", envelope=ENVELOPE)
JSON = msgspec.structs.replace(JSONL, form=Form.JSON)
MULTIPART = msgspec.structs.replace(JSONL, form=Form.MULTIPART, boundary=b"cut")
GZIP = msgspec.structs.replace(JSONL, encoding="gzip")
ZSTD = msgspec.structs.replace(JSONL, encoding="zstd")
PART = (
    b'--cut\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n%b\r\n--cut--\r\n'
)


def body_json(text: str) -> bytes:
    """The JSON form of a submission."""
    return json.dumps({"payload": {"model": "m", "input_data": text}}).encode()


BODIES: dict[str, tuple[Upload, bytes]] = {
    "jsonl": (JSONL, LINES),
    "escaped": (JSON, body_json(LINES.decode())),
    "base64": (JSON, body_json(base64.b64encode(LINES).decode())),
    "multipart": (MULTIPART, PART % LINES),
    "gzip": (GZIP, gzip.compress(LINES, 1)),
    "zstd": (ZSTD, zstd.compress(LINES)),
}


class Stored(msgspec.Struct, frozen=True):
    """What became of an upload: its reply, and the two files."""

    reply: Reply
    data: bytes
    rows: bytes


def begin_files(folder: Path) -> tuple[Path, Path]:
    """The two empty files that the server makes."""
    paths = (folder / "input", folder / "index")
    for path in paths:
        path.write_bytes(b"")
    return paths


def order(upload: Upload, folder: Path, limits: Limits | None = None) -> Order:
    """An order into files of the folder."""
    return Order(
        upload=upload,
        limits=limits or Limits(),
        files=ANY_FILE,
        input_path=str(folder / "input"),
        index_path=str(folder / "index"),
    )


@contextmanager
def served(client: socket.socket | None = None) -> Iterator[socket.socket]:
    """The server's end of an upload that a thread receives, which has ended afterwards."""
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE_SECONDS)
    sockets = [theirs] if client is None else [theirs, client]
    thread = threading.Thread(target=serve, args=sockets)
    thread.start()
    try:
        with ours:
            yield ours
    finally:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def reply_of(connection: socket.socket) -> Reply:
    """Wait for the reply."""
    (length,) = LENGTH.unpack(connection.recv(LENGTH.size, socket.MSG_WAITALL))
    return read_reply(connection.recv(length, socket.MSG_WAITALL))


def received(
    upload: Upload,
    body: bytes,
    folder: Path,
    sizes: Iterable[int] = (),
    limits: Limits | None = None,
) -> Stored:
    """Send a body in pieces and return what became of it."""
    paths = begin_files(folder)
    with served() as connection:
        connection.sendall(packed(order(upload, folder, limits)))
        for piece in pieces(body, sizes):
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        reply = reply_of(connection)
        assert connection.recv(1) == b""
    return Stored(reply, *(path.read_bytes() for path in paths))


def in_process(
    upload: Upload, body: bytes, limits: Limits | None = None
) -> tuple[Accepted | Refusal, bytes, bytes]:
    """What the same intake says and stores without any process or file."""
    sink = Memory()
    result: Accepted | Refusal
    try:
        intake = upload.open(limits or Limits(), sink)
        intake.feed(body)
        result = intake.finish()
    except Refused as refused:
        result = Refusal.of(refused)
    return result, b"".join(sink.blocks), b"".join(sink.rows)
