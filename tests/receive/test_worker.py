import gzip
import logging
import socket
import tempfile
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.receive.driver import (
    BODIES,
    GZIP,
    JSON,
    JSONL,
    LINES,
    PATIENCE_SECONDS,
    begin_files,
    in_process,
    order,
    received,
    reply_of,
    served,
)

from penstock import errors
from penstock.core.limits import Limits
from penstock.errors import PenstockError, Problem
from penstock.ingest.upload import Upload
from penstock.receive.wire import Refusal, packed
from penstock.receive.worker import listen

BAD_LINES = (
    b'{"request":{"contents":[]}}\n' * 3
    + "{'é':1}\n".encode()
    + b'{"status":1,"request":{"contents":[{}]}}\n'
    + LINES
)
SMALL = Limits(
    job_bytes_max=2_000_000, job_lines_max=7_000, line_bytes_max=100_000, problems_reported_max=4
)


@pytest.mark.parametrize("name", BODIES)
def test_every_form_is_stored_as_in_process(name: str, tmp_path: Path) -> None:
    """The files, the counts and the hash are those of an intake without a process between."""
    upload, body = BODIES[name]
    stored = received(upload, body, tmp_path)
    assert (stored.reply.accepted, stored.data, stored.rows) == in_process(upload, body)
    assert stored.data == LINES
    assert stored.reply.refusal is None


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(sorted(BODIES)), st.lists(st.integers(1, 200_000), max_size=40))
def test_any_chunking_stores_the_same(name: str, sizes: list[int]) -> None:
    """However the server cuts the body, the same bytes, rows and hash come out."""
    upload, body = BODIES[name]
    with tempfile.TemporaryDirectory() as folder:
        stored = received(upload, body, Path(folder), sizes)
    assert (stored.reply.accepted, stored.data, stored.rows) == in_process(upload, body)


