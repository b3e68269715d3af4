"""What must hold once all is at rest, judged by the emulator's log and by what clients received.

The numbers are those of the invariants in docs/reliability.md. Our own database is only asked for
what is about it: the ledger (6), the moves of a job (7) and whose bytes are stored (11).
"""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
from standardwebhooks import Webhook, WebhookVerificationError
from tests.crash.client import ENDED, MODEL, Client, Seen, Try
from tests.crash.hook import Received
from tests.crash.rows import rows

from penstock.core.job import name_of_round
from penstock.core.models import SEED_CATALOGUE
from penstock.core.money import micro_from_pico
from penstock.core.state import TERMINAL, TRANSITIONS, JobState

Json = dict[str, Any]

PROVIDER_ERRORS: Final = frozenset({"cancelled"})
"""The only kind of error that a line may have in these stories."""

_ORDER: Final = {"queued": 0, "processing": 1, "success": 2, "failed": 2, "cancelled": 2}

LOOKS_MAX: Final = 100
LOOK_SECONDS: Final = 0.05
_LOOK: Final = threading.Event()
"""Never set: another process closes its files without telling."""

_EXPECTED: Final = '"receiver_lost: '
"""What a server logs whose receiving process was killed alone."""

_STATE_OF_EVENT: Final = {
    "accepted": JobState.ACCEPTED,
    "intent": JobState.SUBMITTING,
    "created": JobState.RUNNING,
    "adopted": JobState.RUNNING,
    "retrying": JobState.ACCEPTED,
    **{state.value: state for state in JobState},
}


class Finding(msgspec.Struct, frozen=True):
    """Something that must not be."""

    kind: str
    text: str


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known."""

    client: Client
    records: list[Json]
    """All jobs, as the last server lists them."""
    outputs: dict[str, bytes]
    events: list[Json]
    """The emulator's log."""
    objects: list[str]
    """The names of what lies in the bucket."""
    data: Path
    logs: list[Path]
    received: list[Received]
    """What was told to webhooks."""
    secrets: list[str]
    server_pid: int


def judge(evidence: Evidence) -> list[Finding]:
    """Return everything that is wrong."""
    return [finding for check in _CHECKS for finding in check(evidence)]


def _acknowledged(evidence: Evidence) -> Iterator[Finding]:
    """1, 2 and 8: all that was acknowledged exists, once, and nothing that nobody asked for."""
    known = {record["request_id"]: record for record in evidence.records}
    for one in evidence.client.tries:
        if one.request_id is not None and one.request_id not in known:
            yield Finding("1: lost", f"{one.tag} was acknowledged as {one.request_id}")
    tags = Counter(_tag(record) for record in evidence.records)
    asked = {one.tag for one in evidence.client.tries}
    for tag, count in tags.items():
        if tag not in asked or count > 1:
            yield Finding("2: unexpected", f"{count} jobs of {tag}")
    for refusal in evidence.client.refusals:
        yield Finding("2: unexpected", f"a good request was answered {refusal}")


def _told(evidence: Evidence) -> Iterator[Finding]:
    """9: each end is told, the same id is the same body, and every signature is good."""
    hooks = list(evidence.client.hooks.values())
    bodies: dict[str, bytes] = {}
    for each in evidence.received:
        if bodies.setdefault(each.id, each.body) != each.body:
            yield Finding("9: webhook", f"{each.id} came with two bodies")
        try:
            for secret in hooks:
                Webhook(secret).verify(each.body, dict(each.headers))
        except WebhookVerificationError as error:
            yield Finding("9: webhook", f"{each.id}: {error}")
    told = Counter(json.loads(body)["data"]["request_id"] for body in bodies.values())
    for one in evidence.client.tries:
        if one.is_told and one.request_id is not None and told[one.request_id] != len(hooks):
            yield Finding("9: webhook", f"{one.tag} was told {told[one.request_id]} times")


def _endings(evidence: Evidence) -> Iterator[Finding]:
    """1: each job has one end, which its client can understand."""
    tries = {one.tag: one for one in evidence.client.tries}
    for record in evidence.records:
        one = tries.get(_tag(record))
        if one is not None and record["status"] not in one.may_end:
            outcome = record["outcome"] or {}
            text = f"{one.tag} is {record['status']}: {record['status_detail']} {outcome}"
            yield Finding("1: wrong end", text[:400])


