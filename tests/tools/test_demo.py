import copy
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DEMO = Path(__file__).resolve().parents[2] / "tools" / "demo.py"
Lines = list[dict[str, Any]]


def line(number: int) -> dict[str, Any]:
    """Return one line of the input."""
    contents = [{"role": "user", "parts": [{"text": f"question {number}"}]}]
    return {"key": f"k-{number}", "request": {"contents": contents}}


def answered(number: int, status: str = "") -> dict[str, Any]:
    """Return the answer to it, with a null as Vertex AI adds them to its echo."""
    answer = copy.deepcopy(line(number))
    answer["request"]["contents"][0]["parts"][0]["fileData"] = None
    response: dict[str, Any] = {} if status else {"candidates": [{}]}
    return {"status": status, "processed_time": "x", "response": response, **answer}


@pytest.fixture(scope="module")
def compare() -> Callable[[Lines, Lines], int]:
    """The demo's own check."""
    found: Callable[[Lines, Lines], int] = runpy.run_path(str(DEMO))["compare"]
    return found


def test_right_answers(compare: Callable[[Lines, Lines], int]) -> None:
    """Answers in their places pass, and failed ones are counted."""
    assert compare([line(0), line(1)], [answered(0), answered(1, "Bad Request")]) == 1


@pytest.mark.parametrize(
    ("came", "says"),
    [
        ([answered(0)], "2 lines went in, 1 came out"),
        ([answered(1), answered(0)], "line 1: the member 'key' did not come back"),
        (
            [answered(0), {**answered(0), "key": "k-1"}],
            "line 2: this is the answer to another request",
        ),
        (
            [answered(0), {**answered(1), "response": {}}],
            "line 2: neither an answer nor an error",
        ),
    ],
)
def test_wrong_answers(compare: Callable[[Lines, Lines], int], came: Lines, says: str) -> None:
    """A missing line, two in the wrong order, a foreign or an empty answer: each is noticed."""
    with pytest.raises(Exception, match=says):
        compare([line(0), line(1)], came)


def test_a_server_that_does_not_start(tmp_path: Path) -> None:
    """The demo ends with one sentence and what the server said, not with a traceback."""
    broken = tmp_path / "penstock" / "cli"
    broken.mkdir(parents=True)
    (broken.parent / "__init__.py").touch()
    (broken / "__init__.py").touch()
    (broken / "main.py").write_text("raise SystemExit('no such port')")
    script = (
        "import runpy, sys, os; d = runpy.run_path(sys.argv[1], run_name='demo');"
        " os.environ['PYTHONPATH'] = sys.argv[2]; d['main']()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(DEMO), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "demo failed: penstock dev ended with code 1; it said:" in done.stderr
    assert "no such port" in done.stderr
    assert "Traceback" not in done.stderr
