"""Options of a submission on the wire, in one piece and in several."""

from decimal import Decimal
from io import BytesIO
from urllib.parse import parse_qs

from tests.client.kinds import Connect
from tests.client.stub import Reply, Stub, job

from penstock.client.options import query_of
from penstock.client.pieces import PIECES_FROM_BYTES


def test_options_are_written_as_the_server_reads_them() -> None:
    """Dollars in digits whatever they were, Booleans in words, outcomes with commas."""
    assert query_of({}) == {}
    assert query_of({"max_cost_usd": Decimal("12.50"), "deduplicate": False}) == {
        "max_cost_usd": "12.50",
        "deduplicate": "false",
    }
    assert query_of({"max_cost_usd": 1e-6, "deduplicate": True}) == {
        "max_cost_usd": "0.000001",
        "deduplicate": "true",
    }
    assert query_of({"max_cost_usd": "3", "retry_outcomes": ["error", "blocked"]}) == {
        "max_cost_usd": "3",
        "retry_outcomes": "error,blocked",
    }
    assert query_of({"shards": 2, "retry_attempts": 0, "on_invalid": "quarantine"}) == {
        "shards": "2",
        "retry_attempts": "0",
        "on_invalid": "quarantine",
    }


def test_a_large_file_takes_its_options_along(connect: Connect, stub: Stub) -> None:
    """They are in the query of the upload's creation."""
    stub.on("POST", "/uploads", Reply(status=201, headers={"Location": "/x/uploads/upl_1"}))
    stub.on("PATCH", "/uploads/upl_1", job())
    with connect(stub) as client:
        client.submit(BytesIO(b"x" * PIECES_FROM_BYTES), shards=3, model="m")
    assert parse_qs(stub.seen[0].path.partition("?")[2]) == {"model": ["m"], "shards": ["3"]}


def test_a_judgement_says_how_far_it_is(connect: Connect, stub: Stub) -> None:
    """Progress is told, and what is judged is read again when the server was busy."""
    stub.on("POST", "/requests", Reply(status=503), Reply(content=b'{"valid":true}'))
    told: list[tuple[int, int | None]] = []
    with connect(stub) as client:
        found = client.validate(
            BytesIO(b"12345"), on_progress=lambda sent, size: told.append((sent, size))
        )
    assert found.valid
    assert told == [(5, 5), (5, 5)]
    assert [seen.body for seen in stub.seen] == [b"12345", b"12345"]
