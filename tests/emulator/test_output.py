"""The rows: their shape, their disorder, their answers, and what directives do to them."""

import base64
import struct
import zlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.emulator.driver import Emulator, fresh_emulator, line, prompt


def text_of(row: dict[str, Any]) -> str:
    """The text of the first part of the first candidate."""
    text = row["response"]["candidates"][0]["content"]["parts"][0]["text"]
    assert isinstance(text, str)
    return text


def test_a_row_echoes_its_line_re_serialised(emulator: Emulator) -> None:
    """Siblings come back, keys are sorted, null siblings appear beside the text."""
    done = emulator.run([{**line("hi", "k-7"), "custom_id": "c-1"}])
    (row,) = emulator.rows(done)
    assert (row["status"], row["key"], row["custom_id"]) == ("", "k-7", "c-1")
    assert b'{"contents":[{"parts":[{"fileData":null,"text":"hi"}],"role":"user"}]}' in (
        emulator.raw_output(done)
    )
    directory = done["outputInfo"]["gcsOutputDirectory"]
    assert directory == f"gs://penstock/out/x/prediction-model-{done['createTime']}"


def test_the_order_is_not_the_input_order(emulator: Emulator) -> None:
    """Every line is answered once, in another order."""
    keys = [f"k-{i}" for i in range(50)]
    rows = emulator.rows(emulator.run([line(f"t {key}", key) for key in keys]))
    assert sorted(row["key"] for row in rows) == sorted(keys)
    assert [row["key"] for row in rows] != keys


@pytest.mark.parametrize("count", [2, 3])
def test_even_short_jobs_lose_their_order(emulator: Emulator, count: int) -> None:
    """Chance does not hide a client that counts on the order."""
    keys = [f"k-{i}" for i in range(count)]
    rows = emulator.rows(emulator.run([line(f"t {key}", key) for key in keys]))
    assert [row["key"] for row in rows] != keys


def test_the_answer_has_googles_shape(emulator: Emulator) -> None:
    """Candidates, model version, and a usage that adds up, thoughts included."""
    response = emulator.one_row(line("hello there"))["response"]
    candidate = response["candidates"][0]
    assert candidate["finishReason"] == "STOP"
    assert candidate["content"]["role"] == "model"
    assert response["modelVersion"] == "gemini-3-flash-preview"
    usage = response["usageMetadata"]
    assert usage["thoughtsTokenCount"] > 0
    assert usage["totalTokenCount"] == (
        usage["promptTokenCount"] + usage["candidatesTokenCount"] + usage["thoughtsTokenCount"]
    )
    assert usage["promptTokensDetails"] == [{"modality": "TEXT", "tokenCount": 3}]


def output_of_a_fresh_run(directory: Path, seed: int) -> bytes:
    """The output bytes of the same small job in a new emulator."""
    with fresh_emulator(directory, seed=seed) as emulator:
        done = emulator.run([line(f"t {i}", f"k-{i}") for i in range(40)])
        return emulator.raw_output(done)


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    """Same seed, input and clock: the same bytes; another seed: other answers."""
    first = output_of_a_fresh_run(tmp_path / "a", 7)
    assert first == output_of_a_fresh_run(tmp_path / "b", 7)
    assert first != output_of_a_fresh_run(tmp_path / "c", 8)


def test_images_are_real(emulator: Emulator) -> None:
    """An image model gives a text part and a PNG whose chunks check out, at 1120 tokens."""
    row = emulator.one_row(line("a cat"), model="publishers/google/models/gemini-3-pro-image")
    parts = row["response"]["candidates"][0]["content"]["parts"]
    assert "text" in parts[0]
    data = parts[1]["inlineData"]
    assert data["mimeType"] == "image/png"
    png = base64.b64decode(data["data"])
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, kinds = 8, []
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        body, crc = png[at + 4 : at + 8 + size], png[at + 8 + size : at + 12 + size]
        assert struct.pack(">I", zlib.crc32(body)) == crc
        kinds.append(kind)
        at += 12 + size
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    details = row["response"]["usageMetadata"]["candidatesTokensDetails"]
    assert {"modality": "IMAGE", "tokenCount": 1120} in details


def test_image_sizes_beyond_1k_fail_their_line(emulator: Emulator) -> None:
    """2K and 4K are not supported in batch."""
    bad = line("a cat", imageConfig={"imageSize": "2K"})
    row = emulator.one_row(bad, model="publishers/google/models/gemini-3-pro-image")
    assert row["status"].startswith("Bad Request: ")


def test_structured_output_follows_its_schema(emulator: Emulator) -> None:
    """The text is JSON of the asked shape, in both spellings."""
    schema = {"type": "OBJECT", "properties": {"n": {"type": "INTEGER"}}, "required": ["n"]}
    camel = line("a", responseMimeType="application/json", responseSchema=schema)
    assert isinstance(orjson.loads(text_of(emulator.one_row(camel)))["n"], int)
    snake = {
        "key": "k-0",
        "request": {
            **prompt("a"),
            "generation_config": {
                "response_mime_type": "application/json",
                "response_json_schema": {"type": "boolean"},
            },
        },
    }
    assert text_of(emulator.one_row(snake)) in {"true", "false"}


