"""Uploads to a real server whose budget for files is small: they wait, or are told when to return.

Whatever the refusal, nothing of the upload stays, and the room that it held is free again.
"""

import base64
import hashlib
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from backports import zstd
from tests.journeys.sending import answer_of, connect, head, nothing_stays, send
from tests.journeys.service import Json, Service, running, until

pytestmark = pytest.mark.slow

BUDGET_BYTES = 48 * 1_048_576
HALF_BYTES = 30 * 1_048_576
"""One of them fits into the budget, two do not."""

LINE = b'{"request":{"contents":[{"parts":[{"text":"%b"}]}]}}\n' % (b"word " * 13_000)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A pair with little room and little patience."""
    with running(
        tmp_path_factory.mktemp("service"),
        PENSTOCK_SPOOL_BYTES_MAX=str(BUDGET_BYTES),
        PENSTOCK_UPLOAD_WAIT_SECONDS_MAX="1",
    ) as pair:
        # What is accepted here need not be run.
        pair.rule({}, {"hold": "queued"})
        yield pair


@pytest.fixture(autouse=True)
def no_rules() -> None:
    """The one rule of this module stays."""


@pytest.fixture(autouse=True)
def clean(service: Service) -> Iterator[None]:
    """After each refusal nothing is left, and the next upload works."""
    with nothing_stays(service):
        yield


def refusal(answer: Json) -> tuple[int, str]:
    """Status and code; each refusal says when to come again."""
    assert int(answer["retry_after"]) > 0, answer
    return answer["http"], answer["code"]


def begin(service: Service, length: int) -> socket.socket:
    """An upload that has its room, and then waits for its sender."""
    held = connect(service)
    held.sendall(head(service, "application/jsonl", f"Content-Length: {length}") + LINE)
    until(lambda: any(name.endswith(".part") for name in service.files()), "it has begun")
    return held


def test_what_never_fits_is_refused_by_its_head(service: Service) -> None:
    """507 before a byte of the body was asked for."""
    with closing(connect(service)) as client:
        length = f"Content-Length: {BUDGET_BYTES + 1}"
        client.sendall(head(service, "application/jsonl", length, "Expect: 100-continue"))
        assert refusal(answer_of(client)) == (507, "storage_full")


def test_what_outgrows_the_room_is_refused_in_the_middle(service: Service) -> None:
    """A compressed body whose size nobody could know gets 507 where there is no more room."""
    frames = [
        zstd.compress(LINE.replace(b"word " * 500, base64.b64encode(noise), 1) * 10)
        for noise in (hashlib.shake_256(b"%d" % seed).digest(9_000) for seed in range(90))
    ]
    answer = send(service, b"".join(frames), encoding="zstd")
    assert refusal(answer) == (507, "storage_full")


def test_who_waits_too_long_is_told_to_return(service: Service) -> None:
    """While another upload holds the room a second one waits, unread, and then gets 503."""
    with closing(begin(service, HALF_BYTES)), closing(connect(service)) as client:
        length = f"Content-Length: {HALF_BYTES}"
        client.sendall(head(service, "application/jsonl", length, "Expect: 100-continue"))
        assert refusal(answer_of(client)) == (503, "too_busy")


def test_who_waits_gets_the_room_of_who_leaves(service: Service) -> None:
    """When the other upload ends, the one in line is read, and judged like any other."""
    held = begin(service, HALF_BYTES)
    with closing(connect(service)) as client:
        client.sendall(head(service, "application/jsonl", f"Content-Length: {HALF_BYTES}"))
        held.close()
        client.sendall(b"[" + b" " * (HALF_BYTES - 1))
        answer = answer_of(client)
    assert (answer["http"], answer["code"]) == (400, "json_array_file")
