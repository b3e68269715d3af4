"""Rounds: lines that failed are sent again into the same output, and nothing is lost by it."""

from typing import Any

import msgspec
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
    BAD_REQUEST,
    SELDOM,
    Answering,
    files_of,
    go_on,
    good,
    live,
    mended,
    plans,
    second_round,
    texts_of,
)

from penstock.blobs.local import LocalBlobs
from penstock.core.estimate import Estimate, Span
from penstock.core.job import Job, StopReason
from penstock.core.limits import Limits
from penstock.core.line import LineOutcome
from penstock.core.options import Options, RetryPolicy, Selection
from penstock.core.quotas import Quotas
from penstock.core.state import JobState
from penstock.errors import BlobError, Conflict, ProviderRefused, QuotaExceeded
from penstock.lifecycle.collect import collect
from penstock.lifecycle.ports import Ports
from penstock.lifecycle.prepare import prepare
from penstock.lifecycle.stop import stop_unsubmitted
from penstock.store.admission import ANYBODY, Admission
from penstock.store.jobs import Finish
from penstock.store.rounds import Round
from penstock.store.store import Store

TEXTS = ["a", "b", "c", "d"]
GOOD = [f"answer to {text}" for text in TEXTS]
SLICES = 4
"""Tests into which the points of death are dealt."""

POINTS_MIN = 60
"""A life of two rounds has more points than this."""


@pytest.fixture(autouse=True)
def _with_rounds(world: World) -> None:
    world.limits = Limits()


def of_lines(job: Job) -> dict[str, int]:
    """What the counts of a job say, but for its tokens."""
    counts = msgspec.structs.asdict(job.counts) if job.counts else {}
    return {name: count for name, count in counts.items() if count and "token" not in name}


async def ended(world: World, answer: Any, **changes: object) -> tuple[Ports, Answering, Job]:  # noqa: ANN401
    """Let a job live to its end with a provider that answers like that."""
    provider = Answering(world, answer)
    ports = world.ports(provider=provider)
    job = await world.with_input(input_of(TEXTS), **changes)
    return ports, provider, await live(world, ports, job)


async def test_lines_that_failed_are_sent_again_by_themselves(world: World) -> None:
    """A line that the provider could not answer is answered in the next round, in its place."""
    _, provider, job = await ended(world, mended("b"))
    assert (job.state, job.round) == (JobState.SUCCEEDED, 2)
    assert texts_of(world, job) == GOOD
    assert provider.sent == {"a": 1, "b": 2, "c": 1, "d": 1}
    assert of_lines(job) == {"ok": 4}
    labels = [post.label for post in provider.posts]
    assert labels == [job.id, f"{job.id}-r2"]
    assert [one.round for one in await world.jobs.attempts(job.id)] == [1, 2]


async def test_a_missing_line_is_sent_again(world: World) -> None:
    """A line without a row counts as one that another try may mend."""

    def once_silent(text: str, time: int) -> dict[str, Any] | None:
        return None if (text, time) == ("c", 1) else good(text, time)

    _, provider, job = await ended(world, once_silent)
    assert texts_of(world, job) == GOOD
    assert provider.sent["c"] == 2


async def test_a_round_follows_once_unless_more_are_wanted(world: World) -> None:
    """By default there is one; what fails again stays an error, and is billed as it was."""

    def never(text: str, _time: int) -> dict[str, Any] | None:
        return mended("b")(text, 1)

    _, provider, job = await ended(world, never)
    assert (job.state, job.round, provider.sent["b"]) == (JobState.SUCCEEDED, 2, 2)
    assert texts_of(world, job) == [GOOD[0], "503", *GOOD[2:]]
    more = Options(retry=RetryPolicy(attempts=3))
    _, provider, job = await ended(world, never, options=more)
    assert (job.round, provider.sent["b"]) == (4, 4)


