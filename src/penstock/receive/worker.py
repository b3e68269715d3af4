"""A receiving process; its argument is FD.

`FD` is a socket on which the server sends, with one byte each, the socket of an upload and, if the
body comes from there, that of its client. Every upload has a thread. The process holds no state and
no secret, and ends when the server's end of the socket is closed: an upload that goes on then has
nobody who would keep it.
"""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Final

from penstock.errors import InternalError, PenstockError, TooLarge
from penstock.fault import fault
from penstock.ingest.intake import Accepted
from penstock.receive.connection import CHUNK_BYTES, chunks
from penstock.receive.files import Files
from penstock.receive.wire import Order, Refusal, Reply, packed, read_order

NICENESS: Final = 10
"""A request to the server waits for a few turns of a core; an upload has work for thousands. So the
server's turns come first, and the uploads share what is left, which is nearly all."""

SWITCH_SECONDS: Final = 0.0005
"""How long a thread that checks lines may keep the lock from one that waits to write."""

_log = logging.getLogger("penstock.receive")


def serve(connection: socket.socket, client: socket.socket | None = None) -> None:
    """Receive one upload; what goes wrong is the reply, and nothing is raised.

    The body comes from `client` if there is one, or from a file that the order names, else from
    `connection`, behind the order.
    """
    # Nobody reads the reply of an upload whose server end was closed.
    with connection, client or nullcontext(), suppress(OSError, EOFError):
        connection.sendall(packed(_reply(read_order(connection), connection, client)))
        connection.shutdown(socket.SHUT_WR)
        # Closing with unread data would reset the connection and could destroy the reply.
        while connection.recv(CHUNK_BYTES):
            pass


def _reply(order: Order, connection: socket.socket, client: socket.socket | None) -> Reply:
    try:
        problems_path = None if order.problems_path is None else Path(order.problems_path)
        with Files(
            Path(order.input_path),
            Path(order.index_path),
            problems_path,
            is_input_there=order.stored is not None and order.stored.is_input,
        ) as files:
            accepted = _receive(order, _body(order, connection, client), files)
            fault("accept.received")
            if not order.upload.treatment.is_trial:
                files.sync()
            return Reply(accepted=accepted)
    except PenstockError as error:
        return Reply(refusal=Refusal.of(error))
    except FileNotFoundError:
        # The server has given the upload up and removed its files.
        return Reply(refusal=Refusal.of(InternalError("The upload was given up.")))
    except Exception as error:  # noqa: BLE001  # a fault in one upload must not end the others
        # The client is told by the server that it is our fault, and the log what it was.
        _log.exception("unexpected error while receiving an upload")
        return Reply(
            refusal=Refusal.of(InternalError(f"The upload failed: {type(error).__name__}."))
        )


def _body(order: Order, connection: socket.socket, client: socket.socket | None) -> Iterator[bytes]:
    if order.stored is not None:
        return order.stored.chunks()
    if client is None:
        return iter(lambda: connection.recv(CHUNK_BYTES), b"")
    return chunks(client, order.head, order.rest_bytes, order.limits)


def _receive(order: Order, body: Iterator[bytes], files: Files) -> Accepted:
    limits = order.limits
    intake = order.upload.open(limits, files, order.files)
    received_bytes = 0
    half_bytes = max(1, (order.upload.content_length or 0) // 2)
    for chunk in body:
        received_bytes += len(chunk)
        if received_bytes > limits.body_bytes_max:
            # Line breaks in base64 and headers of gzip decode to nothing, without end.
            raise TooLarge(
                f"The body has more than {limits.body_bytes_max} bytes.",
                code="input_too_large",
                hint="Split the file into several requests.",
            )
        intake.feed(chunk)
        if received_bytes - len(chunk) < half_bytes <= received_bytes:
            fault("accept.half_received")
    return intake.finish()


def listen(control: socket.socket) -> None:
    """Serve the uploads that come over the socket until the server is gone."""
    while True:
        message, descriptors, flags, _address = socket.recv_fds(control, 1, 2)
        if not message:
            return
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        if flags & socket.MSG_CTRUNC:
            # The server sees that the upload's connection is closed, and says so to the client.
            _log.error("no file descriptor is left: an upload is turned away")
            for one in sockets:
                one.close()
            continue
        threading.Thread(target=serve, args=sockets, daemon=True).start()


def main() -> None:
    """Be the process."""
    # Both reach the whole process group or control group; the server decides when we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    os.nice(NICENESS)
    sys.setswitchinterval(SWITCH_SECONDS)
    listen(socket.socket(fileno=int(sys.argv[1])))
    # Threads in the middle of an upload would keep a process that just returns.
    os._exit(0)


if __name__ == "__main__":
    main()