REFUSED: dict[str, tuple[Upload, bytes]] = {
    "bad_lines": (JSONL, BAD_LINES),
    "array_file": (JSONL, b"[" + LINES),
    "too_many_lines": (JSONL, LINES * 2),
    "line_too_long": (JSONL, LINES + b'{"a":"' + bytes(300_000)),
    "input_too_large": (JSONL, b" " * 50_000 + b"\n" + LINES * 10),
    "not_json": (JSON, b'{"input_data": {"a": 1}}'),
    "truncated_json": (JSON, b'{"input_data": "{'),
    "bad_base64": (JSON, b'{"input_data": "e30K*"}'),
    "truncated_gzip": (GZIP, gzip.compress(LINES)[:-9]),
    "not_gzip": (GZIP, LINES),
    "empty": (JSONL, b""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_comes_through_unchanged(name: str, tmp_path: Path) -> None:
    """Class, code, words, hint and every problem are those of an intake in the same process."""
    upload, body = REFUSED[name]
    reply = received(upload, body, tmp_path, [70_000] * 30, SMALL).reply
    expected = in_process(upload, body, SMALL)[0]
    assert reply.accepted is None
    assert reply.refusal == expected
    assert isinstance(expected, Refusal)
    assert Refusal.of(expected.error()) == expected
    assert type(expected.error()).__name__ == expected.kind


@pytest.mark.parametrize("name", ["array_file", "line_too_long", "not_gzip", "not_json"])
def test_a_refusal_comes_while_the_body_is_still_coming(name: str, tmp_path: Path) -> None:
    """The reply is there before the body has ended, and sending on harms nobody."""
    upload, body = REFUSED[name]
    begin_files(tmp_path)
    with served() as connection:
        connection.sendall(packed(order(upload, tmp_path, SMALL)) + body)
        reply = reply_of(connection)
        assert reply.refusal == in_process(upload, body, SMALL)[0]
        for _ in range(20):
            connection.sendall(bytes(1_000_000))


@pytest.mark.parametrize("kind", ["JsonlWithoutEnd", "base64"])
def test_a_body_that_decodes_to_nothing_is_refused(kind: str, tmp_path: Path) -> None:
    """What may come without end without becoming input ends at `body_bytes_max`."""
    limits = Limits(job_bytes_max=10_000)
    upload, start = (GZIP, b"") if kind == "JsonlWithoutEnd" else (JSON, b'{"input_data": "e30K')
    nothing = gzip.compress(b"") * 100 if upload is GZIP else b"\\n" * 1_000
    body = start + nothing * (limits.body_bytes_max // len(nothing) + 1)
    refusal = received(upload, body, tmp_path, limits=limits).reply.refusal
    assert refusal is not None
    assert (refusal.kind, refusal.code) == ("TooLarge", "input_too_large")


@pytest.mark.parametrize("gone", ["input", "index"])
def test_files_that_are_gone_are_our_fault(gone: str, tmp_path: Path) -> None:
    """An upload whose files the server has removed ends with an error of ours, and no other."""
    begin_files(tmp_path)
    (tmp_path / gone).unlink()
    with served() as connection:
        connection.sendall(packed(order(JSONL, tmp_path)) + LINES)
        refusal = reply_of(connection).refusal
    assert refusal is not None
    assert (refusal.kind, refusal.error().status) == ("InternalError", 500)


def test_a_fault_is_told_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody thought of becomes a 500 without details; the log has the traceback."""
    begin_files(tmp_path)
    (tmp_path / "index").unlink()
    (tmp_path / "index").mkdir()
    with caplog.at_level(logging.ERROR, "penstock.receive"), served() as connection:
        connection.sendall(packed(order(JSONL, tmp_path)) + LINES)
        refusal = reply_of(connection).refusal
    assert refusal is not None
    assert (refusal.kind, refusal.code) == ("InternalError", "internal")
    assert str(tmp_path) not in refusal.message
    assert "IsADirectoryError" in caplog.text


@pytest.mark.parametrize("name", ["input_path", "index_path"])
def test_a_full_disk_is_said_as_such(name: str, tmp_path: Path) -> None:
    """A disk that takes nothing more is 507, whichever file met it."""
    begin_files(tmp_path)
    wanted = msgspec.structs.replace(order(JSONL, tmp_path), **{name: "/dev/full"})
    with served() as connection:
        connection.sendall(packed(wanted))
        connection.sendall(LINES * 4)
        connection.shutdown(socket.SHUT_WR)
        refusal = reply_of(connection).refusal
    assert refusal is not None
    assert (refusal.kind, refusal.error().status) == ("StorageFull", 507)


@pytest.mark.parametrize("sent", ["nothing", "half an order", "half a body"])
def test_a_server_that_goes_away_ends_the_upload(sent: str, tmp_path: Path) -> None:
    """Whenever the server's end is closed, the thread ends without a reply and without noise."""
    begin_files(tmp_path)
    message = packed(order(JSONL, tmp_path)) + LINES[: len(LINES) // 2]
    with served() as connection:
        connection.sendall({"nothing": b"", "half an order": message[:40]}.get(sent, message))


def test_every_error_survives_the_wire() -> None:
    """All kinds of the tree come out as themselves, with all that they say."""
    problems = (Problem(code="x", message="é", line=1, column=2, offset=3, path="$", hint="h"),)
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, PenstockError)
    ]
    for kind in kinds:
        error = kind("m", hint="h", code="c", problems=problems, problems_total=7)
        back = Refusal.of(error).error()
        assert type(back) is kind
        assert Refusal.of(back) == Refusal.of(error)
    unknown = msgspec.structs.replace(Refusal.of(errors.Conflict("m")), kind="Strange")
    assert type(unknown.error()) is errors.InternalError


def test_a_listener_serves_until_the_server_is_gone(tmp_path: Path) -> None:
    """Each message brings an upload; the end of the control connection is the end."""
    begin_files(tmp_path)
    control, theirs = socket.socketpair()
    with theirs:
        thread = threading.Thread(target=listen, args=[theirs])
        thread.start()
        with control:
            for _ in range(3):
                ours, upload = socket.socketpair()
                ours.settimeout(PATIENCE_SECONDS)
                with ours:
                    with upload:
                        socket.send_fds(control, [b"u"], [upload.fileno()])
                    ours.sendall(packed(order(JSONL, tmp_path)) + LINES)
                    ours.shutdown(socket.SHUT_WR)
                    assert reply_of(ours).accepted is not None
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
