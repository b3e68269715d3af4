import json
import random
from pathlib import Path

import pytest
from tests.wire_abuse.bending import bent_bytes, bent_json, drawn
from tests.wire_abuse.request_fuzzer import Fuzzer

REQUESTS = 2_000
"""`make fuzz-api` sends a hundred times as many."""


@pytest.mark.slow
async def test_bent_requests_are_answered_and_never_by_5xx(tmp_path: Path) -> None:
    """Two thousand bent requests to all operations: no 5xx, no hang, no key and no trace told."""
    fuzzer = Fuzzer(tmp_path, seed=5)
    async with fuzzer.running():
        report = await fuzzer.play(REQUESTS)
        known = {f"{each.method} {each.path}" for each in fuzzer._operations}
    assert not report.findings, report.findings[:5]
    assert report.requests == REQUESTS
    assert set(report.operations) == known
    # It reaches what is behind the door, too.
    assert sum(count for status, count in report.statuses.items() if status < 300) > REQUESTS // 20


def test_a_seed_draws_the_same_again() -> None:
    """The same number bends the same value in the same way."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}
    made = [
        (drawn(rng, schema, {}), bent_json(rng, {"a": [1, {"b": "x"}]}), bent_bytes(rng, b"hello"))
        for rng in map(random.Random, ("7:1", "7:1"))
    ]
    assert json.dumps(made[0][:2]) == json.dumps(made[1][:2])
    assert made[0][2] == made[1][2]
