"""The README's commands work as they stand there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.journeys.service import Service, running

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


def test_the_commands_of_the_readme_write_the_answers(service: Service, tmp_path: Path) -> None:
    """Submitting the example, as it stands there, and downloading it give an answer a line."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    commands = [line for line in block_with("penstock submit").splitlines() if "penstock " in line]
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command)
        assert words[0] == ".venv/bin/penstock"
        subprocess.run(
            [sys.executable, "-m", "penstock.cli.main", *words[1:]],
            env={
                **os.environ,
                "HOME": str(tmp_path),
                "PENSTOCK_URL": service.url,
                "PENSTOCK_API_KEY": service.key,
            },
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )
    sent = (ROOT / "examples" / "reviews.jsonl").read_bytes().splitlines()
    assert len((tmp_path / "answers.jsonl").read_bytes().splitlines()) == len(sent)


def test_every_make_target_of_the_readme_exists() -> None:
    """The two commands and the others are targets of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z]+)", "\n".join(BLOCKS), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_file_that_the_readme_links_exists() -> None:
    """No link inside the repository is dead."""
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
