"""Shards: a job that is too large for the provider becomes several provider jobs and one output."""

from typing import Any

import orjson
import pytest
from tests.lifecycle.fakes import (
    Create,
    Fate,
    Killed,
    World,
    input_of,
    ledger,
    mortal,
)
from tests.lifecycle.whole import (
    SELDOM,
    Answering,
    files_of,
    go_on,
    live,
    mended,
    plans,
    texts_of,
)

from penstock.blobs.local import LocalBlobs
from penstock.core.job import Job, shard_id
from penstock.core.limits import Limits
from penstock.core.options import Options, RetryPolicy
from penstock.core.state import TERMINAL, JobState
from penstock.errors import BlobError, ProviderRefused
from penstock.lifecycle.join import join
from penstock.lifecycle.prepare import prepare
from penstock.lifecycle.prune import prune
from penstock.lifecycle.wait import wait
from penstock.store.jobs import Page
from penstock.store.store import Store

TEXTS = ["a", "b", "c", "d", "e"]
GOOD = [f"answer to {text}" for text in TEXTS]
THREE = Limits(provider_lines_max=2)
SLICES = 4
"""Tests into which the points of death are dealt."""

POINTS_MIN = 100
"""A life of two shards and a second round has more points than this."""

ONCE = Options(retry=RetryPolicy(attempts=0))


@pytest.fixture(autouse=True)
def _with_rounds(world: World) -> None:
    world.limits = Limits()


async def cut(world: World, limits: Limits = THREE, **changes: object) -> Job:
    """Commit a job and prepare it."""
    job = await world.with_input(input_of(TEXTS), **changes)
    await prepare(world.ports(limits=limits), job.id)
    return await world.now(job)


async def ranges(world: World, job: Job) -> list[tuple[int | None, int | None]]:
    """The lines of each shard."""
    return [(one.first_line, one.last_line) for one in await world.jobs.shards_of(job.id)]


# -- cutting -------------------------------------------------------------------------------------


async def test_too_many_lines_are_cut(world: World) -> None:
    """Each shard is a job of its own, prepared, with a range of lines; the parent waits."""
    job = await cut(world)
    assert (job.state, job.provider_job) == (JobState.RUNNING, "shards/3")
    assert job.waits_for_shards
    assert await ranges(world, job) == [(1, 2), (3, 4), (5, 5)]
    shards = await world.jobs.shards_of(job.id)
    assert [one.id for one in shards] == [shard_id(job.id, number) for number in (1, 2, 3)]
    assert {(one.state, one.parent_id, one.attempt) for one in shards} == {
        (JobState.PREPARED, job.id, 0)
    }
    sent = [world.bucket.objects[(one.provider_input or "")[10:]] for one in shards]
    assert [len(data.splitlines()) for data in sent] == [2, 2, 1]
    assert await world.kinds(job) == ["accepted", "sharded", "running"]


async def test_too_many_bytes_are_cut(world: World) -> None:
    """An object ends where the next line would bring it over the provider's limit."""
    job = await world.with_input(input_of(TEXTS))
    await prepare(world.ports(), job.id)
    (whole,) = world.bucket.objects.values()
    line_bytes = len(whole) // len(TEXTS)
    exact = await cut(world, Limits(provider_bytes_max=len(whole)))
    assert exact.state is JobState.PREPARED
    less = await cut(world, Limits(provider_bytes_max=len(whole) - 1))
    assert await ranges(world, less) == [(1, 4), (5, 5)]
    least = await cut(world, Limits(provider_bytes_max=line_bytes))
    assert await ranges(world, least) == [(n, n) for n in range(1, 6)]


@pytest.mark.parametrize(
    ("shards", "expected"),
    [
        (2, [(1, 3), (4, 5)]),
        (3, [(1, 2), (3, 4), (5, 5)]),
        (5, [(n, n) for n in range(1, 6)]),
        (20, [(n, n) for n in range(1, 6)]),
    ],
)
async def test_an_owner_can_ask_for_shards(
    world: World, shards: int, expected: list[tuple[int, int]]
) -> None:
    """The lines are cut evenly, and never into more shards than there are lines."""
    job = await cut(world, Limits(), options=Options(shards=shards))
    assert await ranges(world, job) == expected