@pytest.mark.parametrize(
    ("limits", "options"),
    [
        (Limits(retry_attempts_max=0), Options()),
        (Limits(job_rounds_max=1), Options(retry=RetryPolicy(attempts=5))),
        (Limits(), Options(retry=RetryPolicy(attempts=0))),
        (Limits(), Options(retry=RetryPolicy(outcomes=(LineOutcome.MISSING,)))),
    ],
)
async def test_no_round_follows_where_none_is_wanted(
    world: World, limits: Limits, options: Options
) -> None:
    """The operator and the owner can both switch it off."""
    provider = Answering(world, mended("b"))
    job = await world.with_input(input_of(TEXTS), options=options)
    job = await live(world, world.ports(provider=provider, limits=limits), job)
    assert (job.round, job.state, len(provider.posts)) == (1, JobState.SUCCEEDED, 1)


async def test_identical_lines_are_sent_once_in_a_later_round_too(world: World) -> None:
    """Of twins that failed their leader is sent again, and all of them get its answer."""
    provider = Answering(world, mended("b"))
    job = await world.with_input(input_of(["a", "b", "b", "a", "b"]))
    job = await live(world, world.ports(provider=provider), job)
    assert (job.round, job.twin_count) == (2, 3)
    assert texts_of(world, job) == [f"answer to {text}" for text in "abbab"]
    assert provider.sent == {"a": 1, "b": 2}


async def test_an_error_that_no_try_can_mend_is_left(world: World) -> None:
    """A line that is wrong in itself is not paid for a second time."""
    _, provider, job = await ended(world, mended("b", status=BAD_REQUEST))
    assert (job.round, len(provider.posts)) == (1, 1)


async def test_an_owner_may_choose_what_is_sent_again(world: World) -> None:
    """A policy with outcomes of its own sends all lines of these outcomes."""

    def short(text: str, time: int) -> dict[str, Any]:
        found = good(text, time)
        if (text, time) == ("d", 1):
            found["response"]["candidates"][0]["finishReason"] = "MAX_TOKENS"
        return found

    policy = RetryPolicy(outcomes=(LineOutcome.TRUNCATED,))
    _, provider, job = await ended(world, short, options=Options(retry=policy))
    assert (job.round, provider.sent["d"]) == (2, 2)
    assert of_lines(job) == {"ok": 4}


# -- money ---------------------------------------------------------------------------------------


async def test_each_round_is_reserved_and_billed_once(world: World, quick_store: Store) -> None:
    """The ledger has what each round took and cost; the job's cost is their sum."""
    _, _, job = await ended(world, mended("b"), reserved_micro_dollars=900)
    entries = await ledger(quick_store, job)
    billed = [entry for entry in entries if entry[1]]
    assert sum(entry[4] for entry in billed if entry[4] != 900) > 0
    used = await quick_store.usage.report(job.org_id, world.clock.now())
    assert used.used.reserved_month_micro_dollars == 0
    assert used.used.spent_month_micro_dollars == job.cost_micro_dollars
    assert used.used.jobs_in_flight == 0


@pytest.mark.parametrize(("cap", "rounds"), [(1, 1), (10_000_000, 2)])
async def test_a_round_over_the_cap_does_not_begin(world: World, cap: int, rounds: int) -> None:
    """Where the expected cost would bring the job above what it may cost, its history says so."""
    options = Options(max_cost_micro_dollars=cap)
    _, _, job = await ended(world, mended("b"), options=options)
    assert job.round == rounds
    assert ("retry_over_cap" in await world.kinds(job)) == (rounds == 1)


async def test_the_estimate_says_what_a_round_may_cost(world: World) -> None:
    """A round takes the lines' share of what the job was expected to cost."""
    span = Span(low=400, expected=4_000, high=8_000)
    estimate = Estimate(lines=4, prompt_tokens=span, output_tokens=span, micro_dollars=span)
    _, _, job = await ended(world, mended("b"), estimate=estimate)
    assert job.reserved_micro_dollars == 1_000


