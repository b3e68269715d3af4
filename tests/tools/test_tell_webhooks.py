import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_nothing_is_missed() -> None:
    """Through a receiver that fails, by senders that are killed, all is told and well signed."""
    command = [sys.executable, "tools/tell_webhooks.py", "--deliveries", "300"]
    command += ["--speed", "20000", "--seconds-max", "120"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 deliveries" in done.stdout
    assert "0 missed, 0 bad signatures, 0 with another body" in done.stdout