async def test_each_shard_has_leaders_of_its_own(world: World) -> None:
    """Identical lines are sent once a shard, and no line waits for another shard's answer."""
    provider = Answering(world)
    job = await world.with_input(input_of(["x", "x", "x", "y", "x"]), options=Options(shards=2))
    job = await live(world, world.ports(provider=provider), job)
    assert texts_of(world, job) == [f"answer to {text}" for text in "xxxyx"]
    assert provider.sent == {"x": 2, "y": 1}
    assert job.twin_count == 2
    assert [post.label for post in provider.posts] == [
        one.id for one in await world.jobs.shards_of(job.id)
    ]


async def test_a_whole_job_of_shards(world: World, quick_store: Store) -> None:
    """One output in input order, one bill, one end, and no file of the shards is left."""
    provider = Answering(world)
    ports = world.ports(provider=provider, limits=THREE)
    job = await world.with_input(input_of(TEXTS))
    job = await live(world, ports, job)
    assert (job.state, texts_of(world, job)) == (JobState.SUCCEEDED, GOOD)
    assert job.status_detail == "All lines were answered."
    assert job.counts is not None
    assert (job.counts.ok, job.counts.prompt_tokens) == (5, 10)
    shards = await world.jobs.shards_of(job.id)
    assert job.cost_micro_dollars == sum(one.cost_micro_dollars or 0 for one in shards)
    assert len(await ledger(quick_store)) == 1
    assert [files_of(world, one) for one in shards] == [[], [], []]
    assert len(files_of(world, job)) == 4
    assert job.running_since == min(one.running_since or 0 for one in shards)


@pytest.mark.parametrize(
    ("limits", "options"),
    [(THREE, Options()), (Limits(), Options(shards=3))],
    ids=["full", "asked"],
)
async def test_a_failed_line_of_a_shard_is_sent_again_by_its_parent(
    world: World, limits: Limits, options: Options
) -> None:
    """Shards try nothing again; the parent's next round has the failed lines of all of them."""
    provider = Answering(world, mended("b", "e"))
    ports = world.ports(provider=provider, limits=limits)
    job = await world.with_input(input_of(TEXTS), options=options)
    job = await live(world, ports, job)
    assert (job.round, texts_of(world, job)) == (2, GOOD)
    assert provider.sent == {"a": 1, "b": 2, "c": 1, "d": 1, "e": 2}
    assert len(provider.posts) == 4
    assert provider.posts[-1].label == f"{job.id}-r2"


async def test_a_round_that_is_too_large_leaves_the_rest(world: World) -> None:
    """A later round is one provider job; what does not fit stays as it was, and can be sent."""
    provider = Answering(world, mended("a", "b", "c"))
    job = await world.with_input(input_of(TEXTS))
    job = await live(world, world.ports(provider=provider, limits=THREE), job)
    assert (job.round, texts_of(world, job)) == (2, [*GOOD[:2], "503", *GOOD[3:]])
    assert provider.sent["c"] == 1


# -- ends ----------------------------------------------------------------------------------------


async def test_lines_of_a_failed_shard_say_why(world: World) -> None:
    """One shard is refused: its lines are errors of its kind, the others have their answers."""
    provider = Answering(world)
    plans(provider, Create(), Create(lands_after=None, error=ProviderRefused("not this one")))
    ports = world.ports(provider=provider, limits=THREE)
    job = await live(world, ports, await world.with_input(input_of(TEXTS), options=ONCE))
    assert job.state is JobState.SUCCEEDED
    assert texts_of(world, job) == [*GOOD[:2], "provider_refused", "provider_refused", GOOD[4]]
    assert job.status_detail == "2 lines failed; their status says why."


async def test_a_job_fails_if_all_of_its_shards_do(world: World) -> None:
    """Then there is no output, and the reason is that of the first."""
    provider = Answering(world)
    refused = [Create(lands_after=None, error=ProviderRefused(f"no {n}")) for n in range(3)]
    plans(provider, *refused)
    ports = world.ports(provider=provider, limits=THREE)
    job = await live(world, ports, await world.with_input(input_of(TEXTS)))
    assert (job.state, job.error_code) == (JobState.FAILED, "provider_refused")
    assert (job.error_message, job.output_name) == ("no 0", None)