def _moves(evidence: Evidence) -> Iterator[Finding]:
    """1 and 7: what a client sees of a job goes forward, and its end never changes."""
    last: dict[str, Seen] = {}
    retried = {one.request_id for one in evidence.client.tries if one.wants_retry}
    for seen in evidence.client.journal:
        before = last.get(seen.request_id)
        # Who retries a job sees it run again.
        if before is not None and seen.request_id not in retried:
            if _ORDER[seen.status] < _ORDER[before.status]:
                yield Finding("7: backwards", f"{before} then {seen}")
            if before.status in ENDED and seen.status != before.status:
                yield Finding("1: two ends", f"{before} then {seen}")
            if seen.updated_at < before.updated_at:
                yield Finding("7: backwards", f"updated_at: {before} then {seen}")
        last[seen.request_id] = seen


def _history(evidence: Evidence) -> Iterator[Finding]:
    """7: a job's events are a way through the graph of states, with one end."""
    events: dict[str, list[Json]] = {}
    for event in rows(evidence.data, "SELECT job_id, at, kind FROM events ORDER BY id"):
        events.setdefault(event["job_id"], []).append(event)
    for job_id, happened in events.items():
        kinds = [one["kind"] for one in happened]
        states = [_STATE_OF_EVENT[kind] for kind in kinds if kind in _STATE_OF_EVENT]
        for before, after in pairwise(states):
            if after not in TRANSITIONS[before]:
                yield Finding("7: wrong state", f"{job_id} went from {before} to {after}")
        left = [before for before, after in pairwise(states) if after is JobState.ACCEPTED]
        ends = [state for state in states if state in TERMINAL]
        if ends != [state for state in left if state in TERMINAL] + states[-1:]:
            yield Finding("1: two ends", f"{job_id}: {states}")


def _payment(evidence: Evidence) -> Iterator[Finding]:
    """2 and 3: no provider job unasked for, none paid twice, none posted twice."""
    finished = _finished(evidence)
    owners = _owners(evidence)
    paid: Counter[str] = Counter()
    for event in finished.values():
        label = event["labels"].get("penstock-job", "")
        if label not in owners:
            yield Finding("2: unexpected", f"a provider job for {label!r}")
        paid[label] += any(event["usage"].values())
    for label, count in paid.items():
        if count > 1:
            yield Finding("3: paid twice", f"{label}: {count} provider jobs")
    sums: Counter[str] = Counter()
    for label, count in paid.items():
        sums[owners.get(label, "")] += count
    for record in evidence.records:
        job_id = record["request_id"]
        if record["status"] == "success" and not sums[job_id]:
            yield Finding("3: not paid", f"{job_id} succeeded with {sums[job_id]} provider jobs")
    names = Counter(one["displayName"] for one in evidence.events if one["event"] == "job_created")
    intents = Counter(
        f"penstock-{row['job_id']}-a{row['number']}"
        for row in rows(evidence.data, "SELECT job_id, number FROM attempts")
    )
    for name, count in (names - intents).items():
        yield Finding("3: posted twice", f"{name}: {count} more than there are intents")


def _money(evidence: Evidence) -> Iterator[Finding]:
    """6: billed is what the provider's log says of the one job that was kept, once."""
    finished = _finished(evidence)
    entries: dict[str, list[Json]] = {}
    for entry in rows(evidence.data, "SELECT * FROM ledger WHERE kind = 'usage'"):
        entries.setdefault(entry["job_id"], []).append(entry)
    owners = _owners(evidence)
    used: dict[str, list[tuple[int, int, int]]] = {}
    for event in finished.values():
        usage = event["usage"]
        if any(usage.values()):
            tokens = usage["candidatesTokenCount"] + usage["thoughtsTokenCount"]
            job_id = owners.get(event["labels"]["penstock-job"], "")
            used.setdefault(job_id, []).append(_bill(usage["promptTokenCount"], tokens))
    for record in evidence.records:
        job_id = record["request_id"]
        mine = entries.get(job_id, [])
        billed = [
            (one["prompt_tokens"], one["output_tokens"], one["micro_dollars"]) for one in mine
        ]
        wanted = used.get(job_id, [])
        rounds = {one["round"] for one in mine}
        if _sum(billed) != _sum(wanted) or len(billed) > len(rounds):
            yield Finding("6: misbilled", f"{job_id}: billed {billed}, used {wanted}")
    for job_id in set(entries) - {record["request_id"] for record in evidence.records}:
        yield Finding("6: misbilled", f"{job_id} does not exist")


