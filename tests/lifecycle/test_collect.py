"""collect: from the provider's folder in a real emulator to the output, the state and the books."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import orjson
import pytest
from tests.emulator.driver import Emulator
from tests.lifecycle.fakes import (
    CANCELLED,
    FAILED,
    NAME,
    SUCCEEDED,
    Fate,
    Killed,
    World,
    answer_of,
    input_of,
    ledger,
    mortal,
    request_of,
    row_of,
)

from penstock.blobs.bucket import Bucket
from penstock.clock import SystemClock
from penstock.core.job import Counts, Job, StopReason
from penstock.core.state import JobState
from penstock.errors import ProviderUnreachable
from penstock.lifecycle.collect import collect
from penstock.lifecycle.ports import Ports
from penstock.lifecycle.prepare import prepare
from penstock.lifecycle.submit import submit
from penstock.lifecycle.wait import wait
from penstock.providers.fixed_token import FixedToken
from penstock.providers.vertex import Vertex
from penstock.settings import Timing
from penstock.store.store import Store

EXPIRED = "JOB_STATE_EXPIRED"
FOLDER = "out/x/prediction-model-1"


@pytest.fixture
async def ports(world: World, emulator: Emulator) -> AsyncIterator[Ports]:
    """Ports on the emulator: the production adapters over real HTTP."""
    token = FixedToken("any")
    async with httpx2.AsyncClient(timeout=30.0) as http:
        yield world.ports(
            provider=Vertex("penstock-emulator", token, http, emulator.url),
            bucket=Bucket("penstock", emulator.url, token, http, SystemClock()),
            timing=Timing(collect_seconds=600.0),
        )


async def ended(world: World, texts: list[str], state: str = SUCCEEDED, **changes: object) -> Job:
    """Commit a job that the provider has ended in some state."""
    fields: dict[str, object] = {
        "state": "collecting",
        "attempt": 1,
        "provider_job": NAME,
        "provider_state": state,
        "provider_output": f"gs://penstock/{FOLDER}",
    }
    return await world.with_input(input_of(texts), **(fields | changes))


async def through(ports: Ports, job: Job) -> None:
    """Run all steps of a job."""
    for step in (prepare, submit, wait, collect):
        await step(ports, job.id)


def rows(job: Job, *numbers: int) -> bytes:
    """Rows of a job whose texts are t1, t2 and so on."""
    return b"".join(row_of(job.id, number, f"t{number}") + b"\n" for number in numbers)


def output(world: World, job: Job) -> list[dict[str, Any]]:
    """The parsed lines of a job's output."""
    (path,) = world.outputs(job)
    data = path.read_bytes()
    return [orjson.loads(line) for line in data.splitlines()]


def code_of(line: dict[str, Any]) -> str:
    """The code of an error that is ours."""
    text: str = line["status"]
    return str(orjson.loads(text[text.index("{") :])["error"]["code"])


async def test_a_job_goes_through_all_steps(world: World, ports: Ports) -> None:
    """Over real HTTP: N lines in, N answers out in input order, books and hash included."""
    job = await world.with_input(input_of(["red", "green", "blue"]))
    await through(ports, job)
    after = await world.now(job)
    lines = output(world, job)
    assert (after.state, after.status_detail) == (JobState.SUCCEEDED, "All lines were answered.")
    assert [one["request"]["contents"][0]["parts"][0]["text"] for one in lines] == [
        *("red", "green", "blue"),
    ]
    assert all(one["response"]["candidates"] for one in lines)
    data = world.spool.path(job.id, after.output_name or "").read_bytes()
    assert after.output_bytes == len(data)
    assert after.output_sha256 == hashlib.sha256(data).hexdigest()


async def test_the_ledger_says_what_the_lines_say(
    world: World, ports: Ports, quick_store: Store
) -> None:
    """Tokens and money of the one entry are the sums over the delivered lines."""
    job = await world.with_input(input_of(["one", "two words", "[[emulator:fail=429]]"]))
    await through(ports, job)
    used = [one["response"].get("usageMetadata", {}) for one in output(world, job)]
    prompt = sum(one.get("promptTokenCount", 0) for one in used)
    candidates = sum(
        one.get("candidatesTokenCount", 0) + one.get("thoughtsTokenCount", 0) for one in used
    )
    cost = (prompt * 250_000 + candidates * 1_500_000 + 500_000) // 1_000_000
    assert await ledger(quick_store) == [(1, 2, prompt, candidates, cost)]
    assert (await world.now(job)).cost_micro_dollars == cost > 0


