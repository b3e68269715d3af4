"""The commands of docs/lines.md work as they stand there, and its words are those of the code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.journeys.service import running

from penstock.core.line import LineOutcome

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lines.md").read_text("utf-8")


def test_the_commands_show_what_became_of_lines(tmp_path: Path) -> None:
    """The shell block shows the lines that did not end well, in each of the ways."""
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    with running(tmp_path) as service:
        done = subprocess.run(
            [
                "bash",
                "-ec",
                f'penstock() {{ {sys.executable} -m penstock.cli.main "$@"; }}\n{block}',
            ],
            env={**os.environ, "PENSTOCK_URL": service.url, "PENSTOCK_API_KEY": service.key},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        said = done.stdout.splitlines()
        (shown,) = [line for line in said if line.startswith("requests")]
        assert "3 total, 1 ok, 1 blocked, 1 error" in shown
        assert any("error 429" in line and "e.g. line 2" in line for line in said)
        tabs = [line.split("\t")[:3] for line in said if "\t" in line]
        assert tabs == [["2", "error", "429"], ["3", "blocked", "SAFETY"]]
        groups = json.loads(said[-1])["groups"]
        assert {group["outcome"] for group in groups} == {"ok", "error", "blocked"}


def test_every_outcome_is_on_the_page() -> None:
    """Each outcome has its row, and says as what it is counted."""
    for outcome in LineOutcome:
        assert re.search(
            rf"^\| `{outcome}` \| .* \| (successful|failed|incomplete) \|$", PAGE, re.MULTILINE
        )


def test_every_code_is_on_the_page() -> None:
    """The refusals of these routes are those that the page lists."""
    code = "".join(
        (ROOT / "src" / "penstock" / "api" / name).read_text("utf-8")
        for name in ("lines.py", "line_source.py")
    )
    codes = set(re.findall(r'code="(\w+)"', code))
    assert codes == set(re.findall(r"^\| \d{3} `(\w+)` \|", PAGE, re.MULTILINE))
