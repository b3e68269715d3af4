"""The run that costs some cents, against the emulator and against one that answers differently."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.doctor.google import PACE, RUN, Change, lab_at, relay
from tests.emulator.driver import Emulator, fresh_emulator
from tests.wire import wire

from penstock.core.models import SEED_CATALOGUE, Model
from penstock.doctor import cleaning, spend
from penstock.doctor.assumptions import ASSUMPTIONS
from penstock.doctor.check import Finding, Verdict
from penstock.doctor.lab import Pace
from penstock.errors import ConfigurationError

MODEL = "gemini-3.1-flash-lite"
SPEND = {each.id for each in ASSUMPTIONS if each.how == "spend"}
JSON = dict[str, Any]


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    """An emulator with a clock that the doctor's waiting moves."""
    with fresh_emulator(tmp_path) as made:
        yield made


def trials(
    emulator: Emulator,
    url: str = "",
    model: str = MODEL,
    location: str = "global",
    pace: Pace = PACE,
) -> dict[str, Finding]:
    """Run all trials and return what they found, by check."""

    async def run() -> list[Finding]:
        async with lab_at(url or emulator.url, emulator) as lab:
            return await spend.run(lab, model, location, pace, lambda _text: None)

    findings = asyncio.run(run())
    assert len({finding.check for finding in findings}) == len(findings)
    return {finding.check: finding for finding in findings}


def through(emulator: Emulator, change: Change, *drop: str) -> dict[str, Finding]:
    """Run all trials against an emulator whose answers somebody changes."""
    with wire(relay(emulator, change, drop)) as changed:
        return trials(emulator, changed.url)


def same(_path: str, said: Any) -> Any:  # noqa: ANN401  # any JSON
    """Change nothing."""
    return said


def verdicts(findings: dict[str, Finding], *verdict: Verdict) -> set[str]:
    """Return the checks that ended so."""
    return {check for check, finding in findings.items() if finding.verdict in verdict}


def test_everything_holds_with_the_emulator(emulator: Emulator) -> None:
    """Each assumption that is said to be tried is tried, holds, and nothing stays in the bucket."""
    findings = trials(emulator)
    assert set(findings) == SPEND
    assert verdicts(findings, Verdict.HOLDS) == SPEND, findings
    assert emulator.names() == []


def test_a_run_in_between_changes_nothing(emulator: Emulator) -> None:
    """The relay that the other tests change answers with is itself none of the changes."""
    assert verdicts(through(emulator, same), Verdict.HOLDS) == SPEND


def test_each_create_is_sent_once(emulator: Emulator) -> None:
    """Five jobs for five creates, and three that are refused: nothing is ever repeated."""
    trials(emulator)
    seen = emulator.http.get("/emulator/v1/jobs").json()
    assert (seen["jobsMade"], seen["calls"]["create"]) == (5, 8)


# -- answers of another kind -----------------------------------------------------------------------


def on_jobs(change: Callable[[JSON], None]) -> Change:
    """Change each job that is shown or listed."""

    def changed(_path: str, said: Any) -> Any:  # noqa: ANN401  # any JSON
        jobs = said.get("batchPredictionJobs", [said] if "displayName" in said else [])
        for job in jobs:
            change(job)
        return said

    return changed


def on_rows(change: Callable[[JSON], None]) -> Change:
    """Change each row of an output."""

    def changed(_path: str, said: Any) -> Any:  # noqa: ANN401  # any JSON
        if "processed_time" in said:
            change(said)
        return said

    return changed


def reversed_list(_path: str, said: Any) -> Any:  # noqa: ANN401  # any JSON
    """List the oldest first."""
    for number, job in enumerate(said.get("batchPredictionJobs", [])):
        job["createTime"] = f"2026-11-23T00:00:{number:02}Z"
    return said


def all_of(*changes: Change) -> Change:
    """Make several changes."""

    def changed(path: str, said: Any) -> Any:  # noqa: ANN401  # any JSON
        for change in changes:
            said = change(path, said)
        return said

    return changed


def elsewhere(job: JSON) -> None:
    """Say that the output is in a folder of somebody else's."""
    if "outputInfo" in job:
        job["outputInfo"]["gcsOutputDirectory"] = "gs://penstock/other/prediction-model-1"


