"""What must hold once all is at rest, judged by the provider's own log.

The numbers are those of the invariants in the reliability record: 1 and 15 nothing lost, 2 nothing
unexpected, 3 paid once, 4 and 5 the output, 6 money, 7 the states, 13 fencing.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec
import orjson
from tests.simulation.vertex import Run

from penstock.blobs.spool import INPUT
from penstock.core.job import Job, tag_of
from penstock.core.line import LineKey, Usage
from penstock.core.models import DEFAULT_MODEL, SEED_CATALOGUE, Price, cost_pico_dollars
from penstock.core.money import micro_from_pico
from penstock.core.state import TERMINAL, TRANSITIONS, JobState
from penstock.lifecycle.reconcile import display_name

if TYPE_CHECKING:
    from tests.simulation.world import World

PROMPT_TOKENS: Final = 2
"""What the provider counts for each prompt."""


class Finding(msgspec.Struct, frozen=True):
    """Something that must not be."""

    kind: str
    """lost, paid twice, misbilled, …"""
    text: str


def check(world: "World") -> list[Finding]:
    """Return everything that is wrong with a history."""
    findings = list(_acks(world))
    for job in world.jobs.rows.values():
        runs = [one for one in world.provider.runs if one.batch.label == job.id]
        findings += _ending(world, job)
        findings += _payment(world, job, runs)
        findings += _output(world, job, runs)
    findings += _quotas(world)
    findings += _states(world)
    findings += _strangers(world)
    return findings


def _acks(world: "World") -> Iterator[Finding]:
    for job_id in world.acked:
        if job_id not in world.jobs.rows:
            yield Finding("lost", f"1: {job_id} was acknowledged and does not exist")
    silent = set(range(len(world._chosen))) - set(world.acked.values())
    if silent:
        yield Finding("not live", f"15: the clients {silent} never got an answer")


def _ending(world: "World", job: Job) -> Iterator[Finding]:
    if job.state not in TERMINAL:
        yield Finding("lost", f"1, 15: {job.id} rests in {job.state}: {job.status_detail}")
    ends = [kind for kind, _ in world.jobs.history[job.id] if kind in set(TERMINAL)]
    if len(ends) > 1:
        yield Finding("ended twice", f"1: {job.id} ended as {ends}")
    if (job.id, INPUT) not in world.disk:
        yield Finding("lost", f"1: the input of {job.id} is gone")
    if job.state is JobState.FAILED and job.error_code == "internal":
        yield Finding("lost", f"1: {job.id} failed by our fault: {job.error_message}")


def _payment(world: "World", job: Job, runs: list[Run]) -> Iterator[Finding]:
    paid = [one for one in runs if one.has_input]
    names = [one.name for one in paid]
    if len(paid) > 1:
        if _is_providers_doing(paid):
            world.reach("provider itself made two that ran")
        else:
            yield Finding("paid twice", f"3: {job.id} has {names}")
    twins = [one for one in runs if one.name == job.provider_job or one.has_input]
    if paid and job.provider_job not in names and not _is_providers_doing(twins):
        yield Finding("paid in vain", f"3: {job.id} keeps {job.provider_job}, paid are {names}")
    if not paid and job.state in TERMINAL and not _may_be_free(world, job):
        yield Finding("not sent", f"3: {job.id} ended unpaid: {job.error_message}")
    posts = Counter(one.display_name for one in world.provider.posts if one.label == job.id)
    intents = {display_name(job.id, one) for one in world.jobs.tries[job.id]}
    for name, count in posts.items():
        if count > 1 or name not in intents:
            yield Finding("posted twice", f"3: {count} POSTs of {name}")


def _quotas(world: "World") -> Iterator[Finding]:
    jobs = world.jobs
    if jobs.reserved_micro_dollars != 0:
        yield Finding("misbilled", f"14: {jobs.reserved_micro_dollars} are reserved at rest")
    spent = sum(job.cost_micro_dollars or 0 for job in jobs.rows.values())
    if jobs.spent_micro_dollars != spent:
        yield Finding("misbilled", f"14: {jobs.spent_micro_dollars} are spent, jobs cost {spent}")


def _is_providers_doing(paid: list[Run]) -> bool:
    """Return whether all come from one POST: no gateway can prevent that, only cancel them."""
    return len({one.batch.display_name for one in paid}) == 1


def _may_be_free(world: "World", job: Job) -> bool:
    if job.id in world.provider.refused or job.state is JobState.CANCELLED:
        return True
    # Cancelled at the provider before it looked for its input.
    return job.cancel_requested_at is not None


def _output(world: "World", job: Job, runs: list[Run]) -> Iterator[Finding]:
    entries = [one for one in world.jobs.ledger if one.job_id == job.id]
    output = world.disk.get((job.id, job.output_name or ""))
    kept = next((one for one in runs if one.name == job.provider_job), None)
    if job.counts is None:
        if job.state is JobState.SUCCEEDED:
            yield Finding("wrong output", f"4: {job.id} succeeded without counts")
        if entries:
            yield Finding("misbilled", f"6: {job.id} is billed without an output")
        return
    if len(entries) != 1 or entries[0].micro_dollars != job.cost_micro_dollars:
        yield Finding("misbilled", f"6: {job.id} has {len(entries)} entries in the ledger")
    if output is None or kept is None:
        yield Finding("wrong output", f"4: {job.id} ended as {job.state} without its output")
        return
    if hashlib.sha256(output).hexdigest() != job.output_sha256:
        yield Finding("wrong output", f"5: the output of {job.id} is not what was recorded")
    yield from _lines(world, job, kept, output)
    cost = _cost_of(kept)
    if job.cost_micro_dollars != cost:
        yield Finding("misbilled", f"6: {job.id} costs {job.cost_micro_dollars}, not {cost}")


def _lines(world: "World", job: Job, kept: Run, output: bytes) -> Iterator[Finding]:
    texts = world.inputs_of[job.id].texts
    lines = output.splitlines()
    if len(lines) != len(texts):
        yield Finding("wrong output", f"4: {job.id} has {len(lines)} lines for {len(texts)}")
        return
    keys = LineKey(tag_of(job.id))
    for number, (line, text) in enumerate(zip(lines, texts, strict=True), start=1):
        row = orjson.loads(line)
        if row["request"]["contents"][0]["parts"][0]["text"] != text:
            yield Finding("wrong output", f"4: line {number} of {job.id} is another one")
        answer = b"answer to %s" % text.encode()
        was_answered = keys.of(number) in kept.rows
        if was_answered != (row["status"] == "") or was_answered != (answer in line):
            yield Finding("wrong output", f"4: line {number} of {job.id}: {row['status']!r}")


def _cost_of(kept: Run) -> int:
    price = SEED_CATALOGUE[DEFAULT_MODEL].price
    assert isinstance(price, Price)
    pico = sum(
        cost_pico_dollars(price, Usage(prompt_tokens=PROMPT_TOKENS, candidates_tokens=tokens))
        for tokens in kept.rows.values()
    )
    return micro_from_pico(pico)


def _states(world: "World") -> Iterator[Finding]:
    for job_id, before, after in world.jobs.moves:
        if after not in TRANSITIONS[before]:
            yield Finding("wrong state", f"7: {job_id} went from {before} to {after}")
    for text in world.stale_writes:
        yield Finding("stale write", f"13: {text}")


def _strangers(world: "World") -> Iterator[Finding]:
    for job_id in {one.label for one in world.provider.posts} - set(world.jobs.rows):
        yield Finding("unexpected", f"2: a provider job for {job_id}, which does not exist")
    for job_id in world.jobs.rows:
        if job_id not in world.inputs_of:
            yield Finding("unexpected", f"2: the job {job_id}, which no client asked for")
