"""A real HTTP server that answers as it is told and remembers what it was sent."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

BASE = "/api/v1/ie/requestqueue/apikey"
KEY = "pk_test_secret_of_nobody"


@dataclass
class Seen:
    """One request as it arrived; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """One answer; with `cut` only so many bytes of the content are sent before the line dies."""

    status: int = 200
    content: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


Answer = Reply | Callable[[Seen], Reply]


@dataclass
class Stub:
    """The server's script: the last answer to a method and path repeats."""

    url: str
    seen: list[Seen] = field(default_factory=list)
    answers: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    on_chunk: Callable[[], None] = lambda: None
    reads_bodies: bool = True

    def on(self, method: str, path: str, *answers: Answer) -> None:
        """Answer calls of the request-queue API in this order."""
        self.answers[method, BASE + path] = list(answers)

    def serve(self, path: str, *answers: Answer) -> None:
        """Answer GETs of any other path in this order."""
        self.answers["GET", path] = list(answers)

    def reply_to(self, seen: Seen) -> Reply:
        """Take the next answer of the script."""
        self.seen.append(seen)
        script = self.answers.get((seen.method, seen.path.partition("?")[0]))
        if not script:
            return error(404, "not_found", "no such thing")
        answer = script.pop(0) if len(script) > 1 else script[0]
        return answer if isinstance(answer, Reply) else answer(seen)

    def calls(self, method: str) -> list[Seen]:
        """Return what came with one method."""
        return [seen for seen in self.seen if seen.method == method]


def error(status: int, code: str, message: str, **more: object) -> Reply:
    """Return an error as the server writes it."""
    content = {"error": message, "message": message, "code": code, "details": [], **more}
    return Reply(status, json.dumps(content).encode())


def record(status: str = "queued", *, url: str | None = None, **outcome: object) -> dict[str, Any]:
    """Return a request record."""
    known = {"output_url": url, "output_download_urls": [url] if url else [], **outcome}
    return {
        "request_id": "req_7",
        "org_id": "org_1",
        "user_id": "user_1",
        "model": "Gemini-batch-inference",
        "status": status,
        "is_public": False,
        "payload": {"model": "gemini-3-flash-preview"},
        "outcome": known if url or outcome else None,
        "created_at": 1795363200,
        "updated_at": 1795363260,
        "queued_at": 1795363200,
    }


def job(status: str = "queued", *, url: str | None = None, **outcome: object) -> Reply:
    """Return an answer with a request record."""
    return Reply(content=json.dumps(record(status, url=url, **outcome)).encode())


def in_ranges(content: bytes, tag: str, *, cut: int | None = None) -> Answer:
    """Answer as a server with ranges does; see RFC 9110, 14.2."""

    def answer(seen: Seen) -> Reply:
        headers = {"ETag": tag}
        start = int(seen.headers.get("range", "bytes=0-")[6:-1])
        if not start or seen.headers.get("if-range") != tag:
            return Reply(200, content, headers, cut)
        if start >= len(content):
            return Reply(416, b"", {"Content-Range": f"bytes */{len(content)}", **headers})
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Reply(206, content[start:], headers, cut)

    return answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: ClassVar[Stub]

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.close_connection = True
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.stub.reply_to(Seen(self.command, self.path, headers, self._body(headers)))
        self.send_response(reply.status)
        for name, value in {
            "Content-Length": str(len(reply.content)),
            "Connection": "close",
            **reply.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.content[: reply.cut])

    def _body(self, headers: dict[str, str]) -> bytes:
        if not self.stub.reads_bodies:
            return b""
        if headers.get("transfer-encoding") == "chunked":
            return b"".join(self._chunks())
        left = int(headers.get("content-length", 0))
        read = bytearray()
        while left > len(read):
            piece = self.rfile.read1(left - len(read))
            if not piece:
                break
            read += piece
            self.stub.on_chunk()
        return bytes(read)

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's name
        del format, args


class _Server(ThreadingHTTPServer):
    # Closing waits for the answers that are being given: one that a client has left would complain
    # of it in the middle of the next test.
    daemon_threads = False


@contextmanager
def running() -> Iterator[Stub]:
    """Run a stub on a free port of this machine."""
    stub = Stub("")
    handler = type("Handler", (_Handler,), {"stub": stub})
    server = _Server(("127.0.0.1", 0), handler)
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
