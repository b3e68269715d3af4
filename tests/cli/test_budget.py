import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.cli.recent import Recent

COMPLETING = {
    "_PENSTOCK_COMPLETE": "bash_complete",
    "COMP_WORDS": "penstock show re",
    "COMP_CWORD": "2",
}
HEAVY = (
    "httpx2",
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "dbos",
    "obstore",
    "alembic",
    "google",
)
LOADED = f"sorted(set({HEAVY!r}) & set(sys.modules))"


@pytest.mark.parametrize(
    "script",
    [
        f"import sys, penstock.cli.main; print({LOADED})",
        f"import sys, penstock.cli.main as m; m.run(['--help']); print({LOADED})",
    ],
)
def test_help_loads_nothing_heavy(script: str) -> None:
    """Neither the import of the command line nor its help loads HTTP, a server or a database."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_completion_of_ids_loads_nothing_heavy(tmp_path: Path) -> None:
    """A Tab is answered from this machine's cache: no HTTP client and no server."""
    Recent(tmp_path / "penstock" / "recent.json").remember("http://x", None, [("req_7", "nov")])
    script = (
        f"import sys, penstock.cli.main as m\ntry:\n    m.run([])\nfinally:\n    print({LOADED})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **COMPLETING, "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert done.stdout.splitlines() == ["plain,req_7", "[]"], done.stderr