_LEFT: Final = """SELECT held.job_id, held.round FROM ledger held
    LEFT JOIN ledger back ON back.job_id = held.job_id AND back.round = held.round
        AND back.kind = 'refunded'
    LEFT JOIN ledger used ON used.job_id = held.job_id AND used.round = held.round
        AND used.kind = 'usage'
    WHERE held.kind = 'reserved' AND held.micro_dollars != coalesce(back.micro_dollars, -1)
        + min(held.micro_dollars, coalesce(used.micro_dollars, 0))"""
"""Rounds whose entries in the ledger do not add up."""


def _quotas(evidence: Evidence) -> Iterator[Finding]:
    """14: nothing is reserved at rest, and what is counted as used is the sum over the jobs."""
    counted = rows(
        evidence.data,
        "SELECT sum(jobs) AS jobs, sum(lines) AS lines, sum(bytes) AS bytes, "
        "sum(reserved_micro_dollars) AS reserved, sum(spent_micro_dollars) AS spent FROM usage",
    )
    real = rows(
        evidence.data,
        "SELECT count(*) AS jobs, sum(line_count) AS lines, "
        "sum(input_bytes + coalesce(output_bytes, 0)) AS bytes, 0 AS reserved, "
        "sum(coalesce(cost_micro_dollars, 0)) AS spent FROM jobs WHERE parent_id IS NULL",
    )
    if counted != real:
        yield Finding("14: quota", f"counted {counted}, jobs have {real}")
    for row in rows(evidence.data, _LEFT):
        yield Finding("14: quota", f"{row} was reserved and is neither billed nor given back")


def _owners(evidence: Evidence) -> dict[str, str]:
    """Return the job of each label that may be paid: of its rounds, and of its shards."""
    return {
        name_of_round(row["id"], number): row["parent_id"] or row["id"]
        for row in rows(evidence.data, "SELECT id, parent_id, round FROM jobs")
        for number in range(1, row["round"] + 1)
    }


def _sum(bills: list[tuple[int, int, int]]) -> tuple[int, ...]:
    return tuple(sum(column) for column in zip((0, 0, 0), *bills, strict=True))


def _bill(prompt_tokens: int, output_tokens: int) -> tuple[int, int, int]:
    """Return what the ledger must say of so many tokens; none is cached or special."""
    price = SEED_CATALOGUE[MODEL].price
    if price is None:
        raise ValueError(f"{MODEL} has no price")
    pico_dollars = prompt_tokens * price.input + output_tokens * price.output
    return prompt_tokens, output_tokens, micro_from_pico(pico_dollars)


def _lines(evidence: Evidence) -> Iterator[Finding]:
    """4 and 5: line k answers line k, each with an answer or an error of the closed list."""
    tries = {one.tag: one for one in evidence.client.tries}
    for record in evidence.records:
        one = tries.get(_tag(record))
        output = evidence.outputs.get(record["request_id"])
        if one is None:
            continue
        if output is None:
            if record["status"] == "success":
                yield Finding("4: no output", one.tag)
            continue
        yield from _output(one, record, output)


def _output(one: Try, record: Json, output: bytes) -> Iterator[Finding]:
    lines = [json.loads(line) for line in output.splitlines()]
    if len(lines) != len(one.nonces):
        yield Finding("4: wrong lines", f"{one.tag} has {len(lines)} of {len(one.nonces)}")
        return
    for number, (line, nonce) in enumerate(zip(lines, one.nonces, strict=True)):
        prompt = line["request"]["contents"][0]["parts"][0]["text"]
        if line["id"] != nonce or not prompt.startswith(nonce):
            yield Finding("4: wrong lines", f"line {number} of {one.tag} is {line['id']}")
        code = _code(line["status"])
        if code and (record["status"] != "cancelled" or code not in PROVIDER_ERRORS):
            yield Finding("5: wrong error", f"line {number} of {one.tag}: {line['status']}")
        if not code and not line["response"].get("candidates"):
            yield Finding("4: wrong lines", f"line {number} of {one.tag} has no answer")


def _code(status: str) -> str:
    """Return the code of our own error in a line's status; the whole text if it is not ours."""
    if not status:
        return ""
    at = status.find('{"error":')
    return str(json.loads(status[at:])["error"]["code"]) if at >= 0 else status


