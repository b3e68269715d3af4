"""peek: what the provider has so far, beside the polls and never in their way."""

import asyncio
import hashlib
import logging
from array import array
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.lifecycle.fakes import (
    CANCELLED,
    NAME,
    RUNNING,
    SUCCEEDED,
    Fate,
    Killed,
    ScriptedProvider,
    World,
    chunks_of,
    input_of,
    ledger,
    mortal,
    row_of,
    seen,
)

from penstock.blobs.bucket import Bucket
from penstock.blobs.store import Blobs
from penstock.core.job import Job, StopReason
from penstock.core.limits import Limits
from penstock.core.look import Look, is_wanted, look_of
from penstock.core.state import JobState
from penstock.errors import (
    BlobCorrupt,
    BlobMissing,
    DatabaseUnavailable,
    Problem,
    ProviderUnreachable,
)
from penstock.ingest.problems import PROBLEMS, pack_problem
from penstock.lifecycle import peek
from penstock.lifecycle.collect import collect
from penstock.lifecycle.peek import Looker, forget_look, look, whole_rows
from penstock.lifecycle.prune import prune_orphans
from penstock.lifecycle.twins import TWINS, pack_leaders
from penstock.lifecycle.wait import wait
from penstock.settings import Timing
from penstock.store import tables
from penstock.store.looks import Looks
from penstock.store.store import Store

FOLDER = "penstock/out/prediction-model-1"
FILE = f"{FOLDER}/predictions.jsonl"
WHERE = f"gs://fake/{FOLDER}"
TEXTS = ["t1", "t2", "t3", "t4"]
SOME = seen(RUNNING, has_started=True, output_folder=WHERE)
DONE = seen(SUCCEEDED, output_folder=WHERE)


async def wished(world: World, texts: list[str] = TEXTS, **changes: object) -> Job:
    """Commit a running job of four lines at which somebody wants a look."""
    fields = {"attempt": 1, "provider_job": NAME, "partial_wanted_at": world.clock.now() - 1}
    job = await world.with_input(input_of(texts), state="running", **(fields | changes))
    return await world.now(job)


async def settled() -> None:
    """Return when no look goes on any more."""
    looks = [one for one in asyncio.all_tasks() if one.get_name().startswith("look at")]
    await asyncio.gather(*looks)


def rows(job: Job, *numbers: int) -> bytes:
    """The provider's rows of these lines."""
    return b"".join(row_of(job.id, number, f"t{number}") + b"\n" for number in numbers)


def export(world: World, job: Job, *numbers: int, half: int | None = None) -> None:
    """Let the provider have exported these lines, and half of the row of another one."""
    tail = b"" if half is None else row_of(job.id, half, f"t{half}")[:90]
    world.bucket.objects[FILE] = rows(job, *numbers) + tail


async def looked(world: World, job: Job) -> Look:
    """Return the look that the row of a job names."""
    found = look_of(await world.now(job))
    assert found is not None
    return found


def files(world: World, job: Job) -> list[str]:
    """The names of all files of looks at a job."""
    return sorted(path.name for path in (world.spool._jobs / job.id).glob("partial*"))


def codes(world: World, job: Job, name: str) -> list[str]:
    """The codes of the lines of a look; empty for one that is answered."""
    found = []
    for line in world.spool.path(job.id, name).read_bytes().splitlines():
        status = orjson.loads(line)["status"]
        parsed = orjson.loads(status[status.index("{") :]) if status else {"error": {"code": ""}}
        found.append(str(parsed["error"]["code"]))
    return found


