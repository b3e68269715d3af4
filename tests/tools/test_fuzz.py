"""The command of the fuzzer; what it plays is tested in tests/fuzz."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TOOL = Path(__file__).resolve().parents[2] / "tools" / "fuzz.py"


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it."""
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, check=False
    )


def test_a_run_says_what_it_played() -> None:
    """The summary has the figures of each target, and a run without findings is green."""
    done = fuzz("--inputs", "50", "--targets", "key,uri", "--seed", "3")
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    assert (summary["inputs"], summary["complaints"]) == (100, [])
    assert [one["target"] for one in summary["targets"]] == ["key", "uri"]
    for one in summary["targets"]:
        assert sum(one["verdicts"].values()) == 50
        assert one["slowest_milliseconds"] > 0


def test_one_input_can_be_played_again() -> None:
    """Its number and seed are enough."""
    first, second = (fuzz("--targets", "uri", "--seed", "3", "--number", "7") for _ in range(2))
    assert first.returncode == 0
    assert first.stdout == second.stdout
    assert len(first.stdout.splitlines()) == 3


def test_an_unknown_target_is_refused() -> None:
    """The refusal lists those that there are."""
    done = fuzz("--targets", "lines")
    assert done.returncode == 1
    assert "no target lines" in done.stderr
    assert "splitter" in done.stderr
