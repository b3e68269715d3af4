import base64
import io
import json
import os
import socket
import threading
from pathlib import Path

import pytest
from tests.client.kinds import Connect, Pauses
from tests.client.stub import BASE, KEY, Reply, Seen, Stub, error, job

from penstock.client import (
    Api,
    APIError,
    AuthenticationFailed,
    ClientError,
    ConnectionFailed,
    InputInvalid,
    JobRecord,
    LimitReached,
    NotFound,
    ServerFailed,
    StillRunning,
)


def test_submit_a_path(connect: Connect, stub: Stub, tmp_path: Path) -> None:
    """A file goes as base64 with its length announced, and the accepted job comes back."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"request": 1}\n' * 50_000)
    stub.on("POST", "/requests", job())
    told: list[tuple[int, int | None]] = []
    with connect(stub) as client:
        accepted = client.submit(path, model="m", on_progress=lambda *now: told.append(now))
    (seen,) = stub.seen
    payload = json.loads(seen.body)["payload"]
    assert base64.b64decode(payload["input_data"]) == path.read_bytes()
    assert payload["model"] == "m"
    assert seen.headers["content-length"] == str(len(seen.body))
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert (accepted.request_id, accepted.status, accepted.done) == ("req_7", "queued", False)
    assert told[-1] == (750_000, 750_000)


def test_submit_an_open_file_from_where_it_stands(connect: Connect, stub: Stub) -> None:
    """Only what is left of an open file is sent."""
    stub.on("POST", "/requests", job())
    file = io.BytesIO(b"skipped|rest")
    file.seek(8)
    with connect(stub) as client:
        client.submit(file, model="m")
    assert base64.b64decode(json.loads(stub.seen[0].body)["payload"]["input_data"]) == b"rest"


def test_submit_a_pipe(connect: Connect, stub: Stub) -> None:
    """What has no size is sent in chunks."""
    stub.on("POST", "/requests", job())
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as end:
        end.write(b"from a pipe")
    with os.fdopen(reading, "rb") as file, connect(stub) as client:
        client.submit(file, model="m")
    (seen,) = stub.seen
    assert seen.headers["transfer-encoding"] == "chunked"
    assert base64.b64decode(json.loads(seen.body)["payload"]["input_data"]) == b"from a pipe"


def test_submit_as_text(connect: Connect, stub: Stub) -> None:
    """The escaped form carries the file as it is."""
    stub.on("POST", "/requests", job())
    with connect(stub) as client:
        client.submit(io.BytesIO('{"ü": "\\n"}\n'.encode()), model="m", encoding="text")
    assert json.loads(stub.seen[0].body)["payload"]["input_data"] == '{"ü": "\\n"}\n'


def test_submit_streams(connect: Connect, stub: Stub) -> None:
    """The server has the first piece before the client reads the last one from the file."""
    arrived = threading.Event()
    stub.on_chunk = arrived.set
    stub.on("POST", "/requests", job())

    class Waiting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                assert arrived.wait(10), "nothing arrived while the file was still being read"
            return super().read(size)

    with connect(stub) as client:
        client.submit(Waiting(bytes(1_000_000)), model="m")
    assert arrived.is_set()


def test_a_refusal_before_the_end(connect: Connect, stub: Stub) -> None:
    """A server that refuses a large body from its headers is heard, though it stops reading."""
    stub.reads_bodies = False
    stub.on("POST", "/requests", error(401, "unauthenticated", "who are you"))
    stub.on("GET", "/models", error(401, "unauthenticated", "who are you"))
    with connect(stub) as client, pytest.raises(AuthenticationFailed, match="who are you"):
        client.submit(io.BytesIO(bytes(20_000_000)), model="m")


def test_a_submission_is_sent_again_with_its_key(
    connect: Connect, stub: Stub, pauses: Pauses
) -> None:
    """What may pass is tried again, whole and under one key, at the server's own pace."""
    in_flight = error(409, "idempotency_in_flight", "wait")
    in_flight.headers["Retry-After"] = "30"
    lost = Reply(content=b"x" * 100, cut=10)
    away = error(503, "unavailable", "later")
    stub.on("POST", "/requests", lost, away, in_flight, job())
    file = io.BytesIO(b"abcdef")
    file.seek(2)
    with connect(stub, pauses) as client:
        assert client.submit(file, model="m", priority=7).request_id == "req_7"
    assert pauses.slept == [0.5, 1.0, 30.0]
    assert len({seen.headers["idempotency-key"] for seen in stub.calls("POST")}) == 1
    assert len({seen.body for seen in stub.calls("POST")}) == 1
    assert base64.b64encode(b"cdef") in stub.calls("POST")[-1].body
    assert stub.calls("POST")[-1].headers["x-penstock-priority"] == "7"