async def test_a_cancel_is_passed_on(world: World) -> None:
    """All shards hear of it at once; what they had answered is delivered."""
    provider = Answering(world)
    ports = world.ports(provider=provider, limits=THREE)
    job = await cut(world)
    first = (await world.jobs.shards_of(job.id))[0]
    while (await world.now(first)).state not in TERMINAL:
        await go_on(world, ports, await world.now(job))
    assert await world.cancel(job)()
    open_shards = [one for one in await world.jobs.shards_of(job.id) if one.state not in TERMINAL]
    assert {one.cancel_requested_at for one in open_shards} == {world.clock.now()}
    job = await live(world, ports, job)
    assert job.state is JobState.CANCELLED
    assert texts_of(world, job) == [*GOOD[:2], "cancelled", "cancelled", "cancelled"]
    assert job.counts is not None
    assert (job.counts.ok, job.counts.cancelled) == (2, 3)


async def test_a_cancel_before_anything_ran_leaves_no_output(world: World) -> None:
    """A wish that was written before the shards were made holds for them, too."""
    job = await world.with_input(input_of(TEXTS))
    ports = world.ports(limits=THREE)
    put = world.bucket.put
    asked: list[bool] = []

    async def cancelled(name: str, blocks: Any) -> Any:  # noqa: ANN401  # whatever the bucket takes
        if not asked:
            asked.append(bool(await world.cancel(job)()))
        return await put(name, blocks)

    world.bucket.put = cancelled  # type: ignore[method-assign]  # comes in the middle of the upload
    await prepare(ports, job.id)
    job = await live(world, ports, job)
    assert (job.state, job.output_name) == (JobState.CANCELLED, None)
    assert world.provider.posts == []


async def test_expired_shards_give_expired_lines(world: World) -> None:
    """A shard that waited too long ends by itself; its lines say that time ran out."""
    provider = Answering(world)
    ports = world.ports(provider=provider, limits=THREE)
    job = await cut(world)
    shards = await world.jobs.shards_of(job.id)
    for _ in range(2):
        await go_on(world, ports, await world.now(job))
    assert (await world.now(shards[0])).state is JobState.SUCCEEDED
    world.clock.advance(73 * 3600.0)
    job = await live(world, ports, job)
    assert job.state is JobState.SUCCEEDED
    assert set(texts_of(world, job)[2:]) == {"expired"}


async def test_shards_that_all_expired_fail_their_job(world: World) -> None:
    """Without any answer the job ends as any that expired."""
    job = await cut(world)
    world.clock.advance(73 * 3600.0)
    job = await live(world, world.ports(limits=THREE), job)
    assert (job.state, job.error_code) == (JobState.FAILED, "queue_expired")


# -- nobody sees them ----------------------------------------------------------------------------


async def test_no_tenant_sees_a_shard(world: World, quick_store: Store) -> None:
    """Lists, counts, quotas and looks know the parent alone; a shard cannot be cancelled alone."""
    job = await cut(world, name="nightly", labels={"team": "ads"})
    shard = (await world.jobs.shards_of(job.id))[0]
    assert (shard.name, shard.labels) == (None, {})
    for page in (Page(name="nightly"), Page(labels=(("team", "ads"),)), Page(id_prefix="req_")):
        assert [one.id for one in (await world.jobs.listed(job.org_id, page))[0]] == [job.id]
    assert await world.jobs.get(job.org_id, shard.id) is None
    assert [one.id for one in (await world.jobs.listed(job.org_id, Page()))[0]] == [job.id]
    states = frozenset({JobState.PREPARED, JobState.RUNNING})
    assert [one.id for one in (await world.jobs.listed(job.org_id, Page(states=states)))[0]] == [
        job.id
    ]
    assert (await world.jobs.listed(job.org_id, Page()))[1] == 1
    assert await world.jobs.linked(shard.id) is None
    assert not await world.jobs.request_cancel(job.org_id, shard.id, world.clock.now())
    report = await quick_store.usage.report(job.org_id, world.clock.now())
    assert (report.used.jobs_in_flight, report.used.lines_day) == (1, 5)


