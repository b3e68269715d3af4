"""Faults by name: each one at the wire, counted, by rule and by seed."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from google_crc32c import Checksum
from tests.emulator.driver import (
    JOBS,
    Emulator,
    JsonObject,
    create_body,
    fresh_emulator,
    jsonl,
    line,
)

from penstock.emulator.named import CATALOGUE, BadRule, parse_file
from penstock.emulator.spoiling import FOREIGN_TEXT, foreign_key

LOST = (httpx2.RemoteProtocolError, httpx2.ReadError)
DOCS = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")


def used(emulator: Emulator, rule: str) -> int:
    """How often a rule has struck."""
    return int(emulator.http.get(f"/emulator/v1/rules/{rule}").json()["used"])


def is_in(state: str) -> Callable[[JsonObject], bool]:
    """Whether a job is in a state."""
    return lambda job: job["state"] == f"JOB_STATE_{state}"


def jobs_made(emulator: Emulator) -> int:
    """How many jobs exist."""
    return len(emulator.http.get("/emulator/v1/jobs").json()["jobs"])


def test_every_fault_stands_in_the_documentation(shared: Emulator) -> None:
    """The catalogue of the API and the tables of the page name the same faults and parameters."""
    listed = shared.http.get("/emulator/v1/faults").json()["faults"]
    assert [each["name"] for each in listed] == [named.name for named in CATALOGUE]
    for each in listed:
        (row,) = re.findall(rf"^\| `{each['name']}` \|.*$", DOCS, re.MULTILINE)
        assert all(f"`{parameter}`" in row for parameter in each["with"])


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ({"fault": "return-99"}, "known are: return-X"),
        ({"fault": "nonsense"}, "output-growing"),
        ({"fault": "late-landing", "with": {"seconds": 601}}, "from 0 to 600"),
        ({"fault": "late-landing", "with": {"seconds": "60"}}, "must be of type float or int"),
        ({"fault": "hang", "with": {"after": 1}}, "must be of type bool"),
        ({"fault": "duplicate", "with": {"share": 1}}, "it has: none"),
        ({"fault": "duplicate", "when": {"call": "get"}}, "it strikes: create"),
        ({"fault": "output-none", "when": {"call": "get"}}, "jobs, so leave `call` away"),
        ({"fault": "duplicate", "rate": 1.5}, "probability"),
        ({"fault": "duplicate", "times": 0}, "1 or more"),
        ({"fault": "duplicate", "then": {"status": 500}}, "either"),
        ({"when": {}}, "either"),
    ],
)
def test_wrong_rules_are_refused_with_what_would_be_right(
    shared: Emulator,
    body: Any,  # noqa: ANN401 - any JSON
    hint: str,
) -> None:
    """400 and a text that helps, so that a typing error is not a fault that never came."""
    answer = shared.http.post("/emulator/v1/rules", json=body)
    assert answer.status_code == 400
    assert hint in answer.json()["error"]


@pytest.mark.parametrize("body", [{"rates": {}}, {"rates": {"no": 1}}, {"seed": 1}, []])
def test_wrong_mixes_are_refused(shared: Emulator, body: Any) -> None:  # noqa: ANN401 - any JSON
    """A mix needs at least one fault that exists."""
    assert shared.http.post("/emulator/v1/mix", json=body).status_code == 400


def statuses_of_creates(directory: Path, seed: int) -> list[int]:
    """What 40 creates are answered under a mix, in a fresh emulator."""
    rates = {"return-503": 0.3, "return-429": 0.3}
    with fresh_emulator(directory) as emulator:
        emulator.create()
        emulator.http.post("/emulator/v1/mix", json={"seed": seed, "rates": rates})
        return [emulator.http.post(JOBS, json=create_body()).status_code for _ in range(40)]


def test_the_same_seed_and_calls_give_the_same_faults(tmp_path: Path) -> None:
    """Two emulators agree on every call, and another seed gives other faults of the same kinds."""
    first = statuses_of_creates(tmp_path / "a", 7)
    assert first == statuses_of_creates(tmp_path / "b", 7)
    other = statuses_of_creates(tmp_path / "c", 8)
    assert first != other
    assert set(first) == set(other) == {200, 429, 503}


def test_strikes_are_counted_and_noted(emulator: Emulator) -> None:
    """A rule spares the first calls, strikes so often, and says what it struck, in the log too."""
    rule = emulator.rule(fault="return-503", when={"call": "create"}, skip=1, times=2)
    answers = [emulator.http.post(JOBS, json=create_body()).status_code for _ in range(4)]
    assert answers == [200, 503, 503, 200]
    assert used(emulator, rule) == 2
    hits = emulator.http.get("/emulator/v1/hits", params={"rule": rule}).json()["hits"]
    assert [(hit["fault"], hit["call"], hit["display_name"]) for hit in hits] == [
        ("return-503", "create", "svc-1")
    ] * 2
    assert len(emulator.events("fault_struck")) == 2
    assert emulator.http.get("/emulator/v1/hits", params={"rule": "99"}).json() == {"hits": []}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 429, 500, 502, 503, 504])
def test_a_create_can_be_answered_with_any_status(shared: Emulator, status: int) -> None:
    """The status in Google's shape, with Retry-After where asked, before or after the effect."""
    shared.rule(fault=f"return-{status}", when={"call": "create"}, times=1)
    shared.rule(fault=f"return-{status}-after-effect", times=1, **{"with": {"retry_after": 7}})
    before = jobs_made(shared)
    answer = shared.http.post(JOBS, json=create_body())
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)
    assert "retry-after" not in answer.headers
    assert jobs_made(shared) == before
    answer = shared.http.post(JOBS, json=create_body())
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
    assert jobs_made(shared) == before + 1