async def test_every_directive_of_the_emulator_ends_on_its_own_line(
    world: World, ports: Ports
) -> None:
    """Each fault of a row becomes its own typed error; the good lines between stay good."""
    words = {
        "missing": "missing_row",
        "foreign": "missing_row",
        "garbage": "missing_row",
        "bad-usage": "corrupt_row",
    }
    texts = [text for word in words for text in (f"[[emulator:{word}]]", "good")]
    job = await world.with_input(input_of([*texts, "[[emulator:duplicate]]"]))
    await through(ports, job)
    lines = output(world, job)
    assert [code_of(one) for one in lines[:-1:2]] == list(words.values())
    assert [one["status"] for one in lines[1::2]] == [""] * len(words)
    assert lines[-1]["status"] == ""
    assert (await world.now(job)).status_detail == "4 lines failed; their status says why."


async def test_duplicates_and_strangers_are_in_the_history(world: World, ports: Ports) -> None:
    """What was odd about the output is an event with its number."""
    texts = ["[[emulator:duplicate]]", "[[emulator:foreign]]", "plain"]
    job = await world.with_input(input_of(texts))
    await through(ports, job)
    events = await world.jobs.events(job.id)
    assert ("duplicate_rows", "1") in events
    assert ("foreign_rows", "1") in events


async def test_shards_are_read_and_incremental_files_ignored(
    world: World, ports: Ports, emulator: Emulator
) -> None:
    """Any of the provider's file names counts, but a running export repeats rows."""
    emulator.rule(when={}, then={"shards": 3, "incremental": True})
    job = await world.with_input(input_of([f"text {number}" for number in range(20)]))
    await through(ports, job)
    folder = ((await world.now(job)).provider_output or "").removeprefix("gs://penstock/")
    assert len(emulator.names(folder)) == 4
    after = await world.now(job)
    assert (after.counts or Counts()).ok == 20
    assert "duplicate_rows" not in await world.kinds(job)


async def test_a_missing_shard_costs_only_its_lines(
    world: World, ports: Ports, emulator: Emulator
) -> None:
    """Lines whose shard was never written are missing, the others answered."""
    emulator.rule(when={}, then={"shards": 3, "missing_shard": 0})
    job = await world.with_input(input_of([f"text {number}" for number in range(20)]))
    await through(ports, job)
    after = await world.now(job)
    counts = after.counts or Counts()
    assert after.state is JobState.SUCCEEDED
    assert (0 < counts.missing < 20, counts.ok + counts.missing) == (True, 20)


@pytest.mark.parametrize(
    "name", ["predictions.jsonl", "predictions.jsonl-00000-of-00001", "predictions_001.jsonl"]
)
async def test_all_known_file_names_are_read(
    world: World, ports: Ports, emulator: Emulator, name: str
) -> None:
    """The service's file names, old and new."""
    job = await ended(world, ["t1"])
    emulator.put(f"{FOLDER}/{name}", rows(job, 1))
    emulator.put(f"{FOLDER}/incremental_predictions.jsonl", rows(job, 1))
    emulator.put(f"{FOLDER}/predictions.jsonl.tmp", rows(job, 1))
    await collect(ports, job.id)
    assert (await world.now(job)).counts == Counts(ok=1, prompt_tokens=2, candidates_tokens=3)
    assert "duplicate_rows" not in await world.kinds(job)


async def test_an_output_that_is_late_is_waited_for(
    world: World, ports: Ports, emulator: Emulator
) -> None:
    """SUCCEEDED without files is tried again, with the reason on the job meanwhile."""
    job = await ended(world, ["t1"])
    details = []

    async def appear() -> None:
        details.append((await world.now(job)).status_detail)
        emulator.put(f"{FOLDER}/predictions.jsonl", rows(job, 1))

    world.clock.at(10, appear)
    await collect(ports, job.id)
    assert (await world.now(job)).state is JobState.SUCCEEDED
    assert details == [
        f"The provider calls the job succeeded, but {FOLDER}/ holds no output.",
    ]