def counted(job: JSON) -> None:
    """Write counts as numbers."""
    if "completionStats" in job:
        stats = job["completionStats"].items()
        job["completionStats"] = {name: int(value) for name, value in stats}


def dreaming(job: JSON) -> None:
    """Say a state that nobody knows, for one that waits."""
    if job["state"] == "JOB_STATE_PENDING":
        job["state"] = "JOB_STATE_DREAMING"


def answered(row: JSON) -> None:
    """Answer the bad line, too."""
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1}
    row["status"], row["response"] = "", {"candidates": [{}], "usageMetadata": usage}


def without(name: str) -> Callable[[JSON], None]:
    """Leave a member out."""

    def leave(job: JSON) -> None:
        job.pop(name, None)

    return leave


FAILS, WARNS, UNKNOWN = Verdict.FAILS, Verdict.WARNS, Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            on_rows(without("key")),
            {"key-echo": FAILS, "key-text": UNKNOWN, "row-order": UNKNOWN, "failed-line": UNKNOWN},
        ),
        (
            all_of(on_rows(lambda row: row.update(key=7)), on_rows(without("response"))),
            {"key-text": FAILS, "row-order": UNKNOWN, "usage": FAILS},
        ),
        (
            all_of(
                on_rows(lambda row: row.update(status="no")),
                on_jobs(without("labels")),
                on_jobs(without("completionStats")),
                reversed_list,
            ),
            {"failed-line": FAILS, "labels-kept": FAILS, "stats": WARNS, "list-order": WARNS},
        ),
        (
            all_of(
                on_rows(answered),
                on_jobs(lambda job: job.update(displayName="x")),
                on_jobs(counted),
                on_jobs(dreaming),
            ),
            {"failed-line": WARNS, "labels-kept": FAILS, "stats": WARNS, "states-known": FAILS},
        ),
        (on_jobs(elsewhere), {"output-folder": FAILS, "key-echo": UNKNOWN, "usage": UNKNOWN}),
    ],
    ids=["keys", "types", "members", "words", "folder"],
)
@pytest.mark.slow
def test_another_google_is_noticed(
    emulator: Emulator, change: Change, expected: dict[str, Verdict]
) -> None:
    """What does not hold is told under its own check, and what follows from it is unknown."""
    findings = through(emulator, change)
    assert {check: findings[check].verdict for check in expected} == expected
    assert all(one.todo for one in findings.values() if one.verdict in {FAILS, WARNS})


def test_a_filter_that_is_ignored_is_noticed(emulator: Emulator) -> None:
    """Others' jobs in the list fail the filter's check alone: ours are found all the same."""
    findings = through(emulator, same, "filter")
    assert verdicts(findings, Verdict.FAILS) == {"label-filter"}
    assert "filter is ignored" in findings["label-filter"].saw


# -- faults of the emulator ------------------------------------------------------------------------


def test_a_list_that_lags_is_measured(emulator: Emulator) -> None:
    """A job that is not listed in time fails; one that is, says after how long."""
    emulator.rule(fault="stale-list", **{"with": {"seconds": 3_600}})
    findings = trials(emulator)
    assert findings["list-lag"].verdict is Verdict.FAILS
    assert findings["one-job"].verdict is Verdict.UNKNOWN
    assert "ours is not listed" in findings["label-filter"].saw


def test_a_short_lag_is_told(emulator: Emulator) -> None:
    """Ten seconds of lag are within what is waited for, and are measured."""
    emulator.rule(fault="stale-list", **{"with": {"seconds": 10}})
    finding = trials(emulator)["list-lag"]
    assert finding.verdict is Verdict.HOLDS
    assert 10 <= finding.facts["seconds"] <= 20


def test_a_second_job_of_one_create_is_noticed(emulator: Emulator) -> None:
    """Two jobs under one label are one too many."""
    emulator.rule(
        fault="duplicate", when={"call": "create", "display_name": "penstock-doctor-*-main"}
    )
    assert trials(emulator)["one-job"].verdict is Verdict.FAILS