@pytest.mark.parametrize(
    ("fault", "made"),
    [
        ("lost-call", 0),
        ("return-reset-connection", 0),
        ("lost-reply-fin", 1),
        ("lost-reply-rst", 1),
        ("lost-reply-truncation", 1),
        ("late-landing", 1),
        ("hang", 1),
    ],
)
def test_a_create_without_an_answer(emulator: Emulator, fault: str, made: int) -> None:
    """Every cut is an error of the connection; what took effect is a job."""
    parameters = {"seconds": 0.05} if fault == "hang" else {}
    emulator.rule(fault=fault, when={"call": "create"}, times=1, **{"with": parameters})
    with pytest.raises(LOST):
        emulator.http.post(JOBS, json=create_body())
    assert jobs_made(emulator) == made
    assert emulator.http.get("/healthz").status_code == 200


def test_a_truncated_answer_has_a_head_and_half_a_body(emulator: Emulator) -> None:
    """The status is 200 and the body ends early, as a proxy that died would leave it."""
    emulator.rule(fault="lost-reply-truncation", times=1)
    with emulator.http.stream("POST", JOBS, json=create_body()) as answer:
        assert answer.status_code == 200
        with pytest.raises(LOST):
            answer.read()


def test_a_client_that_gives_up_ends_a_hang(emulator: Emulator) -> None:
    """A hang lasts until the client leaves, and the server goes on."""
    emulator.rule(fault="hang", times=1, **{"with": {"after": False}})
    with pytest.raises(httpx2.ReadTimeout):
        emulator.http.post(JOBS, json=create_body(), timeout=0.05)
    assert jobs_made(emulator) == 0
    emulator.create()


def test_an_answer_with_a_wrong_body(emulator: Emulator) -> None:
    """200 and JSON that is no job, although there is one."""
    emulator.rule(fault="lost-reply-wrong-body", times=1)
    answer = emulator.http.post(JOBS, json=create_body())
    assert (answer.status_code, answer.json()) == (200, {"unexpected": True})
    assert jobs_made(emulator) == 1


def test_stuck_states_end_at_googles_limits_and_overdue_ones_do_not(emulator: Emulator) -> None:
    """72 hours in the queue expire, 24 hours of running are cancelled; overdue jobs just stay."""
    emulator.put("in/x.jsonl", jsonl([line("a")]))
    faults = ["stuck-queued", "stuck-running", "overdue-queued", "overdue-running"]
    rules = [emulator.rule(fault=name, when={"display_name": name}) for name in faults]
    names = [emulator.create(displayName=name)["name"] for name in faults]
    emulator.clock.now += 3600
    for name, state in zip(names, ["QUEUED", "RUNNING"] * 2, strict=True):
        emulator.wait(name, is_in(state))
    emulator.clock.now += 73 * 3600
    for name, state in zip(names, ["EXPIRED", "CANCELLED", "QUEUED", "RUNNING"], strict=True):
        emulator.wait(name, is_in(state))
    assert [used(emulator, rule) for rule in rules] == [1, 1, 1, 1]
    emulator.http.delete("/emulator/v1/rules")
    assert emulator.finish(names[2])["state"] == "JOB_STATE_SUCCEEDED"


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("end-expired", "EXPIRED"),
        ("end-partially-succeeded", "PARTIALLY_SUCCEEDED"),
        ("end-failed", "FAILED"),
        ("end-cancelled", "CANCELLED"),
    ],
)
def test_a_job_can_end_in_any_way(emulator: Emulator, fault: str, state: str) -> None:
    """The state is as ordered, and so is the share of rows."""
    emulator.rule(fault=fault, times=1, **{"with": {"rows": 0.5}})
    done = emulator.run([line(f"t {n}", f"k-{n}") for n in range(4)])
    assert done["state"] == f"JOB_STATE_{state}"
    assert len(emulator.rows(done)) == 2


