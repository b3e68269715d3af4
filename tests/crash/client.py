"""A client that submits, cancels and resumes over HTTP, and keeps all that it ever received.

The journal is what the checker believes, together with the emulator's log. A client outlives the
server: what got no answer is asked again in the server's next life, as a careful client would.
"""

import json
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, Final

import msgspec

BASE: Final = "/api/v1/ie/requestqueue/apikey"
HOOKS: Final = "/api/v1/webhooks"
MODEL: Final = "gemini-3-flash-preview"
ENDED: Final = frozenset({"success", "failed", "cancelled"})
TIMEOUT_SECONDS: Final = 20.0
_LOOK: Final = threading.Event()
"""Never set: processes have no signal to wait for."""

Json = dict[str, Any]


class Gone(Exception):
    """The server did not answer: it is dead, or the connection was cut."""


class Answer(msgspec.Struct, frozen=True):
    """One answer that came whole."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:  # noqa: ANN401  # JSON is what it is
        """The body, parsed."""
        return json.loads(self.body)


class Try(msgspec.Struct, kw_only=True):
    """One submission, as its client sees it."""

    tag: str
    """Unique over all submissions; it travels in the payload and comes back in every record."""
    nonces: list[str]
    """One a line, in its prompt."""
    data: bytes
    """The whole body."""
    may_end: frozenset[str] = frozenset({"success"})
    request_id: str | None = None
    """Known once the answer came: from then on the job must not be lost."""
    wants_cancel: bool = False
    is_cancel_answered: bool = False
    where: str | None = None
    """The path of the resumable upload."""
    by_pieces: bool = False
    is_told: bool = False
    """Whether a webhook was there before it."""
    has_key: bool = False
    """Whether it can be sent again without becoming another job."""
    query: str = ""
    """Its options."""
    wants_retry: bool = False
    is_retry_answered: bool = False


class Seen(msgspec.Struct, frozen=True):
    """One record that a client received."""

    request_id: str
    status: str
    batch_job_state: str | None
    updated_at: int


def http(
    port: int,
    method: str,
    path: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    halves: bool = False,
) -> Answer:
    """Make one request on a connection of its own; `halves` sends the body in two writes."""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body or method in {"POST", "PATCH", "PUT"}:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        half = len(body) // 2 + 1 if halves else len(body)
        for part in (body[:half], body[half:]):
            if part:
                connection.send(part)
        return _read(connection.getresponse())
    except (OSError, HTTPException) as error:
        raise Gone(f"{method} {path}: {error!r}") from error
    finally:
        connection.close()


def _read(response: HTTPResponse) -> Answer:
    body = response.read()
    return Answer(response.status, body, {k.lower(): v for k, v in response.getheaders()})


def _line(nonce: str, text: str) -> Json:
    """Return one request line with a member of the caller's own."""
    return {"id": nonce, "request": {"contents": [{"role": "user", "parts": [{"text": text}]}]}}