async def test_a_model_without_a_price_is_retried_and_not_capped_by_guess(world: World) -> None:
    """Without a cap it goes on; with one nothing is sent whose cost nobody knows."""
    model = "gemini-of-tomorrow"
    _, _, job = await ended(world, mended("b"), model=model)
    assert (job.round, job.reserved_micro_dollars) == (2, None)
    capped = Options(max_cost_micro_dollars=10_000_000)
    _, _, job = await ended(world, mended("b"), model=model, options=capped)
    assert job.round == 1


# -- rounds that come to nothing -----------------------------------------------------------------


async def nothing_came(world: World, job: Job, before: Job) -> None:
    """Check that a job is as it was before its round, and says why."""
    assert job.state is JobState.SUCCEEDED
    for name in ("output_name", "index_name", "output_sha256", "counts", "bill"):
        assert getattr(job, name) == getattr(before, name)
    assert job.cost_micro_dollars == before.cost_micro_dollars
    assert job.status_detail.startswith("The retry came to nothing")
    assert (job.error_code, job.error_message) == (None, None)
    kinds = await world.kinds(job)
    assert kinds[-2:] == ["retry_failed", "succeeded"]
    assert texts_of(world, job) == [GOOD[0], "503", *GOOD[2:]]
    assert {job.output_name, job.index_name} < set(files_of(world, job))


async def in_second_round(world: World, provider: Answering, **changes: object) -> Job:
    """Return a job of which one line is about to be sent again."""
    job = await world.with_input(input_of(TEXTS), **changes)
    return await second_round(world, world.ports(provider=provider), job)


async def test_a_refused_create_leaves_the_output_as_it_was(world: World) -> None:
    """The provider refuses the second round: all is as after the first."""
    provider = Answering(world, mended("b"))
    before = await in_second_round(world, provider)
    plans(provider, Create(lands_after=None, error=ProviderRefused("no such model")))
    job = await live(world, world.ports(provider=provider), before)
    await nothing_came(world, job, before)


async def test_a_cancel_leaves_the_output_as_it_was(world: World) -> None:
    """A cancel before the create ends the round and not the job."""
    provider = Answering(world, mended("b"))
    before = await in_second_round(world, provider)
    assert await world.cancel(before)()
    job = await live(world, world.ports(provider=provider), before)
    await nothing_came(world, job, before)


async def test_a_cancel_while_it_runs_leaves_the_output_as_it_was(world: World) -> None:
    """The provider ends its job without a row, and the round comes to nothing."""
    provider = Answering(world, mended("b"))
    before = await in_second_round(world, provider)
    world.clock.at(world.clock.now() - world.clock.begun + 90, world.cancel(before))
    job = await live(world, world.ports(provider=provider), before)
    await nothing_came(world, job, before)
    assert len(provider.cancels) == 1


async def test_a_round_expires_by_its_own_clock(world: World) -> None:
    """The queue's time is counted from the round's begin, and its end is that of the round."""
    provider = Answering(world, mended("b"))
    before = await in_second_round(world, provider)
    ports = world.ports(provider=provider)
    world.clock.advance(71 * 3600.0)
    await prepare(ports, before.id)
    assert (await world.now(before)).state is JobState.PREPARED
    world.clock.advance(2 * 3600.0)
    job = await live(world, ports, before)
    await nothing_came(world, job, before)


async def test_a_failed_provider_job_leaves_the_output_as_it_was(world: World) -> None:
    """A round whose input was lost fails at the provider and costs nothing."""
    provider = Answering(world, mended("b"))
    before = await in_second_round(world, provider)
    ports = world.ports(provider=provider)
    await prepare(ports, before.id)
    for name in list(world.bucket.objects):
        if f"/a{before.attempt + 1}/" in name:
            await world.bucket.delete(name)
    job = await live(world, ports, before)
    await nothing_came(world, job, before)