def test_states_that_are_only_told(emulator: Emulator) -> None:
    """Paused, updating, unknown, backwards and invented counts are told; the truth comes back."""
    name = emulator.create()["name"]
    for fault, state in [
        ("say-paused", "PAUSED"),
        ("say-updating", "UPDATING"),
        ("say-unknown", "DREAMING"),
        ("backwards", "QUEUED"),
    ]:
        emulator.rule(fault=fault, when={"call": "get"}, times=1)
        assert emulator.get(name)["state"] == f"JOB_STATE_{state}"
    emulator.rule(fault="wrong-stats", times=1)
    assert emulator.get(name)["completionStats"]["incompleteCount"] == "-1"
    assert emulator.get(name)["state"] == "JOB_STATE_PENDING"


def test_backwards_strikes_only_what_was_told_before(emulator: Emulator) -> None:
    """The first word about a state is true; only a repetition can go back."""
    name = emulator.create()["name"]
    rule = emulator.rule(fault="backwards", times=1)
    assert emulator.get(name)["state"] == "JOB_STATE_PENDING"
    assert used(emulator, rule) == 0
    assert emulator.get(name)["state"] == "JOB_STATE_QUEUED"


def test_a_job_vanishes_and_comes_back(emulator: Emulator) -> None:
    """404 and not listed, then known again."""
    name = emulator.create()["name"]
    emulator.rule(fault="vanish", times=2)
    assert emulator.http.get(f"/v1/{name}").status_code == 404
    assert emulator.http.get(JOBS).json() == {}
    assert emulator.get(name)["state"] == "JOB_STATE_PENDING"


def test_succeeded_after_cancelling(emulator: Emulator) -> None:
    """A cancel that comes too late: CANCELLING, and then all rows."""
    emulator.put("in/x.jsonl", jsonl([line(f"t {n}", f"k-{n}") for n in range(4)]))
    emulator.rule(fault="succeeded-after-cancelling", times=1)
    name = emulator.create()["name"]
    emulator.clock.now += 21
    emulator.wait(name, lambda job: job["state"] == "JOB_STATE_RUNNING")
    emulator.http.post(f"/v1/{name}:cancel")
    assert emulator.get(name)["state"] == "JOB_STATE_CANCELLING"
    done = emulator.finish(name)
    assert done["state"] == "JOB_STATE_SUCCEEDED"
    assert len(emulator.rows(done)) == 4


ROWS = 9


def spoiled(emulator: Emulator, fault: str, **parameters: Any) -> tuple[dict[str, bytes], Any]:  # noqa: ANN401
    """The files of a job's output under a fault, and what the emulator says of its rows."""
    rule = emulator.rule(fault=f"output-{fault}", times=1, **{"with": parameters})
    done = emulator.run([line(f"t {n}", f"k-1f9c03ab-{n:06}") for n in range(ROWS)])
    assert done["state"] == "JOB_STATE_SUCCEEDED"
    assert done["completionStats"] == {"successfulCount": str(ROWS)}
    assert used(emulator, rule) == 1
    folder = done["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://penstock/")
    job_id = done["name"].rsplit("/", 1)[1]
    rows = emulator.http.get(f"/emulator/v1/jobs/{job_id}/rows").json()["rows"]
    assert len(rows) == ROWS
    return {name: emulator.read(name) for name in emulator.names(folder)}, rows


def struck(rows: Any) -> int:  # noqa: ANN401 - JSON
    """How many rows suffered."""
    return sum(bool(row["faults"]) for row in rows)


def good_rows(files: dict[str, bytes]) -> list[Any]:
    """What parses."""
    found = []
    for each in b"".join(files.values()).splitlines():
        try:
            found.append(orjson.loads(each))
        except orjson.JSONDecodeError:
            continue
    return found


