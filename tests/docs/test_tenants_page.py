"""The commands of docs/tenants.md work as they stand there, and its codes exist."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.journeys.service import Service, running

from penstock.core.access import Role
from penstock.core.key import key_id_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tenants.md").read_text("utf-8")
COMMANDS, CALLS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running pair."""
    with running(tmp_path_factory.mktemp("tenants")) as pair:
        yield pair


def shell(block: str, service: Service, folder: Path) -> list[str]:
    """Run a block with the settings of the service; return its lines."""
    command = f'penstock() {{ {sys.executable} -m penstock.cli.main "$@"; }}\n{block}'
    done = subprocess.run(
        ["bash", "-ec", command],
        env={
            **os.environ,
            "PENSTOCK_URL": service.url,
            "PENSTOCK_API_KEY": service.key,
            "PENSTOCK_DATA_DIR": str(service.folder / "data"),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_commands_make_an_organisation_that_works(service: Service, tmp_path: Path) -> None:
    """At the end the owner's key opens the server, and the log of all that was done is whole."""
    said = shell(COMMANDS, service, tmp_path)
    assert said[:3] == ["acme", "changed acme", "ana"]
    assert [line.split("\t")[-1] for line in said[-2:]] == ["whole", "whole"]
    key = (tmp_path / "ana.key").read_text("ascii").strip()
    assert key_id_of(key) is not None
    headers = {"Authorization": f"Bearer {key}"}
    own = service.http.get(f"{service.url}/api/v1/orgs/acme", headers=headers).json()
    assert own["quotas"] == {"jobs_in_flight_max": 20, "lines_day_max": 1_000_000}


@pytest.mark.skipif(
    shutil.which("curl") is None or shutil.which("jq") is None, reason="no curl or no jq"
)
def test_the_calls_make_replace_and_revoke_a_key(service: Service, tmp_path: Path) -> None:
    """What the block shows at its end is what it did, newest first."""
    changed, *rows = shell(CALLS, service, tmp_path)
    assert json.loads(changed)["role"] == "viewer"
    actions = ("user.role", "key.revoke", "key.rotate", "key.create", "user.add")
    assert [json.loads(row) for row in rows] == [[action, "done"] for action in actions]


def test_the_page_names_what_exists() -> None:
    """Every role and every code of a refusal."""
    source = "".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    for role in Role:
        assert f"`{role}`" in PAGE
    for code in re.findall(r"\| 4\d\d `([a-z_]+)", PAGE):
        assert f'"{code}' in source, code