def test_a_service_agent_without_rights_is_noticed(emulator: Emulator) -> None:
    """The job's own message is shown, and nothing is said about rows that are not there."""
    emulator.rule(when={"call": "job_output"}, then={"status": 403})
    findings = trials(emulator)
    assert "storage.objects.create" in findings["service-agent"].saw
    assert findings["service-agent"].verdict is Verdict.FAILS
    assert {"key-echo", "usage", "output-final"} <= verdicts(findings, Verdict.UNKNOWN)
    assert set(findings) == SPEND


def test_a_queue_without_end_ends_with_patience(emulator: Emulator) -> None:
    """What has not ended is unknown and cancelled; the bucket is empty again."""
    emulator.rule(fault="stuck-queued")
    findings = trials(emulator, pace=Pace(patience_seconds=300.0, list_seconds=30.0))
    assert {"input-gone", "importer", "key-echo", "cancel-ended"} <= verdicts(
        findings, Verdict.UNKNOWN
    )
    jobs = emulator.http.get("/emulator/v1/jobs").json()["jobs"]
    assert {job["state"] for job in jobs} == {"JOB_STATE_CANCELLED"}
    assert emulator.names() == []


def test_a_create_that_is_unclear_is_not_repeated(emulator: Emulator) -> None:
    """A lost answer is said; the job that it made all the same is found and cancelled."""
    emulator.rule(fault="lost-reply-fin", when={"call": "create", "display_name": "*-main"})
    emulator.rule(fault="stuck-queued", when={"display_name": "*-main"})
    findings = trials(emulator)
    assert "unclear" in findings["list-lag"].saw
    assert findings["key-echo"].verdict is Verdict.UNKNOWN
    jobs = emulator.http.get("/emulator/v1/jobs").json()["jobs"]
    mine = [job for job in jobs if job["displayName"].endswith("main")]
    assert [job["state"] for job in mine] == ["JOB_STATE_CANCELLED"]


def test_a_refused_create_that_made_a_job_is_noticed(emulator: Emulator) -> None:
    """404 with a job behind it is the worst; 503 proves nothing and fails the check as well."""
    emulator.rule(
        when={"call": "create", "display_name": "*-nobody"}, then={"status": 503}, times=1
    )
    assert trials(emulator)["create-refused"].verdict is Verdict.FAILS


def test_a_storage_that_states_wrong_sums_is_noticed(emulator: Emulator) -> None:
    """Without the right CRC32C no trial goes on: nothing could be uploaded."""
    emulator.rule(fault="wrong-crc32c", when={"path": "*/probe"})
    findings = trials(emulator)
    assert findings["storage-checksum"].verdict is Verdict.FAILS
    assert "storage-consistent" not in findings


def test_a_run_that_breaks_off_cleans_up(emulator: Emulator) -> None:
    """A bucket that takes no input ends the run early, with its reason and no marker."""
    emulator.rule(when={"call": "object_write", "path": "*/in/main.jsonl"}, then={"status": 403})
    findings = trials(emulator)
    assert findings["run"].verdict is Verdict.UNKNOWN
    assert emulator.names() == []


def test_a_cleaning_that_fails_keeps_the_marker(emulator: Emulator) -> None:
    """As long as something is left, the marker says so, and how to remove it."""
    emulator.rule(when={"call": "object_delete", "path": "*/in/*"}, then={"status": 403})
    findings = trials(emulator)
    assert findings["clean-up"].verdict is Verdict.UNKNOWN
    assert "penstock/doctor/running.json" in emulator.names()


@pytest.mark.parametrize(("model", "location"), [("gemini-2.5-flash", "us-central1")])
def test_a_regional_model_is_not_tried_elsewhere(
    emulator: Emulator, model: str, location: str
) -> None:
    """The check of Gemini 3's location says that it was not made."""
    findings = trials(emulator, model=model, location=location)
    assert verdicts(findings, Verdict.UNKNOWN) == {"regional-refused"}


# -- one run at a time -----------------------------------------------------------------------------


