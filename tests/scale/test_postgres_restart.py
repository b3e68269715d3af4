"""Postgres crashes (`pg_ctl restart -m immediate`) in the middle of submissions, a few times.

`tools/kill_postgres.py` does the same a hundred times and more.
"""

from pathlib import Path

import pytest
from tests.postgres import PostgresServer
from tests.scale.outage import Clients, crash, judge, keep

pytestmark = [pytest.mark.slow, pytest.mark.crash, pytest.mark.timeout(180)]

RESTARTS = 3


def test_an_acknowledged_submission_survives_crashes_of_the_database(tmp_path: Path) -> None:
    """Nothing acknowledged is lost and nothing is paid twice, whenever the database went away."""
    with PostgresServer() as server:
        cluster = keep(tmp_path, server.url(server.create_database()))
        try:
            with Clients(cluster) as clients:
                for _ in range(RESTARTS):
                    crash(server, clients)
            verdict = judge(cluster, clients)
        finally:
            cluster.close()
    assert verdict.stuck == {}
    assert (verdict.lost, verdict.doubled, verdict.unpaid) == ([], [], [])
    assert verdict.acked >= RESTARTS
