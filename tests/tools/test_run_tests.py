import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN_TESTS = Path(__file__).resolve().parents[2] / "tools" / "run_tests.py"
JUDGE = (
    "import json, runpy, sys; gate = runpy.run_path(sys.argv[1])['gate'];"
    " print(json.dumps(gate(json.loads(sys.argv[2]), 80.0)))"
)


def judge(files: dict[str, Any]) -> tuple[list[str], str]:
    """Return the complaints about coverage data, and the line of figures."""
    done = subprocess.run(
        [sys.executable, "-c", JUDGE, str(RUN_TESTS), json.dumps(files)],
        capture_output=True,
        text=True,
        check=True,
    )
    figures, complaints = done.stdout.splitlines()
    found: list[str] = json.loads(complaints)
    return found, figures


def report(
    lines: list[int] | None = None,
    branches: list[list[int]] | None = None,
    *,
    covered: int = 10,
) -> dict[str, Any]:
    """Return one file of a coverage report, with ten lines and no branch."""
    return {
        "missing_lines": lines or [],
        "missing_branches": branches or [],
        "summary": {
            "covered_lines": covered,
            "covered_branches": 0,
            "num_statements": 10,
            "num_branches": 0,
        },
    }


@pytest.mark.parametrize("name", ["core/job.py", "ingest/a.py", "lifecycle/b.py", "api/auth.py"])
def test_complete_packages(name: str) -> None:
    """One missing line or branch of these packages is named and refused."""
    path = f"src/penstock/{name}"
    complaints, _ = judge({path: report([7], [[3, 5], [4, -1], [6, 7]])})
    assert complaints == [
        f"{path}:7: no test runs this line",
        f"{path}:3: no test goes from here to line 5",
        f"{path}:4: no test goes from here to the end",
    ]


def test_the_rest_is_measured_together() -> None:
    """Elsewhere the sum counts, and a sum below the floor is refused."""
    good = {"src/penstock/api/app.py": report([1], covered=9)}
    assert judge(good)[0] == []
    complaints, figures = judge({**good, "src/penstock/cli/a.py": report(covered=5)})
    assert complaints == [
        "coverage of the rest fell to 70.0 %, the floor is 80 %: test what you added"
    ]
    assert "70.0 % of the rest (floor 80 %)" in figures


@pytest.mark.parametrize(("code", "calls"), [(0, 1), (100, 3)])
def test_strace_is_installed_where_root_can(tmp_path: Path, code: int, calls: int) -> None:
    """apt-get is asked, again after an update if it did not know strace, and may fail at that."""
    apt, log = tmp_path / "apt-get", tmp_path / "log"
    apt.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexit {code}\n', "ascii")
    apt.chmod(0o755)
    script = "import runpy, sys; runpy.run_path(sys.argv[1])['install_strace']()"
    done = subprocess.run(
        [sys.executable, "-c", script, str(RUN_TESTS)],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    asked = log.read_text("ascii").splitlines() if log.exists() else []
    assert len(asked) == (calls if os.geteuid() == 0 else 0)
    assert ("will be skipped" in done.stdout) == (len(asked) == 3)