async def test_the_engine_works_on_shards_and_not_on_who_waits(world: World) -> None:
    """Shards are open jobs; a parent that waits needs nobody, and its workflow ends at once."""
    job = await cut(world)
    shards = await world.jobs.shards_of(job.id)
    assert {one.id for one in await world.jobs.open_jobs()} == {one.id for one in shards}
    await wait(world.ports(), job.id)
    assert world.clock.slept == []


async def test_shards_are_made_once(world: World) -> None:
    """Whoever prepared the same job a second time finds it gone, and adds nothing."""
    job = await cut(world)
    shards = await world.jobs.shards_of(job.id)
    assert not await world.jobs.begin_shards(job, shards, world.clock.now(), twin_count=0)
    assert len(await world.jobs.shards_of(job.id)) == 3


# -- deaths --------------------------------------------------------------------------------------


async def test_who_joins_too_late_leaves_nothing(world: World) -> None:
    """Of two who put the same shards together, the second one's output is removed."""
    provider = Answering(world)
    ports = world.ports(provider=provider, limits=THREE)
    job = await cut(world)
    while (await world.now(job)).state is not JobState.COLLECTING:
        await go_on(world, ports, await world.now(job))
    late = await world.now(job)

    class Slow(LocalBlobs):
        async def commit(self, job_id: str, parts: Any, *, is_again: bool = False) -> None:  # noqa: ANN401
            world.blobs = LocalBlobs(world.spool)
            await super().commit(job_id, parts, is_again=is_again)
            await join(world.ports(provider=provider, limits=THREE), late)

    world.blobs = Slow(world.spool)
    await join(world.ports(provider=provider, limits=THREE), late)
    job = await world.now(job)
    assert texts_of(world, job) == GOOD
    assert len(world.outputs(job)) == 1


async def test_files_of_shards_that_cannot_be_removed_stay_until_the_prune(world: World) -> None:
    """The job has ended well all the same, and the next prune finds them."""

    class Stubborn(LocalBlobs):
        async def remove_job(self, job_id: str) -> None:
            raise BlobError(f"{job_id} cannot be removed.")

    world.blobs = Stubborn(world.spool)
    provider = Answering(world)
    job = await world.with_input(input_of(TEXTS))
    job = await live(world, world.ports(provider=provider, limits=THREE), job)
    assert job.state is JobState.SUCCEEDED
    shards = await world.jobs.shards_of(job.id)
    assert all(files_of(world, one) for one in shards)
    world.blobs = LocalBlobs(world.spool)
    assert await prune(world.ports(), 1e18) == 6
    assert not any(files_of(world, one) for one in shards)
    assert texts_of(world, job) == GOOD


@pytest.mark.timeout(240)
@pytest.mark.parametrize("offset", range(SLICES))
async def test_killed_anywhere_with_shards(world: World, quick_store: Store, offset: int) -> None:
    """At each point of death shards and rounds go on, and no line is paid twice in a round."""
    point, was_killed = 1 + offset, True
    while was_killed:
        provider = Answering(world, mended("b"))
        job = await world.with_input(input_of(TEXTS), created_at=world.clock.now())
        limits = Limits(provider_lines_max=3)
        ports = world.ports(provider=provider, limits=limits, timing=SELDOM)
        was_killed = False
        try:
            await live(world, mortal(ports, Fate(point).point), job)
        except Killed:
            was_killed = True
        job = await live(world, ports, job)
        assert (job.state, job.round, texts_of(world, job)) == (JobState.SUCCEEDED, 2, GOOD)
        assert provider.sent == {"a": 1, "b": 2, "c": 1, "d": 1, "e": 1}
        assert len(await ledger(quick_store, job)) == 2
        assert len(await world.jobs.shards_of(job.id)) == 2
        point += SLICES
        world.clock.slept.clear()
    assert point > POINTS_MIN


async def test_the_input_of_a_shard_is_named_by_its_parents_keys(world: World) -> None:
    """Keys count the lines of the whole input, so no row can be taken for another shard's."""
    job = await cut(world)
    keys = []
    for one in await world.jobs.shards_of(job.id):
        data = world.bucket.objects[(one.provider_input or "")[10:]]
        keys += [orjson.loads(line)["key"][-6:] for line in data.splitlines()]
        assert one.line_tag == job.line_tag
    assert keys == [f"{number:06d}" for number in range(1, 6)]
