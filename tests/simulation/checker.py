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
from penstock.core.job import Job, name_of_round, tag_of
from penstock.core.line import LineKey, Usage
from penstock.core.models import DEFAULT_MODEL, SEED_CATALOGUE, Price, cost_pico_dollars
from penstock.core.money import micro_from_pico
from penstock.core.state import SETTLED_FROM, TERMINAL, TRANSITIONS, JobState
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
        findings += _ending(world, job)
        if job.parent_id is None:
            legs = list(_legs(world, job))
            for leg in legs:
                findings += _payment(world, leg)
            findings += _output(world, job, legs)
    findings += _quotas(world)
    findings += _states(world)
    findings += _strangers(world)
    return findings


class Leg(msgspec.Struct, frozen=True):
    """A part of a job that is paid at most once: a round of it, or a shard of the first."""

    label: str
    row: Job
    """The job, or the shard."""
    round: int
    kept: str | None
    """The provider job whose answers count."""
    runs: list[Run]

    @property
    def answers(self) -> Run | None:
        """What the provider wrote."""
        return next((one for one in self.runs if one.name == self.kept), None)


def _legs(world: "World", job: Job) -> Iterator[Leg]:
    shards = [one for one in world.jobs.rows.values() if one.parent_id == job.id]
    parts = [(one, 1) for one in shards] or [(job, 1)]
    for row, number in parts + [(job, later) for later in range(2, job.round + 1)]:
        label = name_of_round(row.id, number)
        tries = [one for one in world.jobs.tries[row.id].values() if one.round == number]
        names = [one.provider_job for one in tries if one.provider_job is not None]
        runs = [one for one in world.provider.runs if one.batch.label == label]
        yield Leg(label, row, number, names[-1] if names else None, runs)


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
    if (job.input_id, INPUT) not in world.disk:
        yield Finding("lost", f"1: the input of {job.id} is gone")
    if job.state is JobState.FAILED and job.error_code == "internal":
        yield Finding("lost", f"1: {job.id} failed by our fault: {job.error_message}")


def _payment(world: "World", leg: Leg) -> Iterator[Finding]:
    job, runs = leg.row, leg.runs
    paid = [one for one in runs if one.has_input]
    names = [one.name for one in paid]
    if len(paid) > 1:
        if _is_providers_doing(paid):
            world.reach("provider itself made two that ran")
        else:
            yield Finding("paid twice", f"3: {leg.label} has {names}")
    twins = [one for one in runs if one.name == leg.kept or one.has_input]
    if paid and leg.kept not in names and not _is_providers_doing(twins):
        yield Finding("paid in vain", f"3: {leg.label} keeps {leg.kept}, paid are {names}")
    if not paid and job.state in TERMINAL and not _may_be_free(world, leg):
        yield Finding("not sent", f"3: {leg.label} ended unpaid: {job.error_message}")
    posts = Counter(one.display_name for one in world.provider.posts if one.label == leg.label)
    intents = {display_name(job.id, one) for one in world.jobs.tries[job.id]}
    for name, count in posts.items():
        if count > 1 or name not in intents:
            yield Finding("posted twice", f"3: {count} POSTs of {name}")


def _quotas(world: "World") -> Iterator[Finding]:
    jobs = world.jobs
    if jobs.reserved_micro_dollars != 0:
        yield Finding("misbilled", f"14: {jobs.reserved_micro_dollars} are reserved at rest")
    mine = [job for job in jobs.rows.values() if job.parent_id is None]
    spent = sum(job.cost_micro_dollars or 0 for job in mine)
    if jobs.spent_micro_dollars != spent:
        yield Finding("misbilled", f"14: {jobs.spent_micro_dollars} are spent, jobs cost {spent}")


def _is_providers_doing(paid: list[Run]) -> bool:
    """Return whether all come from one POST: no gateway can prevent that, only cancel them."""
    return len({one.batch.display_name for one in paid}) == 1


def _may_be_free(world: "World", leg: Leg) -> bool:
    if leg.label in world.provider.refused or leg.row.state is JobState.CANCELLED:
        return True
    # Cancelled at the provider before it looked for its input.
    return leg.row.cancel_requested_at is not None


def _output(world: "World", job: Job, legs: list[Leg]) -> Iterator[Finding]:
    entries = [one for one in world.jobs.ledger if one.job_id == job.id]
    output = world.disk.get((job.id, job.output_name or ""))
    kept = [leg for leg in legs if leg.answers is not None]
    if job.counts is None:
        if job.state is JobState.SUCCEEDED:
            yield Finding("wrong output", f"4: {job.id} succeeded without counts")
        if entries:
            yield Finding("misbilled", f"6: {job.id} is billed without an output")
        return
    billed = sum(one.micro_dollars or 0 for one in entries)
    if not 1 <= len(entries) <= job.round or billed != job.cost_micro_dollars:
        yield Finding("misbilled", f"6: {job.id} has {len(entries)} entries in the ledger")
    if output is None or not kept:
        yield Finding("wrong output", f"4: {job.id} ended as {job.state} without its output")
        return
    if hashlib.sha256(output).hexdigest() != job.output_sha256:
        yield Finding("wrong output", f"5: the output of {job.id} is not what was recorded")
    yield from _lines(world, job, kept, output)
    cost = sum(_cost_of(leg.answers) for leg in kept if leg.answers is not None)
    if job.cost_micro_dollars != cost:
        yield Finding("misbilled", f"6: {job.id} costs {job.cost_micro_dollars}, not {cost}")


def _lines(world: "World", job: Job, kept: list[Leg], output: bytes) -> Iterator[Finding]:
    texts = world.inputs_of[job.id].texts
    lines = output.splitlines()
    if len(lines) != len(texts):
        yield Finding("wrong output", f"4: {job.id} has {len(lines)} lines for {len(texts)}")
        return
    answered = {key for leg in kept if leg.answers is not None for key in leg.answers.rows}
    keys = [LineKey(tag_of(job.id, number)) for number in range(1, job.round + 1)]
    for number, (line, text) in enumerate(zip(lines, texts, strict=True), start=1):
        row = orjson.loads(line)
        if row["request"]["contents"][0]["parts"][0]["text"] != text:
            yield Finding("wrong output", f"4: line {number} of {job.id} is another one")
        answer = b"answer to %s" % text.encode()
        was_answered = any(one.of(number) in answered for one in keys)
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
        goes_back = world.jobs.rows[job_id].settled_state is after and before in SETTLED_FROM
        if after not in TRANSITIONS[before] and not goes_back:
            yield Finding("wrong state", f"7: {job_id} went from {before} to {after}")
    for text in world.stale_writes:
        yield Finding("stale write", f"13: {text}")


def _strangers(world: "World") -> Iterator[Finding]:
    rows = world.jobs.rows
    rounds = {
        name_of_round(job.id, number) for job in rows.values() for number in range(1, job.round + 1)
    }
    for label in {one.label for one in world.provider.posts} - rounds:
        yield Finding("unexpected", f"2: a provider job for {label}, which does not exist")
    for job_id, job in rows.items():
        if job.input_id not in world.inputs_of:
            yield Finding("unexpected", f"2: the job {job_id}, which no client asked for")
