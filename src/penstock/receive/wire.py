"""What the server and a receiving process say to each other, over one socket pair an upload.

The server writes one `Order` with its length before it, then the body, then shuts its side. The
process answers with one `Reply`, with its length before it, as soon as there is one: for a refusal
that may be in the middle of the body.
"""

import socket
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from penstock import errors
from penstock.core.files import FileRule
from penstock.core.limits import Limits
from penstock.errors import InternalError, PenstockError, Problem
from penstock.ingest.intake import Accepted
from penstock.ingest.upload import Upload
from penstock.receive.stored import Stored

LENGTH: Final = struct.Struct("<I")
"""Before each message: its bytes."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to receive, and into which files, which exist and are empty."""

    upload: Upload
    limits: Limits
    files: FileRule
    input_path: str
    index_path: str
    problems_path: str | None = None
    """Where the lines are named that are put aside."""
    head: bytes = b""
    rest_bytes: int = 0
    """For a body from the client's own connection (`penstock.receive.connection`): what had come of
    it, and how much is to come."""
    stored: Stored | None = None
    """For a body that is on the disk."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An error of ours on its way to the other process."""

    kind: str
    message: str
    hint: str | None
    code: str
    problems: tuple[Problem, ...]
    problems_total: int
    retry_after_seconds: int | None

    @classmethod
    def of(cls, error: PenstockError) -> "Refusal":
        """Describe an error."""
        return cls(
            kind=type(error).__name__,
            message=error.message,
            hint=error.hint,
            code=error.error_code,
            problems=error.problems,
            problems_total=error.problems_total,
            retry_after_seconds=error.retry_after_seconds,
        )

    def error(self) -> PenstockError:
        """Return the error that was described."""
        return _KINDS.get(self.kind, InternalError)(
            self.message,
            hint=self.hint,
            code=self.code,
            problems=self.problems,
            problems_total=self.problems_total,
            retry_after_seconds=self.retry_after_seconds,
        )


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended: exactly one of the two is given."""

    accepted: Accepted | None = None
    refusal: Refusal | None = None


_KINDS: Final[Mapping[str, type[PenstockError]]] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, PenstockError)
    }
)
_ENCODER: Final = msgspec.msgpack.Encoder()
_ORDER: Final = msgspec.msgpack.Decoder(Order)
_REPLY: Final = msgspec.msgpack.Decoder(Reply)


def packed(message: Order | Reply) -> bytes:
    """Return the message with its length before it."""
    body = _ENCODER.encode(message)
    return LENGTH.pack(len(body)) + body


def read_order(connection: socket.socket) -> Order:
    """Read the order from a blocking socket; raises `EOFError` when the other side is gone."""
    (length,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
    return _ORDER.decode(_exactly(connection, length))


def read_reply(message: bytes) -> Reply:
    """Return the reply that stands in a message without its length."""
    return _REPLY.decode(message)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = connection.recv(size, socket.MSG_WAITALL)
    if len(data) < size:
        raise EOFError
    return data
