"""The commands of docs/quotas.md work as they stand there, and its codes exist."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.journeys.service import running

from penstock.core.quotas import Quotas

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quotas.md").read_text("utf-8")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_submission_that_is_sent_twice_is_one_job(tmp_path: Path) -> None:
    """The shell block makes one job of two submissions, and the usage that it shows counts one."""
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    with running(tmp_path) as service:
        done = subprocess.run(
            ["bash", "-ec", block],
            env={**os.environ, "PENSTOCK_URL": service.url, "PENSTOCK_API_KEY": service.key},
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        first, again, usage = (json.loads(line) for line in done.stdout.splitlines())
        service.wait(first["request_id"])
    assert first["request_id"] == again["request_id"]
    assert first["priority"] == 10
    assert usage["days"][0]["jobs"] == 1


def test_every_quota_is_on_the_page() -> None:
    """Each quota has its row with the code of its refusal."""
    for name in Quotas.__struct_fields__:
        short = name.removesuffix("_max").removesuffix("_micro_dollars")
        assert f"| `{name}` |" in PAGE
        assert f"`quota_{short}`" in PAGE