def test_a_submission_is_given_up(connect: Connect, stub: Stub, pauses: Pauses) -> None:
    """After five tries the error is the caller's; each submission has a key of its own."""
    stub.on("POST", "/requests", error(503, "unavailable", "later"))
    with connect(stub, pauses) as client:
        for _ in range(2):
            with pytest.raises(ServerFailed):
                client.submit(io.BytesIO(b"x"), model="m")
    assert len(stub.seen) == 10
    assert len({seen.headers["idempotency-key"] for seen in stub.seen}) == 2


def test_a_key_of_one_s_own_is_sent(connect: Connect, stub: Stub, pauses: Pauses) -> None:
    """It goes as it is, in one request however large the file; a mismatch is not tried again."""
    stub.on("POST", "/requests", error(422, "idempotency_mismatch", "used"))
    with connect(stub, pauses) as client:
        with pytest.raises(APIError, match="used"):
            client.submit(io.BytesIO(bytes(9_000_000)), model="m", idempotency_key="mine")
        with pytest.raises(ClientError, match="idempotency key"):
            client.submit(io.BytesIO(b"x"), model="m", idempotency_key="a\nb")
    assert [seen.headers["idempotency-key"] for seen in stub.seen] == ["mine"]


@pytest.mark.parametrize(("status", "code"), [(429, "quota_spend_day"), (409, "invalid_state")])
def test_a_refusal_is_not_tried_again(
    connect: Connect, stub: Stub, pauses: Pauses, status: int, code: str
) -> None:
    """A quota may be used up until tomorrow, and other conflicts do not pass; each is told."""
    quota = {
        "name": "spend_day",
        "limit": 9,
        "used": 1,
        "reserved": 8,
        "asked": 5,
        "reserved_by": [{"request_id": "req_1", "amount": 8}],
        "resets_at": 1_795_392_000,
    }
    stub.on("POST", "/requests", error(status, code, "no", quota=quota))
    with connect(stub, pauses) as client, pytest.raises(APIError) as caught:
        client.submit(io.BytesIO(b"x"), model="m")
    assert pauses.slept == []
    assert caught.value.quota is not None
    assert caught.value.quota.reserved_by[0].request_id == "req_1"


def test_a_lost_answer_is_said_to_be_unclear(connect: Connect, stub: Stub) -> None:
    """What came from a pipe is sent once; the error says that it may have been taken."""
    stub.on("POST", "/requests", Reply(content=b"x" * 100, cut=10))
    read, write = os.pipe()
    os.close(write)
    with (
        os.fdopen(read, "rb") as pipe,
        connect(stub) as client,
        pytest.raises(ConnectionFailed) as caught,
    ):
        client.submit(pipe, model="m")
    assert len(stub.calls("POST")) == 1
    assert "may or may not have taken it" in str(caught.value)
    assert "penstock ls" in str(caught.value.hint)


def test_get_tries_again(connect: Connect, stub: Stub, pauses: Pauses) -> None:
    """Reads are repeated after what passes by itself, at the pace that the server wishes."""
    busy = error(429, "rate_limited", "slow down")
    busy.headers["Retry-After"] = "7"
    stub.on(
        "GET", "/requests/req_7", error(502, "x", "x"), busy, Reply(content=b"..", cut=1), job()
    )
    with connect(stub, pauses) as client:
        assert client.get("req_7").request_id == "req_7"
    assert pauses.slept == [0.5, 7.0, 2.0]


def test_a_server_that_was_there_is_waited_for_longer(
    connect: Connect, stub: Stub, pauses: Pauses
) -> None:
    """What has answered once has the right address: it may be starting anew."""
    cut = Reply(content=b"..", cut=1)
    stub.on("GET", "/requests/req_7", job(), cut, cut, cut, cut, job())
    with connect(stub, pauses) as client:
        client.get("req_7")
        client.get("req_7")
    assert pauses.slept == [0.5, 1.0, 2.0, 4.0]


