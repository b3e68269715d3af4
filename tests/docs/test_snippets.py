"""What readers can copy out of the pages runs as it stands there.

Each page has a server and an emulator of its own, and a folder with a copy of `examples/`. Its
blocks run in the page's order. CONTRIBUTING.md says what a page may rely on.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from tests.docs.pages import ROOT, Block, blocks, name_of, written
from tests.journeys.service import Service, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHELL = {"sh", "bash"}
RUN = SHELL | {"python"}
PARSED = {"json", "jsonl", "toml", "yaml"}
OUTPUT = {"text", "console"}
BLOCK_SECONDS = 120
SERVER = "127.0.0.1:8080"
EMULATOR = "127.0.0.1:9090"
"""Where pages say that the two are; those of the test are on free ports."""

NOT_RUN: dict[str, int] = {
    "README.md": 3,
    "docs/emulator.md": 2,
    "docs/how-to/budgets.md": 1,
    "docs/how-to/postgres-and-buckets.md": 3,
    "docs/how-to/profiles.md": 1,
    "docs/how-to/rotate-keys.md": 1,
    "docs/how-to/set-up-vertex.md": 9,
    "docs/how-to/upgrade-and-back-up.md": 1,
    "docs/partial.md": 3,
    "docs/tenants.md": 1,
    "docs/tutorial/first-job.md": 3,
    "docs/tutorial/label-a-dataframe.md": 1,
    "docs/tutorial/move-to-vertex.md": 4,
    "docs/verified.md": 1,
    "docs/webhooks.md": 2,
}
"""Blocks of `sh`, `bash` and `python` that cannot run, by page. Each has its reason beside it."""


class Reader:
    """Somebody who copies one block after the other."""

    def __init__(self, service: Service, folder: Path) -> None:
        self._service = service
        self._folder = folder
        self._variables = folder / ".variables"
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        (programs / "activate").touch()
        _program(programs / "penstock", f'exec "{sys.executable}" -m penstock.cli.main "$@"')
        for name in ("python", "python3"):
            _program(programs / name, f'exec "{sys.executable}" "$@"')
        shutil.copytree(ROOT / "examples", folder / "examples")
        self.environment = {
            **os.environ,
            "HOME": str(folder),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PENSTOCK_URL": service.url,
            "PENSTOCK_API_KEY": service.key,
            "PENSTOCK_DATA_DIR": str(service.folder / "data"),
        }
        self._python = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("python_session.py"))],
            cwd=folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the process that has the names of the Python blocks."""
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._python.stdin.close()
        self._python.kill()
        self._python.wait(BLOCK_SECONDS)
        self._python.stdout.close()

    def run(self, block: Block) -> str:
        """Run a block and return what it printed."""
        text = block.text.replace(SERVER, self._service.url.partition("://")[2])
        text = text.replace(EMULATOR, self._service.emulator_url.partition("://")[2])
        if block.language == "python":
            return self._run_python(block, text)
        return self._run_shell(block, text)

    def _run_shell(self, block: Block, text: str) -> str:
        # What the block assigns is exported, so that the next one has it: a reader has one shell.
        script = f'set -aeu\n{text}\nset +u\nenv -0 > "{self._variables}"\n'
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=BLOCK_SECONDS,
        )
        said = f"{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, f"{block.place}: exit code {done.returncode}\n{text}\n{said}"
        pairs = self._variables.read_text("utf-8").split("\0")
        self.environment = dict(pair.split("=", 1) for pair in pairs if pair)
        return said

    def _run_python(self, block: Block, text: str) -> str:
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        # Empty lines in front, so that a traceback names the line of the page.
        code = "\n" * block.line + text
        message = {"name": block.page, "code": code, "environment": self.environment}
        self._python.stdin.write(json.dumps(message) + "\n")
        self._python.stdin.flush()
        answer = json.loads(self._python.stdout.readline())
        assert answer["error"] is None, f"{block.place}\n{text}\n{answer['error']}"
        return str(answer["said"])


def _program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@contextmanager
def reading(folder: Path) -> Iterator[Reader]:
    """A reader with a running pair."""
    home = folder / "reader"
    home.mkdir()
    with running(folder / "pair") as service:
        reader = Reader(service, home)
        try:
            yield reader
        finally:
            reader.close()


def to_run(path: Path) -> list[Block]:
    """The blocks of a page that run."""
    return [block for block in blocks(path) if block.language in RUN and block.why_not is None]


PAGES = {name_of(path): path for path in written()}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("page", [name for name, path in PAGES.items() if to_run(path)])
def test_the_blocks_of_the_page_run(page: str, tmp_path: Path) -> None:
    """Each block ends well, after those before it, and prints what the page says that it shows."""
    (tmp_path / "pair").mkdir()
    with reading(tmp_path) as reader:
        for block in to_run(PAGES[page]):
            said = reader.run(block)
            for text in block.shows:
                assert text in said, f"{block.place} does not show {text!r}:\n{said}"


def parse(language: str, text: str) -> None:
    """Read a block of data, or raise what is wrong with it."""
    if language == "toml":
        tomllib.loads(text)
    elif language == "yaml":
        msgspec.yaml.decode(text)
    elif language == "jsonl":
        for line in text.splitlines():
            json.loads(line)
    else:
        try:
            json.loads(text)
        except ValueError:
            # A page may show some members of an object without the object.
            json.loads("{" + text + "}")


@pytest.mark.parametrize("page", list(PAGES))
def test_the_data_of_the_page_can_be_read(page: str) -> None:
    """What says that it is JSON, TOML or YAML is that."""
    for block in blocks(PAGES[page]):
        if block.language in PARSED and block.why_not is None:
            try:
                parse(block.language, block.text)
            except (ValueError, msgspec.DecodeError) as error:
                pytest.fail(f"{block.place}: {error}")


def test_every_block_says_what_it_is() -> None:
    """None goes by unseen because of a language that nobody runs or reads."""
    known = RUN | PARSED | OUTPUT | {"mermaid", "hcl", "ini", "http", "sql"}
    for path in PAGES.values():
        for block in blocks(path):
            assert block.language in known, f"{block.place}: {block.language or 'no language'}"


def test_what_is_not_run_is_known() -> None:
    """The number of blocks that are not run grows only where somebody says so, with a reason."""
    found: dict[str, int] = {}
    for path in PAGES.values():
        for block in blocks(path):
            if block.why_not is not None and block.language in RUN:
                assert len(block.why_not) > 10, f"{block.place}: this is no reason"
                found[block.page] = found.get(block.page, 0) + 1
    assert found == NOT_RUN