@pytest.mark.parametrize(
    ("fault", "files", "parsed", "suffering"),
    [
        ("missing-rows", 1, ROWS - 2, 2),
        ("none", 0, 0, ROWS),
        ("empty-shard", 3, ROWS - 3, 3),
        ("missing-shard", 2, ROWS - 3, 3),
        ("duplicate-rows", 1, ROWS + 2, 2),
        ("conflicting-rows", 1, ROWS + 2, 2),
        ("foreign-rows", 1, ROWS + 2, 2),
        ("unordered", 3, ROWS, 0),
        ("truncated-line", 1, ROWS - 1, 1),
        ("invalid-json", 1, ROWS - 2, 2),
        ("invalid-utf8", 1, ROWS - 2, 2),
        ("bad-usage", 1, ROWS, 2),
        ("no-usage", 1, ROWS, 2),
    ],
)
def test_output_faults(
    emulator: Emulator, fault: str, files: int, parsed: int, suffering: int
) -> None:
    """So many files, so many rows that parse, and the witness knows which rows suffered."""
    found, rows = spoiled(emulator, fault)
    assert (len(found), len(good_rows(found)), struck(rows)) == (files, parsed, suffering)
    assert all(row["usage"]["promptTokenCount"] > 0 for row in rows)


def test_rows_of_another_job_look_like_ours(emulator: Emulator) -> None:
    """Same line, another job's mark, a text that a test can look for; in the place of ours."""
    found, _ = spoiled(emulator, "foreign-rows", replace=True, share=1.0)
    rows = good_rows(found)
    assert len(rows) == ROWS
    assert b"k-1f9c03ab" not in b"".join(found.values())
    assert all(FOREIGN_TEXT in orjson.dumps(row["response"]).decode() for row in rows)
    assert foreign_key("plain") == "foreign-plain"


def test_wrong_usage_has_all_four_types(emulator: Emulator) -> None:
    """Negative, fractional, textual and too large counts, each somewhere."""
    found, _ = spoiled(emulator, "bad-usage", share=1.0)
    told = [
        count for row in good_rows(found) for count in row["response"]["usageMetadata"].values()
    ]
    assert {-5, 12.5, "many", 2**63} <= {each for each in told if not isinstance(each, list)}


def test_one_row_can_be_huge(emulator: Emulator) -> None:
    """One row of the asked size, whole and well-formed."""
    found, rows = spoiled(emulator, "huge-row", row_bytes=3_000_000)
    (whole,) = found.values()
    assert max(len(each) for each in whole.splitlines()) > 3_000_000
    assert struck(rows) == 1


def test_a_growing_shard_is_another_object_at_each_read(emulator: Emulator) -> None:
    """Size and checksum asked before a read are those of fewer rows than the read gets."""
    emulator.rule(fault="output-growing", times=1)
    done = emulator.run([line(f"t {n}", f"k-{n}") for n in range(ROWS)])
    folder = done["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://penstock/")
    quoted = f"{folder}/predictions.jsonl".replace("/", "%2F").replace(":", "%3A")
    sizes = []
    for _ in range(3):
        stated = emulator.http.get(f"/storage/v1/b/penstock/o/{quoted}").json()["size"]
        sizes.append((int(stated), len(emulator.raw_output(done))))
    (first, second), (third, fourth), (fifth, sixth) = sizes
    assert first < second == third < fourth == fifth == sixth
    assert len(emulator.rows(done)) == ROWS


def test_rows_are_told_only_of_jobs_with_output_faults(emulator: Emulator) -> None:
    """404 for any other job and for what is no job."""
    done = emulator.run([line("a")])
    for job_id in (done["name"].rsplit("/", 1)[1], "x"):
        assert emulator.http.get(f"/emulator/v1/jobs/{job_id}/rows").status_code == 404


BODY = bytes(300 * 1024)
WRITES = {
    "xml": ("PUT", "/penstock/abc"),
    "json": ("POST", "/upload/storage/v1/b/penstock/o?uploadType=media&name=abc"),
}
READS = {"xml": "/penstock/abc", "json": "/storage/v1/b/penstock/o/abc?alt=media"}


@pytest.mark.parametrize("api", ["xml", "json"])
def test_an_upload_can_fail_in_the_middle(emulator: Emulator, api: str) -> None:
    """A status or a cut after so many bytes; a body that is too short for it is spared."""
    rule = emulator.rule(fault="return-503-after-256K", times=1)
    method, path = WRITES[api]
    assert emulator.http.request(method, path, content=b"short").status_code == 200
    assert used(emulator, rule) == 0
    answer = emulator.http.request(method, path, content=BODY)
    assert answer.status_code == 503
    assert emulator.read("abc") == b"short"
    emulator.rule(fault="return-broken-stream-after-256K", when={"call": "object_write"}, times=1)
    with pytest.raises((*LOST, httpx2.WriteError)):
        emulator.http.request(method, path, content=BODY)
    assert emulator.read("abc") == b"short"
    assert emulator.http.request(method, path, content=BODY).status_code == 200


