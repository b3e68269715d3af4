"""Each example does what its first lines say, against a real server and the emulator."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.testing import PenstockServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
RUN_SECONDS_MAX = 50


@pytest.fixture
def server(penstock_server: PenstockServer) -> PenstockServer:
    """The server that a user's test gets."""
    return penstock_server


def run(
    name: str, *arguments: str | Path, server: PenstockServer | None = None
) -> subprocess.CompletedProcess[str]:
    """Run an example as its reader does, with nothing but the server in the environment."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PENSTOCK_")}
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        env={**clean, **(server.environment if server else {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=RUN_SECONDS_MAX,
    )


def test_reviews_are_labelled(server: PenstockServer, tmp_path: Path) -> None:
    """Every row has the model's label, in the file's order, and a second run pays nothing."""
    server.script("whistle", reply={"sentiment": "negative", "topics": ["noise"]})
    server.script("", reply={"sentiment": "positive", "topics": []})
    target = tmp_path / "labelled.csv"
    for _ in range(2):
        done = run("label_reviews.py", EXAMPLES / "reviews.csv", target, server=server)
        assert done.returncode == 0, done.stderr
        rows = list(csv.DictReader(target.read_text("utf-8").splitlines()))
        assert [row["id"] for row in rows] == [f"r{number:02}" for number in range(1, 13)]
        assert rows[1]["sentiment"] == "negative"
        assert json.loads(rows[1]["topics"]) == ["noise"]
        assert {row["sentiment"] for row in rows[2:]} == {"positive"}
        assert "0 without a label" in done.stdout
    with server.client() as client:
        assert len(list(client.jobs.list())) == 1


def test_prompts_are_scored(server: PenstockServer) -> None:
    """The better prompt stands first with its share, and a share below the least is exit code 1."""
    for line in (EXAMPLES / "questions.jsonl").read_text("utf-8").splitlines():
        case = json.loads(line)
        server.script(f"Sort: {case['question']}", reply=case["expected"])
    server.script("Guess:", reply="wish")
    prompts = ["--prompt", "Guess: {question}", "--prompt", "Sort: {question}"]
    command = ["evals.py", EXAMPLES / "questions.jsonl", "--model", "gemini-3-flash-preview"]
    done = run(*command, *prompts, "--least", "1", server=server)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    first, second, *wrong = done.stdout.splitlines()
    assert first.startswith("10/10  $0.")
    assert second.startswith("2/10  $0.")
    assert wrong[0].strip() == "q01: expected billing, got wish"
    done = run(*command, *prompts[:2], "--least", "0.5", server=server)  # type: ignore[arg-type]
    assert done.returncode == 1, done.stderr


def test_pictures_are_drawn_and_saved(server: PenstockServer, tmp_path: Path) -> None:
    """Each has its name, and what was blocked is told without costing the others."""
    server.script("weapon", block="PROHIBITED_CONTENT")
    things = tmp_path / "things.txt"
    things.write_text("kettle: a steel kettle\nlamp: a brass lamp\nno: a weapon\n")
    done = run("draw_images.py", things, tmp_path / "drawn", server=server)
    assert done.returncode == 1, done.stderr
    assert "2 pictures" in done.stdout
    assert "no: blocked" in done.stdout
    saved = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert [name.partition("_")[0] for name in saved] == ["kettle", "lamp"]
    assert (tmp_path / "drawn" / saved[0]).read_bytes().startswith(b"\x89PNG")


def test_documents_become_a_table(server: PenstockServer) -> None:
    """Fields come as a row by address, and a document that fails has a reason in its row."""
    good = server.put("documents/good.pdf", b"%PDF-1.7 of nobody")
    found = {"number": "7", "date": "2026-11-23", "supplier": "A", "total": 1.5, "currency": "EUR"}
    server.script("Read this invoice", reply=found)
    done = run("documents.py", good, server=server)
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(done.stdout.splitlines())
    assert row["document"] == good
    assert (row["number"], row["total"], row["error"]) == ("7", "1.5", "")
    server.forget()
    server.script("Read this invoice", fail=400)
    done = run("documents.py", good, good, server=server)
    assert done.returncode == 1, done.stderr
    assert all(row["error"] for row in csv.DictReader(done.stdout.splitlines()))


def test_lines_of_openai_are_converted(server: PenstockServer, tmp_path: Path) -> None:
    """The converted file is accepted, and answered under each `custom_id`."""
    target = tmp_path / "gemini.jsonl"
    done = run("from_openai.py", EXAMPLES / "openai_batch.jsonl", target)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in target.read_text("utf-8").splitlines()]
    assert lines[0]["request"] == {
        "contents": [{"role": "user", "parts": [{"text": "I was charged twice."}]}],
        "systemInstruction": {"parts": [{"text": "You sort tickets. Answer with one word."}]},
        "generationConfig": {"temperature": 0, "maxOutputTokens": 64},
    }
    assert [content["role"] for content in lines[1]["request"]["contents"]] == [
        "user",
        "model",
        "user",
    ]
    scones = lines[2]["request"]["contents"][0]["parts"][1]
    assert scones["fileData"]["mimeType"] == "image/jpeg"
    with server.client() as client:
        job = client.jobs.submit(target, model="gemini-3-flash-preview").wait()
        assert [result.key for result in job.results()] == ["ticket-1", "ticket-2", "photo-1"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"url": "/v1/embeddings"}, "'/v1/embeddings' is not converted"),
        ({"body": {"messages": [], "tools": [{}]}}, "tools is not converted"),
        ({"body": {"messages": [{"role": "tool", "content": "x"}]}}, "message of tool"),
        ({"body": {"messages": [{"role": "user", "content": [{"type": "file"}]}]}}, "type file"),
        ({"body": {"model": "any"}}, "'messages' is missing"),
        (
            {
                "body": {
                    "messages": [
                        {
                            "role": "user",
                            "content": [
                                {"type": "image_url", "image_url": {"url": "https://a.example/b"}}
                            ],
                        }
                    ]
                }
            },
            "cannot be told",
        ),
    ],
)
def test_what_has_no_counterpart_is_told(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    """The line and the reason are named, and no file is written."""
    line = {"custom_id": "a", "url": "/v1/chat/completions", "body": {"messages": []}} | change
    source = tmp_path / "openai.jsonl"
    source.write_text(f"\n{json.dumps(line)}\n")
    done = run("from_openai.py", source, tmp_path / "gemini.jsonl")
    assert done.returncode == 1
    assert "line 2: " in done.stderr
    assert reason in done.stderr
    assert not (tmp_path / "gemini.jsonl").exists()
