"""The corpus of bad input through the application: what is answered, and that nothing stays."""

import json
from collections.abc import Mapping

import httpx2
import pytest
from tests.api.driver import BASE, Api, job_ids
from tests.corpus import (
    b1_base64,
    c1_compression,
    j1_grammar,
    j2_semantics,
    j3_framing,
    j4_contract,
    m1_multipart,
)
from tests.corpus.case import Case, family
from tests.corpus.doors import JSONL

from penstock.core.limits import Limits

pytestmark = pytest.mark.slow

STATUSES = {
    "input_too_large": 413,
    "envelope_too_large": 413,
    "line_too_long": 413,
    "too_many_lines": 413,
    "too_many_parts": 413,
    "too_many_members": 413,
    "compression_bomb": 413,
    "unsupported_media_type": 415,
}
"""Every other refusal is 400."""

BODY_BYTES_MAX = 3_000_000


def sent(case: Case) -> tuple[bytes, Mapping[str, str]]:
    """Return the body and the header fields of a case."""
    if case.kind == "B1":
        text = case.data.decode()
        return json.dumps({"payload": {"input_data": text}}).encode(), {}
    return case.data, case.head or JSONL


def verdict_of(answer: httpx2.Response) -> str:
    """Return the verdict that an answer tells."""
    body = answer.json()
    if answer.status_code == 200:
        return "ok"
    lines = [detail for detail in body.get("details", []) if "line" in detail]
    if not lines:
        return family(body["code"])
    listed = ",".join(f"{family(detail['code'])}@{detail['line']}" for detail in lines)
    more = body["details_total"] - len(lines)
    return f"{listed}+{more}" if more else listed


def fits(case: Case) -> bool:
    """Whether the application, with its limits as they are delivered, meets the verdict."""
    return (
        case.limits == Limits()
        and not case.is_streamed
        and len(case.data) < BODY_BYTES_MAX
        # The client states the true length by itself.
        and "content-length" not in case.head
    )


TABLES = {
    "J1": j1_grammar.CASES[::40],
    "J2": j2_semantics.CASES[::10],
    "J3": j3_framing.CASES[::4],
    "J4": j4_contract.CASES[::12],
    "B1": b1_base64.CASES[::5],
    "M1": m1_multipart.CASES[::4],
    "C1": c1_compression.CASES[::3],
}
"""A share of each class: all of them go through the same doors in tests/corpus."""


@pytest.mark.parametrize("kind", TABLES)
async def test_a_refusal_says_why_and_leaves_nothing(
    api: Api, acme: httpx2.AsyncClient, kind: str
) -> None:
    """Each case is answered by its status and verdict; only what is accepted is stored."""
    accepted: set[str] = set()
    for case in filter(fits, TABLES[kind]):
        body, head = sent(case)
        before = stored(api)
        answer = await acme.post(f"{BASE}/requests", content=body, headers=dict(head))
        wanted = case.verdict.partition(":")[0]
        assert verdict_of(answer) == wanted, case.id
        if answer.status_code == 200:
            accepted.add(answer.json()["request_id"])
            continue
        code = wanted.partition("@")[0]
        assert answer.status_code == STATUSES.get(code, 400), case.id
        assert answer.json()["error"]
        assert stored(api) == before, case.id
    assert await job_ids(api.store) == accepted
    assert accepted
    assert len(stored(api)) >= len(accepted)


def stored(api: Api) -> set[str]:
    """Every file below the folders for uploads and jobs."""
    root = api.spool.scratch("", "").parents[1]
    return {str(path) for path in root.rglob("*") if path.is_file()}