@pytest.mark.parametrize("folder", [None, "gs://elsewhere/out"])
async def test_success_without_an_output_folder_fails_after_its_time(
    world: World, ports: Ports, folder: str | None
) -> None:
    """After `collect_seconds` of trying the job fails, and its line says what was missing."""
    job = await ended(world, ["t1"], provider_output=folder)
    await collect(ports, job.id)
    after = await world.now(job)
    assert (after.state, after.error_code) == (JobState.FAILED, "provider_output_unreadable")
    assert after.error_message == (
        "The provider calls the job succeeded, but names no output folder."
    )
    assert 600 <= world.clock.now() - world.clock.begun < 800
    assert after.counts == Counts(missing=1)
    assert [code_of(line) for line in output(world, job)] == ["provider_output_unreadable"]


async def test_what_can_be_read_is_delivered_in_the_end(
    world: World, ports: Ports, emulator: Emulator
) -> None:
    """Of two files one stays corrupt: its lines say so in the end, and the others answer."""
    job = await ended(world, ["t1", "t2"])
    emulator.put(f"{FOLDER}/predictions.jsonl-00000-of-00002", rows(job, 1))
    emulator.put(f"{FOLDER}/predictions.jsonl-00001-of-00002", rows(job, 2))
    emulator.rule(
        when={"call": "object_read", "path": "*00001-of-00002*"},
        then={"corrupt": True},
    )
    await collect(ports, job.id)
    after = await world.now(job)
    assert after.state is JobState.SUCCEEDED
    assert after.counts is not None
    assert (after.counts.successful, after.counts.failed) == (1, 1)
    first, second = output(world, job)
    assert (first["status"], code_of(second)) == ("", "provider_output_unreadable")


async def test_a_list_that_never_comes_ends_with_lines_that_say_so(world: World) -> None:
    """A bucket that is out of reach for `collect_seconds` costs the answers and not the lines."""
    job = await ended(world, ["t1"], provider_output="gs://fake/out/x")
    gone = ProviderUnreachable("No answer.")
    world.bucket.fail("list", gone, gone)
    await collect(world.ports(timing=Timing(collect_seconds=0.0)), job.id)
    after = await world.now(job)
    assert (after.state, after.error_message) == (JobState.FAILED, "No answer.")
    assert [code_of(line) for line in output(world, job)] == ["provider_output_unreadable"]


async def test_a_file_that_breaks_when_it_is_read_again_is_left_out(world: World) -> None:
    """Giving up does not wait for a file that could be read a moment ago: all lines say why."""
    job = await ended(world, ["t1"], provider_output="gs://fake/out/x")
    world.bucket._write("out/x/predictions.jsonl", rows(job, 1))
    broken = ProviderUnreachable("No answer.")
    world.bucket.fail("read", broken, None, broken)
    await collect(world.ports(timing=Timing(collect_seconds=0.0)), job.id)
    after = await world.now(job)
    assert (after.state, after.error_code) == (JobState.FAILED, "provider_output_unreadable")
    assert after.counts == Counts(missing=1)


async def test_success_whose_files_never_come_fails_after_its_time(world: World) -> None:
    """A folder that stays empty is not a job without answers: the job fails and says so."""
    job = await ended(world, ["t1"], provider_output="gs://fake/out/x")
    await collect(world.ports(timing=Timing(collect_seconds=600.0)), job.id)
    after = await world.now(job)
    assert (after.state, after.error_code) == (JobState.FAILED, "provider_output_unreadable")
    assert (after.error_message or "").endswith("but out/x/ holds no output.")


async def test_files_that_come_late_are_read(world: World) -> None:
    """A folder that was empty at first is looked at again."""
    job = await ended(world, ["t1"], provider_output="gs://fake/out/x")

    async def arrive() -> None:
        world.bucket._write("out/x/predictions.jsonl", rows(job, 1))

    world.clock.at(5, arrive)
    await collect(world.ports(timing=Timing(collect_seconds=600.0)), job.id)
    after = await world.now(job)
    assert (after.state, after.status_detail) == (JobState.SUCCEEDED, "All lines were answered.")


async def test_a_failed_job_without_rows_has_the_providers_message(
    world: World, ports: Ports, emulator: Emulator, quick_store: Store
) -> None:
    """No output, no books, and the provider's own words."""
    error = {"code": 13, "message": "System error. Try again."}
    emulator.rule(when={}, then={"finish": FAILED, "error": error})
    job = await world.with_input(input_of(["a"]))
    await through(ports, job)
    after = await world.now(job)
    assert after.state is JobState.FAILED
    assert (after.error_code, after.error_message) == ("provider_error_13", error["message"])
    assert await ledger(quick_store) == []
    assert world.outputs(job) == []