class Client:
    """One client of one history."""

    def __init__(self, name: str, key: str) -> None:
        self._name = name
        self.key = key
        self.port = 0
        self.tries: list[Try] = []
        self.journal: list[Seen] = []
        self.received = bytearray()
        """Every byte of every answer, to look for secrets in."""
        self.refusals: list[str] = []
        self.hooks: dict[str, str] = {}
        """The secrets of its webhooks, by id."""

    # -- what it submits -------------------------------------------------------------------------

    def new_failing_try(self) -> Try:
        """Make one whose first line fails the first time, and whose last two are identical."""
        one = self.new_try(lines=4, twins=1, first="[[emulator:fail-once=503]]")
        one.has_key = True
        return one

    def new_try(
        self,
        directive: str = "",
        *,
        lines: int = 3,
        padding: int = 0,
        twins: int = 0,
        first: str = "",
    ) -> Try:
        """Make a submission; nothing is sent."""
        tag = f"{self._name}-{len(self.tries)}"
        nonces = [f"nonce-{tag}-{min(number, lines - 1 - twins)}-x" for number in range(lines)]
        tails = [f"{directive}{'.' * padding}" for _ in nonces]
        tails[0] += first
        text = "".join(
            json.dumps(_line(nonce, f"{nonce} {tail}")) + "\n"
            for nonce, tail in zip(nonces, tails, strict=True)
        )
        body = {
            "model": "Gemini-batch-inference",
            "payload": {"model": MODEL, "tag": tag, "input_data": text},
        }
        one = Try(tag=tag, nonces=nonces, data=json.dumps(body).encode())
        self.tries.append(one)
        return one

    def submit(self, one: Try) -> None:
        """Send it in one request; a server that says that it lost its receiver is asked again."""
        head = {"Idempotency-Key": one.tag} if one.has_key else {}
        answer = self._call("POST", f"{BASE}/requests{one.query}", one.data, head, halves=True)
        pause = _Pause()
        end = time.monotonic() + TIMEOUT_SECONDS
        # 503: the receiving process was killed, not the server. 409: the server that had the key
        # was killed, and is not taken for dead yet.
        while answer.status in {409, 503} and time.monotonic() < end:
            pause()
            answer = self._call("POST", f"{BASE}/requests{one.query}", one.data, head, halves=True)
        self._accepted(one, answer)

    def upload(self, one: Try) -> None:
        """Send it in two pieces, or go on where the server says that it is."""
        one.by_pieces = True
        half = len(one.data) // 2
        if one.where is None:
            head = {"Content-Type": "application/json", "Upload-Complete": "?0"}
            answer = self._call("POST", f"{BASE}/uploads", one.data[:half], head)
            one.where = self._good(answer, 201).headers["location"]
        answer = self._good(self._call("HEAD", one.where), 204)
        offset = int(answer.headers["upload-offset"])
        head = {
            "Content-Type": "application/partial-upload",
            "Upload-Complete": "?1",
            "Upload-Offset": str(offset),
        }
        self._accepted(one, self._call("PATCH", one.where, one.data[offset:], head))

    def listen(self, url: str) -> None:
        """Have one webhook, to which the ends of all that is submitted from now on are told."""
        if not self.hooks:
            answer = self._call("POST", HOOKS, json.dumps({"url": url}).encode())
            made = self._good(answer, 201).json
            self.hooks[made["id"]] = made["secret"]

    def cancel(self, one: Try) -> None:
        """Ask for the cancel of an accepted job; 409 says that it had ended."""
        one.wants_cancel = True
        one.may_end = frozenset({"success", "cancelled"})
        answer = self._call("POST", f"{BASE}/requests/{one.request_id}/cancel")
        if answer.status not in {200, 409}:
            self.refusals.append(f"cancel: {answer.status} {answer.body[:300]!r}")
        one.is_cancel_answered = True

    def look(self, one: Try) -> bool:
        """Ask for the lines that a running job has so far; return whether there were any."""
        answer = self._call("GET", f"{BASE}/requests/{one.request_id}/output?partial=true")
        if answer.status not in {200, 202}:
            self.refusals.append(f"look: {answer.status} {answer.body[:300]!r}")
        return answer.status == HTTPStatus.OK

    def retry(self, one: Try) -> None:
        """Send the lines that failed again; with its key that happens once."""
        one.wants_retry = True
        path = f"{BASE}/requests/{one.request_id}/retry?outcomes=error"
        pause = _Pause()
        end = time.monotonic() + TIMEOUT_SECONDS
        answer = self._call("POST", path, headers={"Idempotency-Key": one.tag})
        # 409: the server that had the key was killed, and is not taken for dead yet.
        while answer.status == HTTPStatus.CONFLICT and time.monotonic() < end:
            pause()
            answer = self._call("POST", path, headers={"Idempotency-Key": one.tag})
        self._note(self._good(answer, 200).json)
        one.is_retry_answered = True

    def catch_up(self) -> None:
        """Ask again for all that got no answer and can be asked again."""
        for one in self.tries:
            if one.has_key and one.request_id is None:
                self.submit(one)
            if one.by_pieces and one.request_id is None and one.where is not None:
                self.upload(one)
            if one.wants_cancel and not one.is_cancel_answered and one.request_id is not None:
                self.cancel(one)
            if one.wants_retry and not one.is_retry_answered:
                self.retry(one)

    # -- what it reads ---------------------------------------------------------------------------

    def get(self, request_id: str) -> Json:
        """Return one record."""
        record: Json = self._good(self._call("GET", f"{BASE}/requests/{request_id}"), 200).json
        self._note(record)
        return record

    def all(self) -> list[Json]:
        """Return all records."""
        answer = self._good(self._call("GET", f"{BASE}/requests?limit=100"), 200).json
        records: list[Json] = answer["requests"]
        for record in records:
            self._note(record)
        return records

    def is_told_of_all(self) -> bool:
        """Return whether nothing waits for a webhook."""
        found = [self._call("GET", f"{HOOKS}/{one}/deliveries?limit=200") for one in self.hooks]
        deliveries = [each for one in found for each in self._good(one, 200).json["deliveries"]]
        return all(each["state"] == "delivered" for each in deliveries)

    def output(self, record: Json) -> bytes:
        """Download a job's output."""
        path = "/" + record["outcome"]["output_url"].split("/", 3)[3]
        return self._good(self._call("GET", path), 200).body

    def wait(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Return when the condition holds; `Gone` passes through."""
        pause = _Pause()
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"{self._name}: {what} did not happen in {seconds:g} s")
            pause()

    # -- shared ----------------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        halves: bool = False,
    ) -> Answer:
        whole = {"Authorization": f"Bearer {self.key}", "Host": f"127.0.0.1:{self.port}"}
        if body:
            whole["Content-Type"] = "application/json"
        whole |= headers or {}
        del whole["Host"]
        answer = http(self.port, method, path, headers=whole, body=body, halves=halves)
        self.received += answer.body
        for name, value in answer.headers.items():
            self.received += f"{name}: {value}\n".encode()
        return answer

    def _accepted(self, one: Try, answer: Answer) -> None:
        record = self._good(answer, 200).json
        one.request_id = record["request_id"]
        self._note(record)

    def _good(self, answer: Answer, status: int) -> Answer:
        if answer.status != status:
            self.refusals.append(f"{answer.status}: {answer.body[:300]!r}")
            raise Gone(f"answered {answer.status}")
        return answer

    def _note(self, record: Json) -> None:
        outcome = record["outcome"] or {}
        self.journal.append(
            Seen(
                record["request_id"],
                record["status"],
                outcome.get("batch_job_state"),
                record["updated_at"],
            )
        )


class _Pause:
    """Between two looks: a moment at first, longer later."""

    def __init__(self) -> None:
        self._seconds = 0.03

    def __call__(self) -> None:
        _LOOK.wait(self._seconds)
        self._seconds = min(0.2, self._seconds * 1.4)