async def test_two_runs_are_refused(emulator: Emulator) -> None:
    """The second one does nothing and says how to end the first; cleaning ends it."""
    async with lab_at(emulator.url, emulator) as lab:
        await lab.mark(MODEL, "global")
        with pytest.raises(ConfigurationError, match="has begun and not ended"):
            await spend.run(lab, MODEL, "global", PACE, lambda _text: None)
        assert emulator.http.get("/emulator/v1/jobs").json()["jobsMade"] == 0


async def test_cleaning_ends_a_killed_run(emulator: Emulator) -> None:
    """Its jobs are cancelled, its objects and its marker are gone, and another run may begin."""
    async with lab_at(emulator.url, emulator) as killed:
        await killed.mark(MODEL, "global")
        uri = await killed.put("main", [{"key": "k-1", "request": {"contents": []}}])
        await killed.create("main", MODEL, "global", uri)
    async with lab_at(emulator.url, emulator) as lab:
        lab.resume("00000000")
        finding = await cleaning.clean(lab, "global")
        assert (finding.verdict, RUN in finding.saw) == (Verdict.HOLDS, True)
        assert (await cleaning.clean(lab, "global")).saw == "nothing is left of any run"
    jobs = emulator.http.get("/emulator/v1/jobs").json()["jobs"]
    assert [job["state"] for job in jobs] == ["JOB_STATE_CANCELLED"]
    assert emulator.names() == []


@pytest.mark.parametrize("marker", [b"{", b'{"run": "../x"}', b"[]"])
async def test_a_strange_marker_is_left_alone(emulator: Emulator, marker: bytes) -> None:
    """What names no run of ours is shown to a person, and nothing is deleted."""
    emulator.put("penstock/doctor/running.json", marker)
    async with lab_at(emulator.url, emulator) as lab:
        finding = await cleaning.clean(lab, "global")
    assert finding.verdict is Verdict.FAILS
    assert emulator.names() == ["penstock/doctor/running.json"]


async def test_cleaning_says_what_it_cannot_do(emulator: Emulator) -> None:
    """A list that fails or a bucket that refuses is told, and the marker stays."""
    async with lab_at(emulator.url, emulator) as lab:
        await lab.mark(MODEL, "global")
        rule = emulator.rule(when={"call": "list"}, then={"status": 503})
        assert (await cleaning.clean(lab, "global")).verdict is Verdict.FAILS
        assert emulator.names() == ["penstock/doctor/running.json"]
        emulator.http.delete(f"/emulator/v1/rules/{rule}")
        emulator.rule(when={"call": "object_read"}, then={"status": 403})
        assert (await cleaning.clean(lab, "global")).verdict is Verdict.FAILS


async def test_a_bucket_that_takes_no_marker_is_said(emulator: Emulator) -> None:
    """403 for the marker is no other run."""
    emulator.rule(when={"call": "object_write"}, then={"status": 403})
    async with lab_at(emulator.url, emulator, prefix="") as lab:
        with pytest.raises(ConfigurationError, match="cannot be written"):
            await lab.mark(MODEL, "global")


# -- the bound -------------------------------------------------------------------------------------


def test_the_bound_covers_what_was_paid(emulator: Emulator) -> None:
    """The emulator's own account of tokens, at the price without a batch, is far below it."""
    trials(emulator)
    price = SEED_CATALOGUE[MODEL].price
    assert price is not None
    assert price.online is not None
    jobs = emulator.http.get("/emulator/v1/jobs").json()["jobs"]
    paid = sum(
        job["usage"].get("promptTokenCount", 0) * price.online.input
        + job["usage"].get("candidatesTokenCount", 0) * price.online.output
        + job["usage"].get("thoughtsTokenCount", 0) * price.online.output
        for job in jobs
    )
    assert 0 < paid / 1_000_000 < spend.bound_micro_dollars(SEED_CATALOGUE[MODEL])


def test_the_cheapest_model_fits_the_location() -> None:
    """At a region no Gemini 3 is chosen; models without a price never are."""
    models = dict(SEED_CATALOGUE)
    best = spend.cheapest(models, "global")
    assert best is not None
    assert best.id == MODEL
    assert spend.cheapest(models, "us-central1") is None
    assert spend.cheapest({"x": Model(id="x")}, "") is None
    with pytest.raises(ConfigurationError, match="no bound"):
        spend.bound_micro_dollars(Model(id="x"))
