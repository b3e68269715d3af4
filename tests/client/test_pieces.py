"""A large file goes on where it was cut, against a server that cuts when it is told to."""

import io
from pathlib import Path

import pytest
from tests.client.kinds import Connect
from tests.client.stub import BASE, KEY, Reply, Seen, Stub, error, job

from penstock.client import (
    Api,
    ClientError,
    ConnectionFailed,
    InputChanged,
    InputInvalid,
    JobRecord,
    NotFound,
    ServerFailed,
)
from penstock.client.calls import ATTEMPTS_MAX
from penstock.client.pieces import PIECES_FROM_BYTES

DATA = b"".join(b"%07d\n" % number for number in range(PIECES_FROM_BYTES // 8))
CUT = Reply(content=b"{}", cut=0)
"""The connection breaks before the answer is there."""

UPLOAD = "/uploads/upl_7"


def begun() -> Reply:
    """The answer to a creation; a proxy may have changed the path before the id."""
    return Reply(201, b"", {"Location": f"/elsewhere{BASE}{UPLOAD}"})


def at(offset: int | str) -> Reply:
    """The answer to the question for the offset."""
    return Reply(204, b"", {"Upload-Offset": str(offset)})


@pytest.fixture
def slept() -> list[float]:
    """The pauses that the client made."""
    return []


@pytest.fixture
def client(connect: Connect, stub: Stub, slept: list[float]) -> Api:
    """A client of the stub that never really sleeps."""
    stub.on("POST", "/uploads", begun())
    return connect(stub, slept.append)


def offsets(stub: Stub) -> list[str]:
    """Where the pieces began."""
    return [seen.headers["upload-offset"] for seen in stub.calls("PATCH")]


def test_a_large_file_goes_as_it_is(
    stub: Stub, client: Api, slept: list[float], tmp_path: Path
) -> None:
    """One creation with the length and the model, one piece with all bytes, and the job."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(DATA)
    stub.on("PATCH", UPLOAD, job())
    told: list[tuple[int, int | None]] = []
    accepted = client.submit(path, model="a b", on_progress=lambda *now: told.append(now))
    assert isinstance(accepted, JobRecord)
    created, piece = stub.seen
    assert created.path == f"{BASE}/uploads?model=a+b"
    assert created.headers["upload-complete"] == "?0"
    assert created.headers["upload-length"] == str(len(DATA))
    assert created.headers["content-type"] == "application/jsonl"
    assert piece.headers["content-type"] == "application/partial-upload"
    assert piece.headers["content-length"] == str(len(DATA))
    assert piece.headers["upload-complete"] == "?1"
    assert piece.headers["authorization"] == f"Bearer {KEY}"
    assert piece.body == DATA
    assert told[-1] == (len(DATA), len(DATA))
    assert slept == []


def test_an_older_server_gets_one_submission(stub: Stub, client: Api) -> None:
    """A server without uploads gets the file as a submission, which is sent once."""
    del stub.answers["POST", f"{BASE}/uploads"]
    stub.on("POST", "/requests", job())
    assert client.submit(io.BytesIO(DATA)).request_id == "req_7"
    assert [seen.path for seen in stub.seen] == [
        f"{BASE}/uploads?model=gemini-3-flash-preview",
        f"{BASE}/requests",
    ]


def test_an_upload_that_is_taken_away_is_no_reason_to_send_it_twice(
    stub: Stub, client: Api
) -> None:
    """A 404 in the middle is an error, because a job may have been made of the upload."""
    stub.on("PATCH", UPLOAD, error(404, "not_found", "There is no such upload."))
    with pytest.raises(NotFound):
        client.submit(io.BytesIO(DATA))
    assert stub.calls("POST") == stub.seen[:1]


def test_a_cut_is_gone_on_from(stub: Stub, client: Api) -> None:
    """After each cut only what the server has not is sent, however many cuts there are."""
    stops = [1_000_000 * number for number in range(1, ATTEMPTS_MAX + 3)]
    stub.on("PATCH", UPLOAD, *[CUT] * len(stops), job())
    stub.on("HEAD", UPLOAD, *[at(stop) for stop in stops])
    assert client.submit(io.BytesIO(DATA)).request_id == "req_7"
    assert offsets(stub) == [str(start) for start in [0, *stops]]
    assert stub.calls("PATCH")[-1].body == DATA[stops[-1] :]


def test_a_lost_answer_is_asked_for_again(stub: Stub, client: Api) -> None:
    """When all bytes are there and the answer is not, an empty piece brings it."""
    stub.on("PATCH", UPLOAD, CUT, job())
    stub.on("HEAD", UPLOAD, at(len(DATA)))
    assert client.submit(io.BytesIO(DATA)).request_id == "req_7"
    assert stub.calls("PATCH")[-1].body == b""


def test_what_was_read_before_is_not_sent(stub: Stub, client: Api) -> None:
    """An open file is sent from where it stands, and gone on with from there."""
    file = io.BytesIO(b"header\n" + DATA)
    file.seek(7)
    stub.on("PATCH", UPLOAD, CUT, job())
    stub.on("HEAD", UPLOAD, at(8))
    client.submit(file)
    assert [seen.body for seen in stub.calls("PATCH")] == [DATA, DATA[8:]]


@pytest.mark.parametrize("status", [409, 423, 502, 503, 504])
def test_an_answer_that_may_pass_is_tried_again(
    stub: Stub, client: Api, slept: list[float], status: int
) -> None:
    """The offset is asked for, and the piece sent once more after a pause."""
    stub.on("PATCH", UPLOAD, error(status, "later", "Later."), job())
    stub.on("HEAD", UPLOAD, at(0))
    assert client.submit(io.BytesIO(DATA)).request_id == "req_7"
    assert slept == [0.5]


def test_no_progress_is_given_up(stub: Stub, client: Api, slept: list[float]) -> None:
    """When nothing gets through any more, the error says so, after growing pauses."""
    stub.on("PATCH", UPLOAD, CUT)
    stub.on("HEAD", UPLOAD, at(0))
    with pytest.raises(ConnectionFailed):
        client.submit(io.BytesIO(DATA))
    assert len(stub.calls("PATCH")) == ATTEMPTS_MAX
    assert slept == [0.5, 1, 2, 4]


def test_a_refusal_is_told_at_once(stub: Stub, client: Api, slept: list[float]) -> None:
    """Bad lines and errors that will not pass are not tried again."""
    stub.on("PATCH", UPLOAD, error(400, "invalid_input", "Bad.", details=[{"line": 2}]))
    with pytest.raises(InputInvalid) as refused:
        client.submit(io.BytesIO(DATA))
    assert refused.value.details[0].line == 2
    stub.on("PATCH", UPLOAD, error(507, "storage_full", "Full."))
    with pytest.raises(ServerFailed):
        client.submit(io.BytesIO(DATA))
    assert len(stub.calls("PATCH")) == 2
    assert slept == []


def test_a_start_is_tried_again(stub: Stub, client: Api, slept: list[float]) -> None:
    """An upload without bytes may be begun twice; refusals are told, and outages end."""
    stub.on("POST", "/uploads", error(503, "unavailable", "Later."), CUT, begun())
    stub.on("PATCH", UPLOAD, job())
    client.submit(io.BytesIO(DATA))
    assert slept == [0.5, 1]
    stub.on("POST", "/uploads", error(503, "unavailable", "Later."))
    with pytest.raises(ServerFailed):
        client.submit(io.BytesIO(DATA))
    assert len(slept) == 2 + ATTEMPTS_MAX - 1
    stub.on("POST", "/uploads", error(413, "input_too_large", "Too large."))
    with pytest.raises(InputInvalid):
        client.submit(io.BytesIO(DATA))


@pytest.mark.parametrize("change", [b"more\n", b""])
def test_a_file_that_changes_is_no_input(stub: Stub, client: Api, change: bytes) -> None:
    """A file that grows or shrinks on its way is not sent to its end, and its upload is removed."""
    file = io.BytesIO(DATA)

    def change_it(seen: Seen) -> Reply:
        file.seek(0)
        file.truncate(len(DATA) if change else 100)
        file.seek(0, io.SEEK_END)
        file.write(change)
        assert seen.method == "POST"
        return begun()

    stub.on("POST", "/uploads", change_it)
    stub.on("PATCH", UPLOAD, CUT)
    stub.on("DELETE", UPLOAD, Reply(204, b""))
    with pytest.raises(InputChanged):
        client.submit(file)
    assert len(stub.calls("DELETE")) == 1


def test_an_upload_that_is_gone_is_told(stub: Stub, client: Api) -> None:
    """When the server has it no more, or something else answers for it, the error says so."""
    stub.on("PATCH", UPLOAD, CUT)
    with pytest.raises(ConnectionFailed, match="no more"):
        client.submit(io.BytesIO(DATA))
    stub.on("HEAD", UPLOAD, at("many"))
    with pytest.raises(ClientError, match="does not say"):
        client.submit(io.BytesIO(DATA))