async def test_the_lines_so_far_are_there(world: World, quick_store: Store) -> None:
    """Finished lines stand in their places, the others are pending; state and money are as before.

    Bytes, digest and index belong to the file that is named.
    """
    job = await wished(world)
    export(world, job, 3, 1)
    await look(world.ports(), job, WHERE)
    after, found = await world.now(job), await looked(world, job)
    assert codes(world, job, found.name) == ["", "pending", "", "pending"]
    assert (found.lines, found.at) == (2, world.clock.now())
    data = world.spool.path(job.id, found.name).read_bytes()
    assert (found.size_bytes, found.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert files(world, job) == sorted((found.name, found.index_name))
    assert (after.state, after.counts, after.cost_micro_dollars) == (JobState.RUNNING, None, None)
    assert after.output_name is None
    assert await ledger(quick_store, job) == []


async def test_a_row_that_is_half_written_is_not_there_yet(world: World) -> None:
    """What has no newline is pending and no error, however far it is."""
    job = await wished(world)
    export(world, job, 1, half=2)
    await look(world.ports(), job, WHERE)
    found = await looked(world, job)
    assert codes(world, job, found.name) == ["", "pending", "pending", "pending"]


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_only_whole_rows_are_fed(data: bytes, cuts: list[int]) -> None:
    """However the bytes come, what goes on are those up to the last newline."""

    async def blocks() -> AsyncIterator[bytes]:
        for block in chunks_of(data, cuts):
            yield block

    async def fed() -> bytes:
        return b"".join([each async for each in whole_rows(blocks())])

    assert asyncio.run(fed()) == data[: data.rfind(b"\n") + 1]


async def test_a_row_that_never_ends_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes without a newline are held up to the size of the largest row."""
    monkeypatch.setattr(peek, "ROW_BYTES_MAX", 50)
    job = await wished(world)
    world.bucket.objects[FILE] = b"x" * 51
    await look(world.ports(), job, WHERE)
    assert await world.jobs.events(job.id) == [
        ("accepted", "4 lines"),
        ("partial_failed", "The provider's output has a row that is too long."),
    ]


async def test_a_newer_look_takes_the_place_of_the_one_before(world: World) -> None:
    """One look is kept at a time, under another name each time."""
    job = await wished(world)
    export(world, job, 1)
    await look(world.ports(), job, WHERE)
    first = await looked(world, job)
    world.clock.advance(500)
    export(world, job, 1, 2, 3)
    await look(world.ports(), await world.now(job), WHERE)
    second = await looked(world, job)
    assert (first.lines, second.lines, second.at - first.at) == (1, 3, 500)
    assert files(world, job) == sorted((second.name, second.index_name))


async def test_shards_are_read_together(world: World) -> None:
    """Finished rows may stand in several objects, and each may end in half a row."""
    job = await wished(world)
    for number in (0, 1):
        name = f"{FILE}-0000{number}-of-00002"
        world.bucket.objects[name] = rows(job, number + 1) + row_of(job.id, 4, "t4")[:50]
    await look(world.ports(), job, WHERE)
    assert (await looked(world, job)).lines == 2


async def test_identical_and_bad_lines_are_as_in_the_output(world: World) -> None:
    """A twin is finished with its leader, and a line that was put aside is from the beginning."""
    job = await wished(world, ["t1", "t1", "t3", "t4"], twin_count=1, problem_count=1)
    put(world, job, TWINS, pack_leaders(array("I", [1, 1, 3, 4])))
    problem = Problem(code="bad_json", message="It is no JSON.", line=4)
    put(world, job, PROBLEMS, pack_problem(4, problem))
    export(world, job, 1)
    await look(world.ports(), job, WHERE)
    found = await looked(world, job)
    assert codes(world, job, found.name) == ["", "", "pending", "bad_json"]
    assert found.lines == 3


@pytest.mark.parametrize("is_told", [True, False])
async def test_the_folder_is_found_although_nobody_tells_it(
    world: World, quick_store: Store, *, is_told: bool
) -> None:
    """A provider need not name its folder before the end; the attempt knows where it writes."""
    job = await wished(world)
    await attempted(quick_store, job, f"gs://fake/penstock/out{'' if is_told else '-b'}")
    export(world, job, 2)
    await look(world.ports(), job, None)
    after = await world.now(job)
    assert (after.partial_lines, after.partial_at) == (1 if is_told else 0, world.clock.now())


@pytest.mark.parametrize("where", [None, "gs://other/out"])
async def test_nothing_is_read_elsewhere(world: World, where: str | None) -> None:
    """Without a folder of ours the provider has offered nothing, which is no error."""
    job = await wished(world)
    export(world, job, 2)
    await look(world.ports(), job, where)
    after = await world.now(job)
    assert (after.partial_lines, after.partial_name) == (0, None)
    assert await world.kinds(job) == ["accepted"]


async def test_what_two_provider_jobs_write_is_left_alone(world: World) -> None:
    """Which of two folders is ours shows at the end; until then there is nothing."""
    job = await wished(world)
    export(world, job, 2)
    world.bucket.objects["penstock/out/prediction-model-2/predictions.jsonl"] = rows(job, 3)
    await look(world.ports(), job, "gs://fake/penstock/out")
    assert (await world.now(job)).partial_lines == 0


@pytest.mark.parametrize("raw", [b"", b"{}\n"])
async def test_rows_of_nobody_are_no_look(world: World, raw: bytes) -> None:
    """An empty object, or one without a row of ours, gives no files."""
    job = await wished(world)
    world.bucket.objects[FILE] = raw
    await look(world.ports(), job, WHERE)
    assert ((await world.now(job)).partial_lines, files(world, job)) == (0, [])


async def test_a_list_that_is_behind_takes_nothing_away(world: World) -> None:
    """A look that shows less than the one before is not kept, and may be asked for again."""
    job = await wished(world)
    export(world, job, 1, 2)
    await look(world.ports(), job, WHERE)
    first = await world.now(job)
    for names in ((1,), None):
        world.bucket.objects.clear()
        if names:
            export(world, job, *names)
        await look(world.ports(), first, WHERE)
        after = await world.now(job)
        assert (after.partial_lines, after.partial_name) == (2, first.partial_name)
        assert after.partial_wanted_at is None
    assert len(files(world, job)) == 2


async def test_no_more_is_read_than_allowed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Objects beyond `partial_bytes_max` are not opened; their lines are pending."""
    job = await wished(world)
    for number in (1, 2):
        world.bucket.objects[f"{FILE}-0000{number}-of-00002"] = rows(job, number)
    limits = Limits(partial_bytes_max=len(rows(job, 1)))
    await look(world.ports(limits=limits), job, WHERE)
    found = await looked(world, job)
    assert codes(world, job, found.name) == ["", "pending", "pending", "pending"]
    assert "partial_bytes_max" in caplog.text


async def test_a_failure_is_noted_and_the_wish_forgotten(world: World) -> None:
    """What goes wrong with a look is an event of the job and nothing else."""
    job = await wished(world)
    world.bucket.fail("list", ProviderUnreachable("Cloud Storage answered 503 to: list."))
    await look(world.ports(), job, WHERE)
    after = await world.now(job)
    assert (after.state, after.partial_wanted_at, after.partial_at) == (
        JobState.RUNNING,
        None,
        None,
    )
    assert ("partial_failed", "Cloud Storage answered 503 to: list.") in await world.jobs.events(
        job.id
    )


async def test_a_look_that_takes_too_long_is_given_up(world: World) -> None:
    """After `partial_seconds_max` a look ends, whatever it waits for."""
    job = await wished(world)
    ports = world.ports(bucket=cast(Bucket, Stuck(world)), timing=Timing(partial_seconds_max=0.0))
    await look(ports, job, WHERE)
    assert ("partial_failed", "it took too long") in await world.jobs.events(job.id)


async def test_a_bug_in_a_look_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Even an error that nobody expects stays inside, with its traceback in the log."""
    job = await wished(world)
    world.bucket.fail("list", ZeroDivisionError())
    await look(world.ports(), job, WHERE)
    assert ("partial_failed", "an error of our own") in await world.jobs.events(job.id)
    assert "ZeroDivisionError" in caplog.text


async def test_a_database_that_is_down_ends_a_look_quietly(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Then the wish stays, and a later poll tries again."""
    job = await wished(world)
    export(world, job, 1)
    ports = msgspec.structs.replace(world.ports(), looks=cast(Looks, Down()))
    with caplog.at_level(logging.WARNING):
        await look(ports, job, WHERE)
    assert "nothing could be noted" in caplog.text
    assert (await world.now(job)).partial_wanted_at is not None


async def test_files_that_cannot_be_committed_are_taken_back(world: World) -> None:
    """A commit that fails leaves no file."""
    job = await wished(world)
    export(world, job, 1)
    ports = msgspec.structs.replace(world.ports(), blobs=cast(Blobs, FullBlobs(world.blobs)))
    await look(ports, job, WHERE)
    assert files(world, job) == []
    assert "partial_failed" in await world.kinds(job)


@pytest.mark.parametrize("change", [{"state": "collecting"}, {"attempt": 2}, {"partial_name": "x"}])
async def test_a_look_that_comes_too_late_changes_nothing(
    world: World, quick_store: Store, change: dict[str, object]
) -> None:
    """The job ended, another round began or another process looked: its files go again."""
    job = await wished(world)
    export(world, job, 1)
    await changed(quick_store, job, **change)
    await look(world.ports(), job, WHERE)
    after = await world.now(job)
    assert (after.partial_name, after.partial_at) == (change.get("partial_name"), None)
    assert files(world, job) == []


async def test_a_wish_is_fulfilled_while_the_job_is_watched(world: World) -> None:
    """A poll of a running job begins the look, and the look goes on beside the polls."""
    job = await wished(world)
    export(world, job, 1, 2)
    taken: list[int | None] = []

    async def see() -> None:
        await settled()
        taken.append((await world.now(job)).partial_lines)

    world.clock.at(3, see)
    await wait(world.ports(provider=ScriptedProvider(SOME, SOME, DONE)), job.id)
    assert taken == [2]
    assert (await world.now(job)).state is JobState.COLLECTING


async def test_nobody_is_asked_where_nobody_wants_to_see(world: World) -> None:
    """Without a wish the polls read nothing of the bucket."""
    job = await wished(world, partial_wanted_at=None)
    world.bucket.fail("list", AssertionError("nobody asked"))
    await wait(world.ports(provider=ScriptedProvider(SOME, SOME, DONE)), job.id)
    assert await world.kinds(job) == ["accepted", "collecting"]


@pytest.mark.parametrize(
    ("changes", "is_wished"),
    [
        ({}, True),
        ({"partial_at": 5.0}, True),
        ({"partial_at": 15.0}, False),
        ({"partial_wanted_at": None}, False),
        ({"output_name": "output-1.jsonl"}, False),
        ({"stop_reason": StopReason.CANCELLED}, False),
        ({"state": JobState.PREPARED}, False),
    ],
)
async def test_who_is_looked_at(
    world: World, changes: dict[str, object], *, is_wished: bool
) -> None:
    """A wish that is newer than the last look, of a first round that nobody ends."""
    job = world.make(**({"state": JobState.RUNNING, "partial_wanted_at": 10.0} | changes))
    assert is_wanted(job) is is_wished


async def test_looks_are_rare_and_one_at_a_time(world: World) -> None:
    """However often it is wanted, a look begins `partial_seconds_min` after the one before.

    Also where the one before failed, and never beside one that goes on.
    """
    job = await wished(world)
    bucket = Stuck(world)
    ports = world.ports(bucket=cast(Bucket, bucket), timing=Timing(partial_seconds_min=100.0))
    async with Looker(ports) as looker:
        looker.begin(job, SOME)
        await bucket.reached.wait()
        world.clock.advance(500)
        looker.begin(job, SOME)
        bucket.go.set()
        await settled()
        again = msgspec.structs.replace(job, partial_wanted_at=world.clock.now())
        lists = [bucket.lists]
        for seconds, at in ((0, None), (0, world.clock.now() - 99), (99, None), (1, None)):
            world.clock.advance(seconds)
            looker.begin(msgspec.structs.replace(again, partial_at=at), SOME)
            await settled()
            lists.append(bucket.lists)
    assert lists == [1, 2, 2, 2, 3]


async def test_a_cancel_is_heard_in_the_middle_of_a_look(world: World) -> None:
    """A look that hangs does not keep the cancel from the provider, and ends with the watch."""
    job = await wished(world)
    bucket = Stuck(world)
    provider = ScriptedProvider(SOME, SOME, seen(CANCELLED))

    async def cancel() -> None:
        await bucket.reached.wait()
        await world.jobs.request_cancel(job.org_id, job.id, world.clock.now())

    world.clock.at(3, cancel)
    await wait(world.ports(provider=provider, bucket=cast(Bucket, bucket)), job.id)
    assert provider.cancels == [NAME]
    assert (await world.now(job)).state is JobState.COLLECTING
    assert not [one for one in asyncio.all_tasks() if one.get_name().startswith("look")]
    assert list(world.spool._incoming.iterdir()) == []


async def test_the_end_reads_everything_again(world: World) -> None:
    """The output has what the folder has in the end, and the look goes when the job has ended."""
    job = await wished(world)
    export(world, job, 1, 2)
    await look(world.ports(), job, WHERE)
    export(world, job, 4, 3, 2, 1)
    await wait(world.ports(provider=ScriptedProvider(DONE)), job.id)
    assert len(files(world, job)) == 2
    await collect(world.ports(), job.id)
    after = await world.now(job)
    assert (after.state, after.counts and after.counts.ok) == (JobState.SUCCEEDED, 4)
    assert (after.partial_name, after.partial_at, files(world, job)) == (None, None, [])


@pytest.mark.parametrize("state", ["running", "collecting"])
async def test_a_look_stays_as_long_as_there_is_nothing_better(
    world: World, quick_store: Store, state: str
) -> None:
    """Only the end of a job takes its look away."""
    job = await wished(world)
    export(world, job, 1)
    await look(world.ports(), job, WHERE)
    await changed(quick_store, job, state=state)
    await forget_look(world.ports(), job.id)
    assert len(files(world, job)) == 2


async def test_a_look_that_cannot_be_removed_waits_for_prune(
    world: World, quick_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of a job does not fail because of it."""
    job = await wished(world)
    export(world, job, 1)
    await look(world.ports(), job, WHERE)
    ended = {"state": "succeeded", "finished_at": world.clock.now()}
    await changed(quick_store, job, **ended, output_name="output-00000001.jsonl")
    ports = msgspec.structs.replace(world.ports(), blobs=cast(Blobs, FullBlobs(world.blobs)))
    await forget_look(ports, job.id)
    assert "stays for now" in caplog.text
    assert len(files(world, job)) == 2
    assert await prune_orphans(world.ports()) == 2
    assert files(world, job) == []


async def test_prune_keeps_the_look_that_a_row_names(world: World) -> None:
    """At a start the named look of a running job stays, what a death left beside it goes."""
    job = await wished(world)
    export(world, job, 1)
    await look(world.ports(), job, WHERE)
    named = files(world, job)
    for name in ("partial-00000000.index", f"partial-00000000-1-{'0' * 64}.jsonl"):
        put(world, job, name, b"x")
    assert await prune_orphans(world.ports()) == 2
    assert files(world, job) == named


async def test_killed_anywhere_in_a_look_the_job_goes_on(world: World, quick_store: Store) -> None:
    """Killed before or after each call, a look leaves nothing that lasts, and the job ends well."""
    stops, kill_at, is_over = 0, 1, False
    while not is_over:
        job = await wished(world)
        export(world, job, 1)
        await look(world.ports(), job, WHERE)
        job = await world.now(job)
        export(world, job, 1, 2)
        fate = Fate(kill_at)
        ports = mortal(world.ports(), fate.point)
        try:
            await peek._look(ports, job, WHERE)
            is_over = True
        except Killed:
            stops += 1
        await prune_orphans(world.ports())
        after = await world.now(job)
        named = {after.partial_name, after.partial_index_name} - {None}
        assert set(files(world, job)) == named, kill_at
        await look(world.ports(), after, WHERE)
        assert (await looked(world, job)).lines == 2
        assert len(files(world, job)) == 2
        export(world, job, 1, 2, 3, 4)
        ended = {"state": "collecting", "provider_state": SUCCEEDED, "provider_output": WHERE}
        await changed(quick_store, job, **ended)
        await collect(world.ports(), job.id)
        assert (await world.now(job)).state is JobState.SUCCEEDED
        assert files(world, job) == []
        world.bucket.objects.clear()
        kill_at += 1
    assert stops >= 12


class Stuck:
    """A bucket whose list hangs until it is let go."""

    def __init__(self, world: World) -> None:
        self._bucket = world.bucket
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        self.lists = 0

    async def list(self, prefix: str) -> list[str]:
        self.lists += 1
        self.reached.set()
        await self.go.wait()
        return await self._bucket.list(prefix)

    def uri(self, name: str) -> str:
        return self._bucket.uri(name)


class Down:
    """A database that does not answer."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # any query
        raise DatabaseUnavailable(f"no answer to {name}")


class FullBlobs:
    """A place that takes no file and lets none go."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the place has
        return getattr(self._blobs, name)

    async def commit(self, job_id: str, parts: object) -> None:
        del job_id, parts
        raise BlobCorrupt("nothing is taken")

    async def remove(self, job_id: str, name: str) -> None:
        await self._blobs.remove(job_id, "nothing")
        raise BlobMissing(f"{name} does not go")


def put(world: World, job: Job, name: str, data: bytes) -> None:
    """Commit a file of a job."""
    part = world.spool.begin(job.id, name)
    part.write(data)
    world.spool.commit(job.id, {name: part})


async def changed(store: Store, job: Job, **fields: object) -> None:
    """Change the row of a job, whoever would have to do that."""
    async with store._engine.begin() as connection:
        await connection.execute(
            tables.jobs.update().where(tables.jobs.c.id == job.id).values(**fields)
        )


async def attempted(store: Store, job: Job, output_prefix: str) -> None:
    """Commit the attempt that made the provider job."""
    async with store._engine.begin() as connection:
        await connection.execute(
            tables.attempts.insert().values(
                job_id=job.id,
                number=1,
                intent_at=1.0,
                input_uri="gs://fake/in",
                output_prefix=output_prefix,
                label=job.id,
                provider_job=NAME,
                round=1,
            )
        )
