"""Fuzz the served OpenAPI document with schemathesis, all checks, against a real server.

    python tools/fuzz_api.py [--examples 100] [--seed 1] [--processes 1] [more for schemathesis]

Server and emulator are processes on a folder of their own. Schemathesis lies in .venv/schemathesis
(`make fuzz-api` puts it there) and sees nothing of this project's packages. Red if it finds
anything; what it may find, and why, stands in tools/schemathesis.toml.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT))

from tests.journeys.service import Service, running  # noqa: E402  # the path comes first

LIBRARY: Final = ROOT / ".venv" / "schemathesis"
CONFIG: Final = ROOT / "tools" / "schemathesis.toml"
HOOKS: Final = ROOT / "tools" / "schemathesis_hooks.py"
SECONDS_MAX: Final = 1_800
REQUEST_SECONDS_MAX: Final = "10"

_TENANTS: Final = "^/api/v1/(orgs|users|keys)"
PARTS: Final = (["--exclude-path-regex", _TENANTS], ["--include-path-regex", _TENANTS])
"""On a server each: sooner or later the second part revokes the key that it was given."""


def main() -> int:
    """Start the pair, fuzz it, and return the exit code."""
    parser = argparse.ArgumentParser(description="Fuzz the served OpenAPI document.")
    parser.add_argument("--examples", type=int, default=100, help="for each operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, help="threads of schemathesis")
    given, more = parser.parse_known_args()
    wanted = [
        *("--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure"),
        *("--max-examples", str(given.examples), "--seed", str(given.seed)),
        *("--workers", str(given.processes), "--request-timeout", REQUEST_SECONDS_MAX),
        *("--no-color", *more),
    ]
    return max(play([*part, *wanted]) for part in PARTS)


def play(arguments: list[str]) -> int:
    """Fuzz a new pair, and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="penstock-fuzz-") as folder:
        # Uploads in pieces are begun by the hundred, and none is meant to be finished.
        settings = {"PENSTOCK_LIMITS_UPLOADS_OPEN_MAX": "100000"}
        with running(Path(folder), 400, **settings) as service:
            where = ["run", f"{service.url}/openapi.json"]
            code = fuzz([*where, *arguments], service.key, Path(folder))
            return code or trouble(service)


def fuzz(arguments: list[str], key: str, folder: Path) -> int:
    """Run schemathesis, without the packages of this interpreter, and return its exit code."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(LIBRARY),
        "SCHEMATHESIS_HOOKS": str(HOOKS),
        "FUZZ_KEY": key,
    }
    command = [sys.executable, "-S", "-m", "schemathesis.cli", "--config-file", str(CONFIG)]
    return subprocess.run(
        [*command, *arguments],
        # What it keeps for its next run lies where it is called.
        cwd=folder,
        env=environment,
        timeout=SECONDS_MAX,
        check=False,
    ).returncode


def trouble(service: Service) -> int:
    """Print what the server logged about errors of its own, and return 1 if it did."""
    log = (service.folder / "server.log").read_text("utf-8")
    lines = [line for line in log.splitlines() if '"level": "error"' in line]
    for line in lines[:10]:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
