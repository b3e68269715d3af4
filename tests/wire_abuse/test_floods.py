"""Clients in numbers: the server refuses what is too much, stays small, and serves on."""

import json
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from tests.journeys.service import BASE, PATIENCE_SECONDS, Service, prompt, until
from tests.wire_abuse.conftest import SHORT
from tests.wire_abuse.connections import connect, head, read_all, resident_bytes, statuses

REQUESTS = f"{BASE}/requests"
CONNECTIONS_MAX = int(SHORT["PENSTOCK_LIMITS_CONNECTIONS_MAX"])
CLIENTS = 1_000
GROWTH_BYTES_MAX = 64 * 1024 * 1024


@contextmanager
def many(service: Service, count: int) -> Iterator[list[socket.socket]]:
    """So many connections at once."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(service)) for _ in range(count)]


def is_well(service: Service) -> bool:
    """Whether a small call is answered."""
    with connect(service) as client:
        client.sendall(head(service, "GET /healthz", "Connection: close"))
        return statuses(read_all(client)) == [200]


def submit(service: Service) -> None:
    """Have a job accepted and shown."""
    body = (json.dumps(prompt("Hello")) + "\n").encode()
    kind = {"Content-Type": "application/jsonl"}
    answer = service.http.post(f"{service.url}{REQUESTS}", content=body, headers=kind)
    assert answer.status_code == 200, answer.text
    assert service.get(answer.json()["request_id"])["request_id"]


@pytest.fixture(autouse=True)
def _recovers(service: Service) -> Iterator[None]:
    """Before each test and within ten seconds after it, a job is accepted; memory is as before."""
    until(lambda: is_well(service), "room for a connection", 10)
    submit(service)
    before = resident_bytes(service)
    yield
    until(lambda: is_well(service), "recovery", 10)
    submit(service)
    assert resident_bytes(service) - before < GROWTH_BYTES_MAX


def test_a_thousand_connections_are_bounded(service: Service) -> None:
    """Beyond the limit each is told 503 and closed at once; none of those within it is harmed."""
    with many(service, CLIENTS) as clients:
        turned_away = 0
        waiting = set(clients)
        # Those within the limit say nothing either, and get 408 only when their time is over.
        while len(waiting) > CONNECTIONS_MAX:
            readable, _, _ = select.select(list(waiting), [], [], PATIENCE_SECONDS)
            assert readable
            for client in readable:
                waiting.discard(client)
                answer = read_all(client)
                turned_away += b"too_many_connections" in answer
                assert statuses(answer) in ([503], [408]), answer
                if statuses(answer) == [503]:
                    assert b"retry-after: 1" in answer.lower()
        assert turned_away >= CLIENTS - 2 * CONNECTIONS_MAX


def test_a_connection_within_the_limit_is_served_in_a_flood(service: Service) -> None:
    """Who is connected is served while others are turned away."""
    with connect(service) as early, many(service, CLIENTS // 2):
        early.sendall(head(service, "GET /healthz", "Connection: close"))
        assert statuses(read_all(early)) == [200]


@pytest.mark.parametrize("announced", ["Content-Length: 1073741824", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("key", ["pk_nobody", ""])
def test_a_thousand_gigabytes_of_strangers_cost_nothing(
    service: Service, key: str, announced: str
) -> None:
    """A thousand claims of a gigabyte without a good key are refused by their heads."""
    sent = head(service, f"POST {REQUESTS}", announced, key=key)
    for _ in range(CLIENTS // 100):
        with many(service, 100) as clients:
            for client in clients:
                client.sendall(sent)
            assert {tuple(statuses(read_all(client))) for client in clients} == {(401,)}


@pytest.mark.parametrize("path", ["/requests", "/uploads"])
def test_claims_of_too_much_cost_nothing(service: Service, path: str) -> None:
    """The same with a good key and a length beyond the limit, a few hundred times."""
    fields = ("Content-Length: 99999999999", "Upload-Length: 99999999999", "Upload-Complete: ?0")
    sent = head(service, f"POST {BASE}{path}", "Content-Type: application/jsonl", *fields)
    seen = set()
    # Fewer, because each is a refusal that the audit log keeps.
    for _ in range(2):
        with many(service, 100) as clients:
            for client in clients:
                client.sendall(sent)
            seen |= {tuple(statuses(read_all(client))) for client in clients}
    # More than so many a second are refused before anything is judged.
    assert seen <= {(413,), (429,)}


def test_uploads_in_numbers_are_refused_and_forgotten(service: Service) -> None:
    """Of many uploads that never come, some get a place, the others 503, and all end in time."""
    fields = ("Content-Type: application/jsonl", "Content-Length: 1000000")
    sent = head(service, f"POST {REQUESTS}", *fields)
    answers: list[int] = []
    for _ in range(5):
        with many(service, 200) as clients:
            for client in clients:
                client.sendall(sent)
            answers += [status for client in clients for status in statuses(read_all(client))]
    assert len(answers) == CLIENTS
    assert set(answers) <= {408, 429, 503}
    assert 503 in answers
    until(lambda: not [name for name in service.files() if "incoming" in name], "a clean spool")


@pytest.mark.parametrize("line", ["GET /healthz", f"GET {REQUESTS}", "GET /nowhere"])
def test_ten_thousand_requests_in_one_go_are_cut(service: Service, line: str) -> None:
    """Who sends ten thousand requests before it reads an answer is cut, at a bounded cost."""
    with connect(service) as client:
        try:
            client.sendall(head(service, line) * 10_000)
        except ConnectionError:
            assert is_well(service)
        assert len(statuses(read_all(client))) < 1_000