def test_few_output_tokens_truncate(emulator: Emulator) -> None:
    """The limit covers thoughts and text; what does not fit is cut with MAX_TOKENS."""
    response = emulator.one_row(line("a", maxOutputTokens=10))["response"]
    assert response["candidates"][0]["finishReason"] == "MAX_TOKENS"
    usage = response["usageMetadata"]
    assert usage["candidatesTokenCount"] + usage["thoughtsTokenCount"] <= 10


@pytest.mark.parametrize(
    ("code", "beginning"),
    [
        ("400", 'Bad Request: {"error":{"code":400'),
        ("429", 'RESOURCE_EXHAUSTED error occurred: {"error":{"code":429'),
        ("500", 'Internal Server Error: {"error":{"code":500'),
        ("503", 'Service Unavailable: {"error":{"code":503'),
    ],
)
def test_directive_fail(shared: Emulator, code: str, beginning: str) -> None:
    """The line fails with this code, inside the output."""
    row = shared.one_row(line(f"please [[emulator:fail={code}]]"))
    assert row["status"].startswith(beginning)
    assert row["response"] == {}


def test_directives_for_refused_and_empty_answers(emulator: Emulator) -> None:
    """Blocked prompts, stopped, empty and truncated answers have the shapes of Google."""
    names = ("block=SAFETY", "stop=RECITATION", "empty", "truncate", "no-usage", "no-total")
    lines = [line(f"[[emulator:{name}]] x", f"k-{name}") for name in names]
    rows = {row["key"]: row["response"] for row in emulator.rows(emulator.run(lines))}
    blocked = rows["k-block=SAFETY"]
    assert blocked["promptFeedback"]["blockReason"] == "SAFETY"
    assert "candidates" not in blocked
    assert rows["k-stop=RECITATION"]["candidates"] == [{"finishReason": "RECITATION"}]
    assert rows["k-empty"]["candidates"][0]["content"] == {"role": "model"}
    assert rows["k-truncate"]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert "usageMetadata" not in rows["k-no-usage"]
    assert "totalTokenCount" not in rows["k-no-total"]["usageMetadata"]


def test_directives_for_spoiled_outputs(emulator: Emulator) -> None:
    """Missing, doubled, foreign, broken and cut rows; good ones stay."""
    names = ("missing", "duplicate", "foreign", "garbage", "truncated-row", "bad-utf8")
    lines = [line(f"[[emulator:{name}]] x", f"k-{name}") for name in names]
    done = emulator.run([*lines, line("good", "k-good"), line("[[emulator:bad-usage]]", "k-usage")])
    good: list[dict[str, Any]] = []
    broken = 0
    for raw in emulator.raw_output(done).splitlines():
        try:
            good.append(orjson.loads(raw))
        except orjson.JSONDecodeError:
            broken += 1
    keys = sorted(row["key"].partition("-")[0] + row["key"][:6] for row in good)
    assert broken == 3
    assert keys == sorted(["kk-dupl", "kk-dupl", "foreignforeig", "kk-good", "kk-usag"])
    (usage,) = [r["response"]["usageMetadata"] for r in good if r["key"] == "k-usage"]
    assert usage["promptTokenCount"] == -5
    assert usage["totalTokenCount"] == 2**63


def test_directive_delay_extends_the_run(emulator: Emulator) -> None:
    """Thirty seconds more than without."""
    done = emulator.run([line("[[emulator:delay=30s]]")])
    plain = emulator.run([line("a")])
    assert seconds(done) == pytest.approx(seconds(plain) + 30, abs=0.001)


def seconds(job: dict[str, Any]) -> float:
    """From start to end, within one hour."""
    start, end = (job[name][14:26].split(":") for name in ("startTime", "endTime"))
    return (int(end[0]) - int(start[0])) * 60 + float(end[1]) - float(start[1])


def test_output_modes_by_rule(emulator: Emulator) -> None:
    """Shards, an incremental file, no totals and re-typed text."""
    emulator.rule(then={"shards": 3})
    emulator.rule(then={"incremental": True})
    emulator.rule(then={"no_total": True})
    emulator.rule(then={"retype": True})
    done = emulator.run([{**line(f"t {i}", f"k-{i}"), "code": "000007"} for i in range(7)])
    names = [name.rpartition("/")[2] for name in emulator.names("out/")]
    shards = [f"predictions.jsonl-0000{i}-of-00003" for i in range(3)]
    assert names == ["incremental_predictions.jsonl", *shards]
    directory = done["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://penstock/")
    rows = [
        orjson.loads(raw)
        for shard in shards
        for raw in emulator.read(f"{directory}/{shard}").splitlines()
    ]
    assert sorted(row["key"] for row in rows) == [f"k-{i}" for i in range(7)]
    assert {row["code"] for row in rows} == {7}
    assert all("totalTokenCount" not in row["response"]["usageMetadata"] for row in rows)


