"""The life of a job, from create to its end."""

import re

import pytest
from tests.emulator.driver import JOBS, Emulator, create_body, is_over, jsonl, line


def test_create_answers_the_documented_subset(emulator: Emulator) -> None:
    """A create answer has a numeric id, the project's number and nothing that is not known yet."""
    made = emulator.create(labels={"svc": "genbatch"})
    assert re.fullmatch(
        r"projects/415104041262/locations/global/batchPredictionJobs/\d{19}", made["name"]
    )
    assert made["state"] == "JOB_STATE_PENDING"
    assert made["createTime"] == made["updateTime"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", made["createTime"])
    assert made["labels"] == {"svc": "genbatch"}
    assert not {"startTime", "endTime", "outputInfo", "completionStats", "error"} & made.keys()


def test_uris_and_field_names_in_both_spellings(emulator: Emulator) -> None:
    """A bare string of URIs and snake_case are taken; the answer has a list and camelCase."""
    made = emulator.http.post(
        JOBS.replace("/v1/", "/v1beta1/"),
        json={
            "display_name": "d",
            "model": create_body()["model"],
            "input_config": {
                "instances_format": "jsonl",
                "gcs_source": {"uris": "gs://penstock/in/x.jsonl"},
            },
            "output_config": {
                "predictions_format": "jsonl",
                "gcs_destination": {"output_uri_prefix": "gs://penstock/out"},
            },
        },
    ).json()
    assert made["displayName"] == "d"
    assert made["inputConfig"]["gcsSource"]["uris"] == ["gs://penstock/in/x.jsonl"]


def test_a_job_passes_through_its_states_with_the_clock(emulator: Emulator) -> None:
    """PENDING, RUNNING with a start time, SUCCEEDED with end time, output and text counts."""
    emulator.put("in/x.jsonl", jsonl([line("a", "k-1"), line("[[emulator:fail=400]]", "k-2")]))
    name = emulator.create()["name"]
    emulator.clock.now += 19
    assert emulator.get(name)["state"] == "JOB_STATE_PENDING"
    emulator.clock.now += 2
    running = emulator.get(name)
    assert running["state"] == "JOB_STATE_RUNNING"
    assert "endTime" not in running
    done = emulator.finish(name)
    assert done["state"] == "JOB_STATE_SUCCEEDED"
    assert done["completionStats"] == {"successfulCount": "1", "failedCount": "1"}
    assert done["createTime"] < done["startTime"] < done["endTime"]


def test_a_job_whose_lines_all_fail_still_succeeds(emulator: Emulator) -> None:
    """Failed lines never fail a job; a zero count is absent."""
    done = emulator.run([line("[[emulator:fail=429]]")])
    assert done["state"] == "JOB_STATE_SUCCEEDED"
    assert done["completionStats"] == {"failedCount": "1"}


def test_repeating_a_create_makes_a_second_job(emulator: Emulator) -> None:
    """There is no idempotency on create."""
    assert emulator.create()["name"] != emulator.create()["name"]
    assert len(emulator.http.get(JOBS).json()["batchPredictionJobs"]) == 2


def test_a_missing_input_fails_the_job_and_not_the_create(emulator: Emulator) -> None:
    """A job whose input object is gone fails with code 3 and writes nothing."""
    done = emulator.finish(emulator.create()["name"])
    assert done["state"] == "JOB_STATE_FAILED"
    assert done["error"]["code"] == 3
    assert done["error"]["message"].startswith("Failed to import data.")
    assert "details" not in done["error"]
    assert emulator.names("out/") == []


def test_the_input_is_read_when_running_begins(emulator: Emulator) -> None:
    """An input that is deleted while the job is pending makes it fail: the fence of reconciling."""
    emulator.put("in/x.jsonl", jsonl([line("a")]))
    name = emulator.create()["name"]
    assert emulator.http.delete("/penstock/in/x.jsonl").status_code == 204
    assert emulator.finish(name)["state"] == "JOB_STATE_FAILED"


def test_a_missing_bucket_fails_with_code_9(emulator: Emulator) -> None:
    """The create succeeds, the job fails naming the bucket."""
    target = {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": "gs://nowhere/x"}}
    done = emulator.run([line("a")], outputConfig=target)
    assert done["error"]["code"] == 9
    assert done["error"]["message"].startswith("Failed to get GCS bucket location for nowhere.")


def test_an_unwritable_output_fails_after_the_work(emulator: Emulator) -> None:
    """The job runs, then fails with code 7 and the work is lost."""
    emulator.rule(when={"call": "job_output", "path": "penstock/out/*"}, then={"status": 403})
    done = emulator.run([line("a")])
    assert done["error"]["code"] == 7
    assert '"storage.objects.create" to write gs://penstock/out/x/' in done["error"]["message"]


@pytest.mark.parametrize("partial", [False, True])
def test_an_output_bucket_that_vanishes(emulator: Emulator, *, partial: bool) -> None:
    """The job fails: with code 13 at the export, or with 9 if the work had not begun."""
    emulator.http.post("/storage/v1/b", json={"name": "short-lived"})
    if partial:
        emulator.rule(then={"partial": True})
    rule = emulator.rule(then={"hold": "running"})
    emulator.put("in/x.jsonl", jsonl([line("a"), line("b", "k-1")]))
    target = {"outputUriPrefix": "gs://short-lived/x"}
    name = emulator.create(outputConfig={"predictionsFormat": "jsonl", "gcsDestination": target})[
        "name"
    ]
    emulator.clock.now += 21
    emulator.wait(name, lambda job: job["state"] == "JOB_STATE_RUNNING")
    emulator.http.delete("/storage/v1/b/short-lived")
    emulator.clock.now += 100
    emulator.get(name)
    emulator.http.delete(f"/emulator/v1/rules/{rule}")
    done = emulator.finish(name)
    assert done["state"] == "JOB_STATE_FAILED"
    assert done["error"]["code"] in {9, 13}


def test_cancel_while_pending_is_immediate(emulator: Emulator) -> None:
    """CANCELLED by the next poll, without output or counts, with code 1."""
    name = emulator.create()["name"]
    assert emulator.http.post(f"/v1/{name}:cancel").json() == {}
    done = emulator.get(name)
    assert done["state"] == "JOB_STATE_CANCELLED"
    assert done["error"] == {"code": 1, "message": "CANCELED"}
    assert "completionStats" not in done


def test_cancel_while_running_keeps_the_finished_rows(emulator: Emulator) -> None:
    """Half the run time means half the rows, written and counted; the rest is incomplete."""
    emulator.put("in/x.jsonl", jsonl([line(f"t {i}", f"k-{i}") for i in range(100)]))
    name = emulator.create()["name"]
    emulator.clock.now += 20 + (40 + 100 * 0.01) / 2
    assert emulator.get(name)["state"] == "JOB_STATE_RUNNING"
    emulator.http.post(f"/v1/{name}:cancel", json={})
    assert emulator.get(name)["state"] == "JOB_STATE_CANCELLING"
    done = emulator.finish(name)
    assert done["state"] == "JOB_STATE_CANCELLED"
    assert done["completionStats"] == {"successfulCount": "50", "incompleteCount": "50"}
    assert len(emulator.rows(done)) == 50


def test_cancel_of_a_finished_job_is_refused(emulator: Emulator) -> None:
    """400 FAILED_PRECONDITION."""
    done = emulator.run([line("a")])
    answer = emulator.http.post(f"/v1/{done['name']}:cancel")
    assert answer.status_code == 400
    assert answer.json()["error"]["status"] == "FAILED_PRECONDITION"


def test_delete_gives_a_finished_operation_and_404_afterwards(emulator: Emulator) -> None:
    """The operation is done at once; the job is gone for get and list."""
    name = emulator.create()["name"]
    assert emulator.http.delete(f"/v1/{name}").json()["done"] is True
    assert emulator.http.get(f"/v1/{name}").status_code == 404
    assert emulator.http.delete(f"/v1/{name}").status_code == 404
    assert emulator.http.get(JOBS).json() == {}


def test_the_queue_expires_after_72_hours(emulator: Emulator) -> None:
    """A job that is held in the queue is QUEUED, then EXPIRED, without an error."""
    emulator.rule(then={"hold": "queued"})
    name = emulator.create()["name"]
    assert emulator.get(name)["state"] == "JOB_STATE_QUEUED"
    answer = emulator.http.post("/emulator/v1/clock", json={"advance_seconds": 72 * 3600})
    assert answer.status_code == 200
    done = emulator.get(name)
    assert done["state"] == "JOB_STATE_EXPIRED"
    assert "error" not in done


def test_a_run_is_cut_after_24_hours(emulator: Emulator) -> None:
    """A job that would run 48 hours ends after 24 with half of its rows."""
    lines = [line(f"t {i}", f"k-{i}") for i in range(9)] + [line("[[emulator:delay=48h]]", "k-9")]
    emulator.put("in/x.jsonl", jsonl(lines))
    name = emulator.create()["name"]
    emulator.clock.now += 25 * 3600
    done = emulator.finish(name)
    assert done["state"] == "JOB_STATE_CANCELLED"
    assert done["completionStats"] == {"successfulCount": "4", "incompleteCount": "6"}


@pytest.mark.parametrize(
    ("order", "state", "rows"),
    [
        ({"finish": "JOB_STATE_FAILED"}, "JOB_STATE_FAILED", None),
        ({"finish": "JOB_STATE_EXPIRED"}, "JOB_STATE_EXPIRED", 2),
        ({"finish": "JOB_STATE_PARTIALLY_SUCCEEDED"}, "JOB_STATE_PARTIALLY_SUCCEEDED", 2),
        ({"finish": "JOB_STATE_CANCELLED", "rows": 0.25}, "JOB_STATE_CANCELLED", 1),
        ({"finish": "JOB_STATE_SUCCEEDED", "rows": 0.75}, "JOB_STATE_SUCCEEDED", 3),
    ],
)
def test_every_end_can_be_ordered(
    emulator: Emulator, order: dict[str, object], state: str, rows: int | None
) -> None:
    """A finish rule decides the terminal state and how many rows were written."""
    emulator.rule(when={"display_name": "svc-*"}, then=order)
    done = emulator.run([line(f"t {i}", f"k-{i}") for i in range(4)])
    assert done["state"] == state
    assert (len(emulator.rows(done)) if "outputInfo" in done else None) == rows
    assert ("error" in done) == (state in {"JOB_STATE_FAILED", "JOB_STATE_CANCELLED"})


def test_a_cancelled_job_may_still_succeed(emulator: Emulator) -> None:
    """CANCELLING ends in SUCCEEDED with all rows where a rule orders it."""
    emulator.rule(when={"call": "cancel"}, then={"finish": "JOB_STATE_SUCCEEDED"})
    emulator.put("in/x.jsonl", jsonl([line(f"t {i}", f"k-{i}") for i in range(10)]))
    name = emulator.create()["name"]
    emulator.clock.now += 30
    emulator.wait(name, lambda job: job["state"] == "JOB_STATE_RUNNING")
    emulator.http.post(f"/v1/{name}:cancel")
    done = emulator.finish(name)
    assert done["state"] == "JOB_STATE_SUCCEEDED"
    assert len(emulator.rows(done)) == 10


def test_a_deleted_job_writes_nothing(emulator: Emulator) -> None:
    """Deleting a running job stops it; no output appears."""
    emulator.put("in/x.jsonl", jsonl([line("a")]))
    name = emulator.create()["name"]
    emulator.clock.now += 30
    emulator.get(name)
    assert emulator.http.delete(f"/v1/{name}").status_code == 200
    emulator.clock.now += 3600
    assert emulator.http.get("/emulator/v1/jobs").json()["jobs"] == []
    assert emulator.names("out/") == []
    assert len(emulator.events("job_deleted")) == 1


def test_cancel_beats_a_failing_import(emulator: Emulator) -> None:
    """A job that is cancelled before its import has failed is CANCELLED."""
    name = emulator.create()["name"]
    emulator.clock.now += 21
    emulator.get(name)
    emulator.http.post(f"/v1/{name}:cancel")
    assert emulator.finish(name)["state"] == "JOB_STATE_CANCELLED"


def test_a_held_run_is_cut_after_24_hours(emulator: Emulator) -> None:
    """A job that never gets on ends when its day is over, with what was done."""
    emulator.rule(then={"hold": "running"})
    emulator.put("in/x.jsonl", jsonl([line("a")]))
    name = emulator.create()["name"]
    emulator.clock.now += 25 * 3600
    done = emulator.wait(name, is_over)
    assert done["state"] == "JOB_STATE_CANCELLED"
    assert done["completionStats"] == {"successfulCount": "1"}


def test_many_jobs_at_once(emulator: Emulator) -> None:
    """Fifty jobs over one input all end, each with its own rows."""
    emulator.put("in/x.jsonl", jsonl([line(f"t {i}", f"k-{i}") for i in range(3)]))
    names = []
    for number in range(50):
        target = {"outputUriPrefix": f"gs://penstock/out/{number}"}
        config = {"predictionsFormat": "jsonl", "gcsDestination": target}
        names.append(emulator.create(outputConfig=config)["name"])
    for name in names:
        assert len(emulator.rows(emulator.finish(name))) == 3


def test_a_held_run_goes_on_when_the_rule_is_removed(emulator: Emulator) -> None:
    """RUNNING for as long as the rule lives, and no longer."""
    rule = emulator.rule(then={"hold": "running"})
    emulator.put("in/x.jsonl", jsonl([line("a")]))
    name = emulator.create()["name"]
    emulator.clock.now += 7200
    assert emulator.get(name)["state"] == "JOB_STATE_RUNNING"
    assert emulator.http.delete(f"/emulator/v1/rules/{rule}").json() == {"removed": 1}
    assert emulator.finish(name)["state"] == "JOB_STATE_SUCCEEDED"


def test_the_log_counts_paid_jobs(emulator: Emulator) -> None:
    """One line each for created, started and finished, with labels, rows and tokens."""
    emulator.run([line("a")], labels={"batch": "7f"})
    (finished,) = emulator.events("job_finished")
    assert finished["labels"] == {"batch": "7f"}
    assert finished["successful"] == 1
    assert finished["usage"]["candidatesTokenCount"] > 0
    assert len(emulator.events("job_created")) == len(emulator.events("job_started")) == 1
    assert emulator.events("object_written")[0]["uri"] == "gs://penstock/in/x.jsonl"


def test_several_inputs_and_a_wildcard(emulator: Emulator) -> None:
    """All files of the list and all matches of a pattern are read."""
    for number in range(3):
        emulator.put(f"many/{number}.jsonl", jsonl([line("a", f"k-{number}")]))
    source = {
        "instancesFormat": "jsonl",
        "gcsSource": {"uris": ["gs://penstock/many/0.jsonl", "gs://penstock/many/[12].jsonl"]},
    }
    assert emulator.run([line("a")], inputConfig=source)["error"]["code"] == 3
    source["gcsSource"] = {"uris": ["gs://penstock/many/*.jsonl"]}
    done = emulator.run([line("a")], inputConfig=source)
    assert {row["key"] for row in emulator.rows(done)} == {"k-0", "k-1", "k-2"}
