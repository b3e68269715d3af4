"""What `make test` runs: every test on three processes, and the coverage gates.

    python tools/run_tests.py [--no-gate] [arguments for pytest]

Some packages must be covered to the last branch, because a branch that no test takes there can lose
a job or pay twice. Elsewhere the figure in tools/coverage_floor.txt may rise and never falls.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
FLOOR: Final = ROOT / "tools" / "coverage_floor.txt"
REPORT: Final = ROOT / ".coverage_report.json"
PACKAGE: Final = "src/penstock/"

COMPLETE: Final = ("core/", "ingest/", "lifecycle/", "api/auth.py")
"""Below src/penstock; every line and every branch of these is taken by some test."""

INSTALL_SECONDS: Final = 120
"""How long one step of an installation may take; it may hang where there is no network."""

WHOLE: Final = (
    *("corpus", "crash", "docs", "durability", "examples", "fire", "fuzz", "scale", "simulation"),
    *("testing", "tools", "wire_abuse"),
)
"""Below tests; they run whole programs, for which tracing takes a third more time. What they run is
covered by the others."""

# One more process than CI has cores: many tests wait for servers that they start.
PYTEST: Final = ("-m", "pytest", "-n", "3")
COVERAGE: Final = ("--cov=penstock", "--cov-branch", "--cov-report=")


def main() -> int:
    """Run the tests, then the gates, and return the exit code."""
    arguments = sys.argv[1:]
    gated = "--no-gate" not in arguments
    wanted = [argument for argument in arguments if argument != "--no-gate"]
    if not gated:
        return python(*PYTEST, *wanted)
    install_strace()
    whole = [f"tests/{name}" for name in WHOLE]
    others = python(*PYTEST, *COVERAGE, *(f"--ignore={path}" for path in whole), *wanted)
    # Both, so that one run tells of all that fails.
    code = python(*PYTEST, *whole, *wanted) or others
    if code:
        return code
    # Servers that tests start leave data of their own beside what pytest-cov has combined.
    if list(ROOT.glob(".coverage.*.*")):
        python("-m", "coverage", "combine", "--append", "--quiet")
    code = python("-m", "coverage", "json", "--quiet", "-o", str(REPORT))
    if code:
        return code
    files = json.loads(REPORT.read_bytes())["files"]
    complaints = gate(files, float(FLOOR.read_text("ascii")))
    for complaint in complaints:
        print(complaint)
    return 1 if complaints else 0


def install_strace() -> None:
    """Install strace where root can; elsewhere the tests in tests/durability skip and say so."""
    apt = shutil.which("apt-get")
    if shutil.which("strace") is not None or apt is None or os.geteuid() != 0:
        return
    install = ["install", "--yes", "--no-install-recommends", "strace"]
    try:
        # The list of packages may be missing or old, and then it is fetched.
        for arguments in (install, ["update"], install):
            done = subprocess.run(
                [apt, *arguments], stdout=subprocess.DEVNULL, timeout=INSTALL_SECONDS, check=False
            )
            if arguments is install and done.returncode == 0:
                return
    except subprocess.TimeoutExpired:
        print(f"apt-get did not end within {INSTALL_SECONDS} seconds")
    print("strace cannot be installed; the tests in tests/durability will be skipped")


def python(*arguments: str) -> int:
    """Run this interpreter in the repository and return its exit code."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode


def gate(files: Mapping[str, Any], floor: float) -> list[str]:
    """Return what is missing, file by file, and print the figures."""
    complaints = []
    rest = {"covered": 0, "all": 0}
    for path, report in sorted(files.items()):
        name = path.replace("\\", "/").rpartition(PACKAGE)[2]
        if name.startswith(COMPLETE):
            complaints += incomplete(path, report)
            continue
        summary = report["summary"]
        rest["covered"] += summary["covered_lines"] + summary["covered_branches"]
        rest["all"] += summary["num_statements"] + summary["num_branches"]
    percent = 100 * rest["covered"] / rest["all"] if rest["all"] else 100.0
    print(
        f"coverage: {'100' if not complaints else 'less than 100'} % of {', '.join(COMPLETE)}; "
        f"{percent:.1f} % of the rest (floor {floor:g} %)"
    )
    if percent < floor:
        complaints.append(
            f"coverage of the rest fell to {percent:.1f} %, the floor is {floor:g} %: "
            "test what you added"
        )
    return complaints


def incomplete(path: str, report: Mapping[str, Any]) -> list[str]:
    """Return the lines and branches of one file that no test takes."""
    complaints = [f"{path}:{line}: no test runs this line" for line in report["missing_lines"]]
    complaints += [
        f"{path}:{start}: no test goes from here to {f'line {end}' if end > 0 else 'the end'}"
        for start, end in report["missing_branches"]
        if start not in report["missing_lines"] and end not in report["missing_lines"]
    ]
    return complaints


if __name__ == "__main__":
    sys.exit(main())
