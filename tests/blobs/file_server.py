"""A server of files that sends exactly the bytes a test gives it, with TLS or without."""

import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Answer = Callable[[str], Iterable[bytes]]
"""Gives the pieces of the answer to a request's head."""


class FileServer:
    """What the server was asked, and where it is."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heads: list[str] = []
        self.names: list[str | None] = []
        """The names that clients asked for in TLS."""


@contextmanager
def file_server(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[FileServer]:
    """Serve one connection after the other, each for one request."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = FileServer(listener.getsockname()[1])
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: server.names.append(name)

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # A client that goes away, or refuses the certificate, is part of a test.
            with connection, suppress(OSError):
                _serve(connection, server, answer, tls)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _serve(
    connection: socket.socket, server: FileServer, answer: Answer, tls: ssl.SSLContext | None
) -> None:
    if tls is not None:
        connection = tls.wrap_socket(connection, server_side=True)
    with connection:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(65_536)
            if not piece:
                return
            head += piece
        head, _, body = head.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        # A server that closes before it read all resets the connection, and its answer with it.
        while length is not None and len(body) < int(length[1]):
            piece = connection.recv(65_536)
            if not piece:
                return
            body += piece
        text = f"{head.decode()}\r\n\r\n"
        server.heads.append(text)
        for piece in answer(text):
            connection.sendall(piece)


def ok(body: bytes, *headers: str, length: int | None = None) -> list[bytes]:
    """A good answer, with another Content-Length if one is given."""
    size = len(body) if length is None else length
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {size}", *headers]
    return ["\r\n".join([*lines, "", ""]).encode(), body]


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context for a name or address, and a client's that trusts it alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / f"{name}.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))