def test_get_gives_up(connect: Connect, stub: Stub, pauses: Pauses) -> None:
    """After five attempts the last error is the answer."""
    stub.on("GET", "/requests/req_7", error(503, "unavailable", "no room", hint="wait"))
    with connect(stub, pauses) as client, pytest.raises(ServerFailed, match="no room") as caught:
        client.get("req_7")
    assert (caught.value.code, caught.value.hint, len(stub.seen)) == ("unavailable", "wait", 5)
    assert pauses.slept == [0.5, 1.0, 2.0, 4.0]


def test_nobody_listens(pauses: Pauses) -> None:
    """Soon, in case the address is wrong, the error names the server and what to look at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://name:password@127.0.0.1:{taken.getsockname()[1]}"
        with Api(url, KEY, sleep=pauses) as client, pytest.raises(ConnectionFailed) as caught:
            client.models()
    assert str(caught.value).startswith(f"cannot reach http://127.0.0.1:{url.rpartition(':')[2]}")
    assert "password" not in str(caught.value)
    assert len(pauses.slept) == 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, APIError),
        (401, AuthenticationFailed),
        (402, LimitReached),
        (403, AuthenticationFailed),
        (404, NotFound),
        (409, APIError),
        (413, InputInvalid),
        (500, ServerFailed),
        (507, ServerFailed),
    ],
)
def test_errors_by_status(connect: Connect, stub: Stub, status: int, kind: type[APIError]) -> None:
    """Each status has its class, with code and sentence of the server."""
    stub.on("POST", "/requests/req_7/cancel", error(status, "some_code", "what happened"))
    with connect(stub) as client, pytest.raises(APIError, match="what happened") as caught:
        client.cancel("req_7")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code) == (status, "some_code")


def test_bad_lines(connect: Connect, stub: Stub) -> None:
    """A 400 about lines has every place that the server lists, and how many there are in all."""
    detail = {"line": 3, "column": 9, "message": "no comma", "hint": "drop it", "later": True}
    stub.on(
        "POST", "/requests", error(400, "invalid_input", "bad", details=[detail], details_total=5)
    )
    with connect(stub) as client, pytest.raises(InputInvalid) as caught:
        client.submit(io.BytesIO(b"x"), model="m")
    (found,) = caught.value.details
    assert (found.line, found.column, found.message, found.hint) == (3, 9, "no comma", "drop it")
    assert caught.value.details_total == 5


@pytest.mark.parametrize("content", [b"<html>\xff</html>", b"[]", b'{"details": 3}'])
def test_an_error_that_is_not_ours(connect: Connect, stub: Stub, content: bytes) -> None:
    """A proxy's page still gives an error with its status."""
    stub.on("GET", "/models", Reply(418, content))
    with connect(stub) as client, pytest.raises(APIError, match="answered 418") as caught:
        client.models()
    assert caught.value.code == "http_418"


def test_an_answer_that_is_not_ours(connect: Connect, stub: Stub) -> None:
    """A success that is no record says that the address is somebody else's."""
    stub.on("GET", "/models", Reply(content=b"<html>hello</html>"))
    with connect(stub) as client, pytest.raises(ClientError, match="not one of Penstock's"):
        client.models()


def test_list_and_models(connect: Connect, stub: Stub) -> None:
    """Filters are sent only when given, and members of a newer server are ignored."""
    stub.on("GET", "/requests", Reply(content=b'{"requests": [], "total": 0, "new": 1}'))
    stub.on("GET", "/models", Reply(content=b'{"model_ids": ["g"], "models": [{"model": "g"}]}'))
    with connect(stub, organization="org_2") as client:
        assert client.list().total == 0
        client.list(5, cursor="c/1", offset=2, status="failed")
        assert client.models().model_ids == ["g"]
    assert stub.seen[0].path == f"{BASE}/requests"
    assert stub.seen[1].path == f"{BASE}/requests?limit=5&cursor=c%2F1&offset=2&status=failed"
    assert stub.seen[0].headers["x-organization-id"] == "org_2"


def test_ids_are_quoted(connect: Connect, stub: Stub) -> None:
    """An id cannot leave its place in the address."""
    with connect(stub) as client, pytest.raises(NotFound):
        client.get("../models?x")
    assert stub.seen[0].path == f"{BASE}/requests/..%2Fmodels%3Fx"


