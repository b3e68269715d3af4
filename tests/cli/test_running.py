import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource, sys
from penstock.cli.running import allow_descriptors
soft, hard = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
allow_descriptors(3_000)
print(json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "becomes"),
    [
        ((1_024, 4_096), [3_000, 4_096]),
        ((1_024, 2_000), [2_000, 2_000]),
        ((3_500, 4_096), [3_500, 4_096]),
    ],
)
def test_a_server_may_have_a_file_for_each_connection(
    limits: tuple[int, int], becomes: list[int]
) -> None:
    """The soft limit rises to what is wanted, as far as the hard one allows, and never falls."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(limits)], stdout=subprocess.PIPE, check=True
    )
    assert json.loads(done.stdout) == becomes


FROZEN = """
import gc, json
from penstock.cli.running import collect_rarely
before = gc.get_threshold()
collect_rarely()
print(json.dumps([gc.get_freeze_count() > 10_000, len(gc.get_objects()) < 1_000, before,
                  gc.get_threshold()]))
"""


@pytest.mark.slow
def test_what_stays_is_not_looked_at_again() -> None:
    """All that is there at the start is frozen, and the young are collected as before."""
    done = subprocess.run([sys.executable, "-c", FROZEN], stdout=subprocess.PIPE, check=True)
    is_frozen, is_little_left, before, after = json.loads(done.stdout)
    assert is_frozen
    assert is_little_left
    assert after[:2] == before[:2]
    assert after[2] > before[2]