def _bytes(evidence: Evidence) -> Iterator[Finding]:
    """2 and 11: what is stored, here and in the bucket, belongs to jobs that exist."""
    known = {row["id"] for row in rows(evidence.data, "SELECT id FROM jobs")}
    for path in (evidence.data / "jobs").iterdir():
        if path.name not in known:
            yield Finding("11: orphan", f"jobs/{path.name} belongs to nobody")
    for row in rows(evidence.data, "SELECT * FROM jobs"):
        yield from _bytes_of(evidence, row)
    for path in (evidence.data / "incoming").iterdir():
        yield Finding("11: orphan", f"incoming/{path.name} is nobody's")
    for name in evidence.objects:
        if name.split("/")[1] not in known:
            yield Finding("2: unexpected", f"the object {name} belongs to nobody")


def _bytes_of(evidence: Evidence, row: Json) -> Iterator[Finding]:
    folder = evidence.data / "jobs" / row["id"]
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    wanted = _files(row) if row["id"] in evidence.outputs else _inputs(row)
    if wanted - names:
        yield Finding("11: no bytes", f"{row['id']} lacks {sorted(wanted - names)}")
    if names - wanted:
        yield Finding("11: orphan", f"{row['id']} has {sorted(names - wanted)}, too")


def _inputs(row: Json) -> set[str]:
    """Return the files that a job needs; a shard reads its parent's."""
    if row["parent_id"]:
        return set()
    return {"input.jsonl", "input.idx", *(["twins"] if row["twin_count"] else [])}


def _files(row: Json) -> set[str]:
    """Return all files of a job with an output."""
    return _inputs(row) | {row["output_name"] or "output.jsonl", row["index_name"] or "input.idx"}


def _secrets(evidence: Evidence) -> Iterator[Finding]:
    """12: no key and no secret in a log, and no server's secret in an answer."""
    for path in evidence.logs:
        text = path.read_text(encoding="utf-8")
        # The first key is printed once, on purpose, to standard output.
        hidden = [*evidence.secrets, *([evidence.client.key] if path.suffix == ".log" else [])]
        for secret in hidden:
            if secret in text:
                yield Finding("12: secret", f"{path.name} shows one that begins {secret[:12]}")
    for secret in (*evidence.secrets, evidence.client.key):
        if secret.encode() in evidence.client.received:
            yield Finding("12: secret", f"an answer shows one that begins {secret[:12]}")


def _errors(evidence: Evidence) -> Iterator[Finding]:
    """16: nobody met an error that nobody expected."""
    for path in evidence.logs:
        if path.suffix != ".log":
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            is_error = '"level": "error"' in line or line.startswith("Traceback")
            if is_error and _EXPECTED not in line:
                yield Finding("16: error", line[:2000])


def _resources(evidence: Evidence) -> Iterator[Finding]:
    """16: the server at rest has no file of a job open, and one child, which receives."""
    looks = 0
    # The last download's file is closed a moment after its last byte was received.
    while (held := _held(evidence.server_pid)) and looks < LOOKS_MAX:
        looks += 1
        _LOOK.wait(LOOK_SECONDS)
    for path in held:
        yield Finding("16: resources", f"the server at rest holds {path}")
    tasks = Path(f"/proc/{evidence.server_pid}/task/{evidence.server_pid}/children")
    children = tasks.read_text(encoding="ascii").split()
    if len(children) > 1:
        yield Finding("16: resources", f"the server at rest has the children {children}")


def _held(pid: int) -> list[str]:
    """Return the files of jobs that the process has open."""
    held = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # It may be closed while we look.
        with suppress(FileNotFoundError):
            path = str(link.readlink())
            if "/data/jobs/" in path or "/data/incoming/" in path:
                held.append(path)
    return held


def _finished(evidence: Evidence) -> dict[str, Json]:
    """Return the last event of each provider job that ended."""
    return {one["id"]: one for one in evidence.events if one["event"] == "job_finished"}


def _tag(record: Json) -> str:
    return str(record["payload"].get("tag"))


_CHECKS: Final = (
    _acknowledged,
    _endings,
    _moves,
    _history,
    _payment,
    _money,
    _quotas,
    _told,
    _lines,
    _bytes,
    _secrets,
    _errors,
    _resources,
)