@pytest.mark.parametrize("key", ["", "line\nend", "schlüssel", "two words"])
def test_a_key_that_cannot_be_sent(key: str) -> None:
    """Such a key is refused without being shown."""
    with pytest.raises(ClientError, match="the API key is empty or has characters") as caught:
        Api("http://127.0.0.1", key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://host", "http://"])
def test_an_address_that_is_none(url: str) -> None:
    """An address without scheme or host is refused before anything is sent."""
    with pytest.raises(ClientError, match="not the address of a server"):
        Api(url, KEY)


def test_wait_tells_changes(connect: Connect, stub: Stub, pauses: Pauses) -> None:
    """Waiting ends with the job, tells each change once, and asks ever more rarely."""
    counts = {"successful_count": 1, "total_count": 2}
    running = job("processing", batch_job_state="JOB_STATE_RUNNING")
    more = job("processing", batch_job_state="JOB_STATE_RUNNING", batch_job_completion_stats=counts)
    stub.on("GET", "/requests/req_7", job(), running, running, more, job("success"))
    told: list[JobRecord] = []
    with connect(stub, pauses) as client:
        ended = client.wait("req_7", on_change=told.append)
    assert ended.succeeded
    assert [(now.status, now.stats.successful_count) for now in told] == [
        ("queued", 0), ("processing", 0), ("processing", 1), ("success", 0),
    ]  # fmt: skip
    assert pauses.slept == [1.0, 1.5, 2.25, 3.375]


def test_wait_gives_back_a_failed_job(connect: Connect, stub: Stub) -> None:
    """A failed job is an answer, with the reason that the server gives."""
    stub.on("GET", "/requests/req_7", job("failed", message="", error={"message": "no quota"}))
    with connect(stub) as client:
        ended = client.wait("req_7")
    assert (ended.succeeded, ended.reason) == (False, "no quota")


def test_wait_ends_in_time(connect: Connect, stub: Stub, pauses: Pauses) -> None:
    """When the time is over the error says that the job goes on, and has the job."""
    stub.on("GET", "/requests/req_7", job("processing"))
    with connect(stub, pauses) as client, pytest.raises(StillRunning) as caught:
        client.wait("req_7", poll_seconds=2, timeout_seconds=5, now=pauses.now)
    assert str(caught.value) == "stopped waiting for req_7 after 5 s; the job continues"
    assert caught.value.job.status == "processing"
    assert pauses.slept == [2, 2, 1]


def test_wait_survives_a_restart_of_the_server(
    connect: Connect, stub: Stub, pauses: Pauses
) -> None:
    """A server that is away for a while does not end the wait."""
    away = error(503, "unavailable", "starting")
    stub.on("GET", "/requests/req_7", job(), *[away] * 12, job("success"))
    with connect(stub, pauses) as client:
        assert client.wait("req_7", now=pauses.now).succeeded


def test_wait_does_not_survive_a_server_that_is_gone(
    connect: Connect, stub: Stub, pauses: Pauses
) -> None:
    """After ten minutes without an answer the last error is raised."""
    stub.on("GET", "/requests/req_7", job(), error(503, "unavailable", "gone"))
    with connect(stub, pauses) as client, pytest.raises(ServerFailed, match="gone"):
        client.wait("req_7", now=pauses.now)
    assert 600 < pauses.now() < 700


def test_wait_for_nothing(connect: Connect, stub: Stub) -> None:
    """A job that does not exist is not waited for."""
    with connect(stub) as client, pytest.raises(NotFound):
        client.wait("req_8")


def test_redirects_are_not_followed_with_the_key(connect: Connect, stub: Stub) -> None:
    """A server that sends the caller elsewhere does not get the key sent there."""

    def elsewhere(seen: Seen) -> Reply:
        assert "authorization" in seen.headers
        return Reply(307, headers={"Location": f"{stub.url}/elsewhere"})

    stub.on("GET", "/models", elsewhere)
    with connect(stub) as client, pytest.raises(APIError, match="answered 307"):
        client.models()
    assert len(stub.seen) == 1


def test_retry_sends_a_key_of_its_own(connect: Connect, stub: Stub) -> None:
    """Sent again after a lost answer it has the same key, so it begins one round."""
    stub.on("POST", "/requests/req_7/retry", error(503, "busy", "later"), job("processing"))
    assert connect(stub, Pauses()).retry("req_7", ["error"]).status == "processing"
    keys = [seen.headers["idempotency-key"] for seen in stub.seen]
    assert len(keys) == 2
    assert len(set(keys)) == 1