async def test_a_round_of_a_failed_job_says_what_went_wrong(world: World) -> None:
    """A job that was FAILED with an output is FAILED again, with the reason of the round."""
    provider = Answering(world, mended("b"))
    before = await in_second_round(world, provider)
    await _settle_as(world, before, JobState.FAILED)
    assert await world.cancel(before)()
    job = await live(world, world.ports(provider=provider), before)
    assert (job.state, job.error_code) == (JobState.FAILED, "retry_failed")
    assert job.error_message == "Cancelled by its owner."


async def _settle_as(world: World, job: Job, state: JobState) -> None:
    await world.jobs.note(job.id, world.clock.now(), settled_state=state.value)


async def test_rows_of_a_round_that_ended_early_are_kept(world: World) -> None:
    """What a stopped round answered is in the output; the job goes back to where it was."""
    provider = Answering(world, mended("b", "c"))
    before = await in_second_round(world, provider)
    ports = world.ports(provider=provider)
    for _ in range(2):
        await go_on(world, ports, await world.now(before))
    job = await world.now(before)
    assert job.state is JobState.COLLECTING
    await world.jobs.note(
        job.id, world.clock.now(), provider_state="JOB_STATE_CANCELLED", stop_reason="cancelled"
    )
    await collect(ports, job.id)
    job = await world.now(before)
    assert (job.state, job.error_code) == (JobState.SUCCEEDED, None)
    assert texts_of(world, job) == GOOD
    assert job.status_detail == "Cancelled by its owner."


# -- by hand -------------------------------------------------------------------------------------


def by_hand(*outcomes: LineOutcome, micro_dollars: int | None = 5) -> Round:
    """A round that an owner asks for."""
    return Round(selection=Selection(outcomes=outcomes), lines=1, micro_dollars=micro_dollars)


async def test_an_owner_can_send_lines_again(world: World) -> None:
    """A job that has ended lives once more, with the same number and the same output."""
    ports, _, job = await ended(
        world, mended("b", status=BAD_REQUEST), options=Options(retry=RetryPolicy(attempts=0))
    )
    old = job.output_name
    await world.jobs.reopen(job, world.clock.now(), by_hand(LineOutcome.ERROR), ANYBODY)
    opened = await world.now(job)
    assert (opened.state, opened.finished_at) == (JobState.ACCEPTED, None)
    assert (opened.run, opened.output_name) == (job.run + 1, old)
    job = await live(world, ports, job)
    assert (job.state, job.round) == (JobState.SUCCEEDED, 2)
    assert texts_of(world, job) == GOOD
    assert old not in files_of(world, job)
    assert len(files_of(world, job)) == 4


async def test_a_job_is_reopened_once(world: World) -> None:
    """Of two who ask at the same time one is told that somebody was first."""
    _, _, job = await ended(world, good)
    following = by_hand(LineOutcome.ERROR)
    await world.jobs.reopen(job, world.clock.now(), following, ANYBODY)
    with pytest.raises(Conflict, match="by somebody else"):
        await world.jobs.reopen(job, world.clock.now(), following, ANYBODY)


async def test_nothing_selected_comes_to_nothing(world: World) -> None:
    """A round without a line ends at once, as it began."""
    ports, provider, job = await ended(world, good)
    await world.jobs.reopen(job, world.clock.now(), by_hand(LineOutcome.BLOCKED), ANYBODY)
    job = await live(world, ports, job)
    assert (job.state, len(provider.posts)) == (JobState.SUCCEEDED, 1)
    assert "no line that could be sent" in job.status_detail


async def test_quotas_hold_for_a_round(world: World) -> None:
    """A round takes its place among the jobs in flight and its money, not its lines again."""
    _, _, job = await ended(world, good)
    at = world.clock.now()
    tight = Admission(quotas=Quotas(lines_day_max=4, bytes_stored_max=1_000_000))
    await world.jobs.reopen(job, at, by_hand(LineOutcome.ERROR), tight)
    _, _, job = await ended(world, good)
    with pytest.raises(QuotaExceeded):
        await world.jobs.reopen(
            job, at, by_hand(LineOutcome.ERROR), Admission(quotas=Quotas(jobs_in_flight_max=1))
        )