@pytest.mark.parametrize("api", ["xml", "json"])
def test_an_upload_can_arrive_with_a_flipped_bit(emulator: Emulator, api: str) -> None:
    """The object states the CRC32C of what arrived, which is not what was sent."""
    emulator.rule(fault="return-corrupted-data", when={"call": "object_write"}, times=1)
    method, path = WRITES[api]
    assert emulator.http.request(method, path, content=BODY).status_code == 200
    got = emulator.read("abc")
    assert (len(got), sum(byte.bit_count() for byte in got)) == (len(BODY), 1)


@pytest.mark.parametrize("api", ["xml", "json"])
def test_a_download_can_break_or_rot(emulator: Emulator, api: str) -> None:
    """Cut after 4 bytes or after YK, reset, or whole with a flipped bit; then it is good again."""
    emulator.put("abc", BODY)
    for fault in ("return-broken-stream", "return-broken-stream-after-256K"):
        emulator.rule(fault=fault, times=1)
        with pytest.raises(LOST):
            emulator.http.get(READS[api])
    emulator.rule(fault="return-reset-connection", times=1)
    with pytest.raises(LOST):
        emulator.http.get(READS[api])
    rule = emulator.rule(fault="return-corrupted-data", times=1)
    # A read of the description has no body, so it is spared.
    assert emulator.http.get("/storage/v1/b/penstock/o/abc").status_code == 200
    assert used(emulator, rule) == 0
    assert sum(byte.bit_count() for byte in emulator.http.get(READS[api]).content) == 1
    assert emulator.http.get(READS[api]).content == BODY


@pytest.mark.parametrize("call", ["object_read", "object_write"])
def test_a_stream_can_stall(emulator: Emulator, call: str) -> None:
    """Nothing moves for a while, so a client with less patience gives up."""
    emulator.put("abc", BODY)
    rule = emulator.rule(fault="stall-for-1s-after-100K", when={"call": call}, times=1)
    method, content = ("GET", None) if call == "object_read" else ("PUT", BODY)
    with pytest.raises((httpx2.ReadTimeout, httpx2.WriteTimeout)):
        emulator.http.request(method, "/penstock/abc", content=content, timeout=0.2)
    assert used(emulator, rule) == 1


def test_a_precondition_can_fail_although_it_holds(emulator: Emulator) -> None:
    """412 in both shapes, for writes with a precondition and for no others."""
    rule = emulator.rule(fault="precondition-failed", times=2)
    emulator.put("plain", b"x")
    assert used(emulator, rule) == 0
    headers = {"x-goog-if-generation-match": "0"}
    answer = emulator.http.put("/penstock/new", content=b"x", headers=headers)
    assert answer.status_code == 412
    assert "<Code>PreconditionFailed</Code>" in answer.text
    path = f"{WRITES['json'][1]}&ifGenerationMatch=0"
    answer = emulator.http.post(path, content=b"x")
    assert answer.status_code == 412
    assert answer.json()["error"]["errors"][0]["reason"] == "conditionNotMet"
    assert emulator.names() == ["plain"]


def test_a_checksum_can_be_stated_wrongly(emulator: Emulator) -> None:
    """Both APIs state another CRC32C than that of the bytes they serve."""
    emulator.put("abc", BODY)
    true = base64.b64encode(Checksum(BODY).digest()).decode()
    emulator.rule(fault="wrong-crc32c", times=2)
    assert emulator.http.get("/storage/v1/b/penstock/o/abc").json()["crc32c"] != true
    answer = emulator.http.get("/penstock/abc")
    assert answer.content == BODY
    assert true not in answer.headers["x-goog-hash"]
    assert emulator.http.get("/storage/v1/b/penstock/o/abc").json()["crc32c"] == true


def test_rules_can_stand_from_the_start(tmp_path: Path) -> None:
    """A file of rules and mixes is in force before the first call."""
    file = tmp_path / "faults.json"
    file.write_bytes(b'[{"fault": "return-503", "times": 1}, {"rates": {"duplicate": 1}}]')
    with fresh_emulator(tmp_path, faults_path=file) as emulator:
        assert emulator.http.post(JOBS, json=create_body()).status_code == 503
        emulator.create()
        assert jobs_made(emulator) == 2


@pytest.mark.parametrize("text", [b"{}", b"[1]", b'[{"fault": "no"}]', b'[{"rates": {}}]'])
def test_a_file_of_wrong_rules_is_refused(text: bytes) -> None:
    """The refusal says which entry is wrong and why."""
    with pytest.raises(BadRule):
        parse_file(text)
