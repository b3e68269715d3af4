"""The README's commands work as they stand there."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.journeys.service import MODEL, Service, running

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running pair."""
    with running(tmp_path_factory.mktemp("readme")) as pair:
        yield pair


def block_with(text: str) -> str:
    """Return the one shell block that holds the text."""
    (found,) = [block for block in BLOCKS if text in block]
    return found


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_of_the_readme_submits_a_job(service: Service) -> None:
    """The curl command, with nothing but the address changed, answers with a request record."""
    command = block_with("curl http").replace("http://127.0.0.1:8080", service.url)
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PENSTOCK_API_KEY": service.key},
        capture_output=True,
        check=True,
    )
    record = json.loads(done.stdout)
    assert record["status"] == "queued"
    assert record["payload"] == {"model": MODEL}
    assert service.wait(record["request_id"])["status"] == "success"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_compressed_curl_of_the_readme_submits_the_file(service: Service) -> None:
    """The gzipped JSONL as the body becomes the same job."""
    command = block_with("gzip -c").replace("http://127.0.0.1:8080", service.url)
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PENSTOCK_API_KEY": service.key},
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    record = service.wait(json.loads(done.stdout)["request_id"])
    sent = (ROOT / "examples" / "reviews.jsonl").read_bytes().splitlines()
    assert record["outcome"]["batch_job_completion_stats"]["total_count"] == len(sent)


def test_the_submit_of_the_readme_writes_the_answers(service: Service, tmp_path: Path) -> None:
    """The command that submits the example waits, downloads and ends with exit code 0."""
    block = block_with("penstock submit")
    (command,) = [line for line in block.splitlines() if "penstock submit" in line]
    words = command.replace("out.jsonl", str(tmp_path / "out.jsonl")).split()
    assert words[0] == ".venv/bin/penstock"
    subprocess.run(
        [sys.executable, "-m", "penstock.cli.main", *words[1:]],
        env={**os.environ, "PENSTOCK_URL": service.url, "PENSTOCK_API_KEY": service.key},
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    sent = (ROOT / "examples" / "reviews.jsonl").read_bytes().splitlines()
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == len(sent)


def test_every_make_target_of_the_readme_exists() -> None:
    """The two commands and the others are targets of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z]+)", "\n".join(BLOCKS), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_file_that_the_readme_links_exists() -> None:
    """No link inside the repository is dead."""
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