async def test_a_failed_job_with_rows_delivers_them(
    world: World, ports: Ports, emulator: Emulator, quick_store: Store
) -> None:
    """It is a failure with its reason, and what was paid for is there and in the books."""
    emulator.rule(when={}, then={"finish": FAILED, "error": {"code": 13}, "rows": 0.5})
    job = await world.with_input(input_of([f"text {number}" for number in range(10)]))
    await through(ports, job)
    after = await world.now(job)
    counts = after.counts or Counts()
    assert (after.state, after.error_code) == (JobState.FAILED, "provider_error_13")
    assert (counts.ok, counts.missing) == (5, 5)
    assert [entry[1] for entry in await ledger(quick_store)] == [5]


async def test_a_failure_without_words_gets_ours(world: World, ports: Ports) -> None:
    """A provider that gives no reason is quoted with its state."""
    job = await ended(world, ["t1"], EXPIRED, provider_output=None)
    await collect(ports, job.id)
    after = await world.now(job)
    assert (after.state, after.error_code) == (JobState.FAILED, "provider_expired")
    assert after.error_message == "The provider ended the job as expired without saying why."


async def test_an_expired_job_keeps_its_rows(
    world: World, ports: Ports, emulator: Emulator
) -> None:
    """Lines that the provider did not get to are typed `expired`."""
    emulator.rule(when={}, then={"finish": EXPIRED, "rows": 0.5})
    job = await world.with_input(input_of([f"text {number}" for number in range(10)]))
    await through(ports, job)
    assert (await world.now(job)).state is JobState.FAILED
    codes = [code_of(one) for one in output(world, job) if one["status"]]
    assert codes == ["expired"] * 5


async def test_a_cancel_while_running_keeps_what_was_done(world: World, ports: Ports) -> None:
    """The job ends cancelled with its finished lines; the others are typed `cancelled`."""
    job = await world.with_input(input_of([f"text {number}" for number in range(20)]))
    world.clock.at(45, world.cancel(job))
    await through(ports, job)
    after = await world.now(job)
    counts = after.counts or Counts()
    assert (after.state, after.stop_reason) == (JobState.CANCELLED, StopReason.CANCELLED)
    assert (counts.ok > 0, counts.cancelled > 0) == (True, True)
    assert (counts.ok + counts.cancelled, counts.unfinished) == (20, counts.cancelled)
    codes = {code_of(one) for one in output(world, job) if one["status"]}
    assert codes == {"cancelled"}


async def test_a_cancel_before_the_start_has_no_output(world: World, ports: Ports) -> None:
    """A job that never ran ends cancelled, without file and without counts."""
    job = await world.with_input(input_of(["a"]))
    world.clock.at(5, world.cancel(job))
    await through(ports, job)
    after = await world.now(job)
    assert (after.state, after.counts) == (JobState.CANCELLED, None)
    assert world.outputs(job) == []


async def test_success_after_a_cancel_is_a_success(
    world: World, ports: Ports, emulator: Emulator
) -> None:
    """The provider finished before the cancel reached it, so all answers are there."""
    job = await ended(world, ["t1"], SUCCEEDED, stop_reason="cancelled")
    emulator.put(f"{FOLDER}/predictions.jsonl", rows(job, 1))
    await collect(ports, job.id)
    assert (await world.now(job)).state is JobState.SUCCEEDED


async def test_the_providers_own_cancel_is_told(
    world: World, ports: Ports, emulator: Emulator
) -> None:
    """Nobody here asked for it: finished lines are delivered, the others are `cancelled`."""
    job = await ended(world, ["t1", "t2"], CANCELLED)
    emulator.put(f"{FOLDER}/predictions.jsonl", rows(job, 2))
    await collect(ports, job.id)
    after = await world.now(job)
    assert (after.state, after.error_code) == (JobState.FAILED, "provider_cancelled")
    assert (after.counts and after.counts.cancelled, code_of(output(world, job)[0])) == (
        1,
        "cancelled",
    )


@pytest.mark.parametrize(
    ("reason", "code"), [("queue_expired", "expired"), ("run_expired", "expired")]
)
async def test_a_job_that_we_ended_says_expired(
    world: World, ports: Ports, emulator: Emulator, reason: str, code: str
) -> None:
    """Ended by our limits: the job fails by the limit's name, its open lines are `expired`."""
    job = await ended(world, ["t1", "t2"], CANCELLED, stop_reason=reason)
    emulator.put(f"{FOLDER}/predictions.jsonl", rows(job, 2))
    await collect(ports, job.id)
    after = await world.now(job)
    assert (after.state, after.error_code) == (JobState.FAILED, reason)
    assert code_of(output(world, job)[0]) == code


