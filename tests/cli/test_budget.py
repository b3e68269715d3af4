import subprocess
import sys

import pytest

HEAVY = ("httpx2", "sqlalchemy", "starlette", "uvicorn", "dbos", "obstore", "alembic", "google")
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