# -- who comes too late --------------------------------------------------------------------------


async def test_who_froze_in_the_round_before_changes_nothing(world: World) -> None:
    """Each write of a process that knows the first round is refused in the second."""
    provider = Answering(world, mended("b"))
    ports = world.ports(provider=provider)
    job = await world.with_input(input_of(TEXTS))
    seen = [job]
    while job.round == 1:
        await go_on(world, ports, job)
        job = await world.now(job)
        seen.append(job)
    before, now = await world.now(job), world.clock.now()
    for one in seen[:-1]:
        await stop_unsubmitted(ports, one, StopReason.CANCELLED)
        assert not await world.jobs.move(
            one.id, JobState.PREPARED, now, only_from=JobState.ACCEPTED, only_attempt=one.attempt
        )
        assert not await world.jobs.note(one.id, now, only_attempt=one.attempt, status_detail="x")
    assert await world.now(job) == before


async def test_a_cancel_between_the_last_look_and_the_round_wins(world: World) -> None:
    """A cancel that came while the output was written lets no further round begin."""
    provider = Answering(world, mended("b"))
    ports = world.ports(provider=provider)
    job = await world.with_input(input_of(TEXTS))
    for _ in range(2):
        await go_on(world, ports, await world.now(job))
    job = await world.now(job)
    assert await world.cancel(job)()
    following = by_hand(LineOutcome.ERROR)
    assert not await world.jobs.again(job, world.clock.now(), finish_of_test(), following)
    await collect(ports, job.id)
    job = await world.now(job)
    assert (job.round, job.state) == (1, JobState.SUCCEEDED)


def finish_of_test() -> Finish:
    """An end of a round."""
    return Finish(state=JobState.SUCCEEDED, detail="The end.")


async def test_an_old_output_that_cannot_be_removed_stays(world: World) -> None:
    """A place that fails keeps the old file; the new output is there all the same."""

    class Stubborn(LocalBlobs):
        async def remove(self, job_id: str, name: str) -> None:
            raise BlobError(f"{name} of {job_id} cannot be removed.")

    world.blobs = Stubborn(world.spool)
    _, _, job = await ended(world, mended("b"))
    assert (job.round, texts_of(world, job)) == (2, GOOD)
    assert len(world.outputs(job)) == 2


# -- kills ---------------------------------------------------------------------------------------


async def killed_at(world: World, point: int, raw: bytes, **changes: object) -> tuple[bool, Job]:
    """Kill a life at this point and let another process end it; return whether it was reached."""
    provider = Answering(world, mended("b"))
    job = await world.with_input(raw, created_at=world.clock.now(), **changes)
    ports = world.ports(provider=provider, timing=SELDOM)
    fate = Fate(point)
    was_killed = False
    try:
        await live(world, mortal(ports, fate.point), job)
    except Killed:
        was_killed = True
    job = await live(world, ports, job)
    assert job.state is JobState.SUCCEEDED
    assert texts_of(world, job) == GOOD
    assert provider.sent == {"a": 1, "b": 2, "c": 1, "d": 1}
    return was_killed, job


@pytest.mark.timeout(240)
@pytest.mark.parametrize("offset", range(SLICES))
async def test_killed_anywhere_in_two_rounds(world: World, quick_store: Store, offset: int) -> None:
    """At each of its points of death a life goes on: every line is there, and paid once a round."""
    point, was_killed = 1 + offset, True
    while was_killed:
        was_killed, job = await killed_at(world, point, input_of(TEXTS), reserved_micro_dollars=9)
        assert job.round == 2
        assert len(await ledger(quick_store, job)) == 2
        names = {"input.jsonl", "input.idx", job.output_name, job.index_name}
        left = set(files_of(world, job)) - names
        # What a death between a file and its row leaves is found by `prune`.
        assert len(left) <= 4
        point += SLICES
        world.clock.slept.clear()
    assert point > POINTS_MIN