async def test_an_empty_success_answers_every_line_with_an_error(
    world: World, ports: Ports, emulator: Emulator
) -> None:
    """SUCCEEDED with an empty file is a success whose lines are all missing."""
    job = await ended(world, ["t1", "t2"])
    emulator.put(f"{FOLDER}/predictions.jsonl", b"")
    await collect(ports, job.id)
    after = await world.now(job)
    assert (after.state, after.counts) == (JobState.SUCCEEDED, Counts(missing=2))


async def test_a_corrupt_download_is_read_again(
    world: World, ports: Ports, emulator: Emulator
) -> None:
    """One flipped bit on the way is found by its checksum and never merged."""
    job = await ended(world, ["t1"])
    emulator.put(f"{FOLDER}/predictions.jsonl", rows(job, 1))
    emulator.rule(
        when={"call": "object_read", "path": "*predictions*"}, then={"corrupt": True}, times=1
    )
    await collect(ports, job.id)
    assert (await world.now(job)).counts == Counts(ok=1, prompt_tokens=2, candidates_tokens=3)
    assert world.clock.slept == [2.0]


async def test_no_working_file_is_left(world: World, ports: Ports, emulator: Emulator) -> None:
    """Scratch and half-written files are gone after success and after failure."""
    good, bad = await ended(world, ["t1"]), await ended(world, ["t1"], FAILED)
    emulator.put(f"{FOLDER}/predictions.jsonl", rows(good, 1))
    await collect(ports, good.id)
    await collect(ports, bad.id)
    assert world.spool.clear_incoming() == 0


async def test_a_merge_that_fails_leaves_no_half_output(
    world: World, ports: Ports, emulator: Emulator
) -> None:
    """An input that vanished fails the step loudly, and nothing half-made stays."""
    job = await ended(world, ["t1"])
    emulator.put(f"{FOLDER}/predictions.jsonl", rows(job, 1))
    world.spool.remove_job(job.id)
    await collect(ports, job.id)
    after = await world.now(job)
    assert (after.state, after.error_code) == (JobState.FAILED, "provider_output_unreadable")
    assert world.spool.clear_incoming() == 0


async def test_killed_anywhere_and_run_again_gives_the_same_bytes(
    world: World, ports: Ports, emulator: Emulator, quick_store: Store
) -> None:
    """After a crash at any call the output is byte for byte the same and billed once."""
    emulator.put(f"{FOLDER}/predictions.jsonl", b"")
    digests = set()
    for kill_at in range(1, 40):
        job = await ended(world, ["t1", "t2", "t3"])
        emulator.put(f"{FOLDER}/predictions.jsonl", rows(job, 3, 1, 1, 2))
        fate = Fate(kill_at)
        try:
            await collect(mortal(ports, fate.point), job.id)
        except Killed:
            await collect(ports, job.id)
        after = await world.now(job)
        digests.add(after.output_sha256)
        assert after.state is JobState.SUCCEEDED
        assert len(await ledger(quick_store)) == kill_at
        if kill_at > fate.passed:
            assert (len(digests), kill_at > 6) == (1, True)
            return
    raise AssertionError("the collection never got to its end")


async def test_a_job_in_another_phase_is_left_alone(world: World, ports: Ports) -> None:
    """A second run after the end does nothing."""
    job = await world.running()
    await collect(ports, job.id)
    assert (await world.now(job)).state is JobState.RUNNING
    assert msgspec.structs.replace(job) == job


async def test_a_large_output_is_collected_in_other_processes(
    world: World, ports: Ports, emulator: Emulator
) -> None:
    """The bytes are those of a small one, line by line."""
    texts = [f"t{number} {'x' * 1_500_000}" for number in (1, 2, 3)]
    job = await ended(world, texts)
    found = [row_of(job.id, number, text) for number, text in enumerate(texts, start=1)]
    emulator.put(f"{FOLDER}/predictions.jsonl", b"\n".join(reversed(found)))
    await collect(ports, job.id)
    assert (await world.now(job)).counts == Counts(ok=3, prompt_tokens=6, candidates_tokens=9)
    lines = output(world, job)
    assert [one["request"] for one in lines] == [request_of(text) for text in texts]
    assert [one["response"] for one in lines] == [answer_of(f"answer {k}") for k in (1, 2, 3)]
    assert world.spool.clear_incoming() == 0