def test_a_shard_can_be_missing(emulator: Emulator) -> None:
    """Two of three shards are written although the job succeeded."""
    emulator.rule(then={"shards": 3})
    emulator.rule(then={"missing_shard": 0})
    done = emulator.run([line(f"t {i}", f"k-{i}") for i in range(6)])
    assert done["completionStats"] == {"successfulCount": "6"}
    names = [name.rpartition("/")[2] for name in emulator.names("out/")]
    assert names == [f"predictions.jsonl-0000{i}-of-00003" for i in (1, 2)]


def test_the_thinking_config_counts(emulator: Emulator) -> None:
    """A budget of 0 stops the thinking, a low level shortens it, 2.5 models do not think."""
    lines = [
        line("a", "k-usual"),
        line("a", "k-none", thinkingConfig={"thinkingBudget": 0}),
        line("a", "k-low", thinkingConfig={"thinkingLevel": "LOW"}),
    ]
    rows = {row["key"]: row for row in emulator.rows(emulator.run(lines))}
    tokens = {
        k: r["response"]["usageMetadata"].get("thoughtsTokenCount", 0) for k, r in rows.items()
    }
    assert tokens["k-none"] == 0
    assert 0 < tokens["k-low"] < 80
    assert tokens["k-usual"] >= 64
    old = emulator.one_row(line("a"), model="publishers/google/models/gemini-2.5-flash")
    assert "thoughtsTokenCount" not in old["response"]["usageMetadata"]


def test_media_in_the_prompt_cost_by_modality(emulator: Emulator) -> None:
    """Images, audio, documents and function calls all cost prompt tokens; candidates add up."""
    media = [
        {"inlineData": {"mimeType": f"{kind}/x", "data": "AA=="}} for kind in ("image", "audio")
    ]
    parts = [
        {"text": "abcd"},
        *media,
        {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://x/y"}},
    ]
    request = {
        "contents": [{"role": "user", "parts": parts}],
        "tools": [{"functionDeclarations": [{"name": "f"}]}],
        "generationConfig": {"candidateCount": 2},
    }
    response = emulator.one_row({"key": "k-0", "request": request})["response"]
    assert [c.get("index", 0) for c in response["candidates"]] == [0, 1]
    details = response["usageMetadata"]["promptTokensDetails"]
    assert {d["modality"] for d in details} == {"TEXT", "IMAGE", "AUDIO", "DOCUMENT"}
    assert sum(d["tokenCount"] for d in details) == response["usageMetadata"]["promptTokenCount"]


def test_partial_output_can_be_made_visible(emulator: Emulator) -> None:
    """With the rule, finished rows stand in the output while the job still runs."""
    emulator.rule(then={"partial": True})
    emulator.rule(then={"hold": "running"})
    emulator.put(
        "in/x.jsonl", b"".join(orjson.dumps(line("t", f"k-{i}")) + b"\n" for i in range(10))
    )
    name = emulator.create()["name"]
    emulator.clock.now += 41
    job = emulator.wait(name, lambda job: "outputInfo" in job)
    assert job["state"] == "JOB_STATE_RUNNING"
    assert 0 < len(emulator.rows(job)) < 10


def test_an_order_says_how_far_a_running_job_is(emulator: Emulator) -> None:
    """The share of rows that is ordered stands there, and a larger share replaces it."""
    emulator.rule(then={"hold": "running"})
    first = emulator.rule(fault="export-while-running", **{"with": {"rows": 0.4}})
    raw = b"".join(orjson.dumps(line("t", f"k-{i}")) + b"\n" for i in range(10))
    emulator.put("in/x.jsonl", raw)
    name = emulator.create()["name"]
    emulator.clock.now += 21
    job = emulator.wait(name, lambda job: "outputInfo" in job)
    early = emulator.rows(job)
    assert len(early) == 4
    emulator.http.delete(f"/emulator/v1/rules/{first}")
    emulator.rule(fault="export-while-running", **{"with": {"rows": 0.9}})
    done = {"successfulCount": "9"}
    job = emulator.wait(name, lambda job: job.get("completionStats") == done)
    assert job["state"] == "JOB_STATE_RUNNING"
    assert emulator.rows(job)[:4] == early


def test_the_last_row_of_a_running_job_can_be_half_written(emulator: Emulator) -> None:
    """With `cut` the object ends in the middle of a row, without a newline."""
    emulator.rule(then={"hold": "running"})
    emulator.rule(fault="export-while-running", **{"with": {"rows": 0.5, "cut": True}})
    raw = b"".join(orjson.dumps(line("t", f"k-{i}")) + b"\n" for i in range(4))
    emulator.put("in/x.jsonl", raw)
    name = emulator.create()["name"]
    emulator.clock.now += 21
    job = emulator.wait(name, lambda job: "outputInfo" in job)
    folder = job["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://penstock/")
    whole, half = emulator.read(f"{folder}/predictions.jsonl").split(b"\n")
    assert orjson.loads(whole)["key"].startswith("k-")
    assert 0 < len(half) < len(whole)
