"""An engine in a process of its own, to be frozen: its provider's job runs for ever.

python -m tests.lifecycle.frozen_engine DATABASE_URL DATA_DIR; says `asked` when it waits for a job.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any, cast

import msgspec
from tests.lifecycle.fakes import World

from penstock.blobs.spool import Spool
from penstock.clock import SystemClock
from penstock.lifecycle.accept import Phase
from penstock.lifecycle.durable import Engine
from penstock.lifecycle.ports import CancelWatch, Ports
from penstock.lifecycle.turns import Slots
from penstock.providers.provider import ProviderJob
from penstock.settings import Timing, build
from penstock.store.location import location_of
from penstock.store.store import Store, engine_database

TIMING = Timing(poll_seconds_min=0.05, poll_seconds_max=0.05, heartbeat_seconds=0.2)


class Endless:
    """A provider whose jobs run for ever, and change their state at each look."""

    def __init__(self) -> None:
        self._looks = 0

    async def find(self, label: str, location: str) -> list[ProviderJob]:
        """No other job has the label."""
        assert label
        assert location
        return []

    async def get(self, name: str) -> ProviderJob:
        """Say that the job runs, in ever new words, so that there is something to write."""
        self._looks += 1
        if self._looks == 1:
            sys.stdout.write("asked\n")
            sys.stdout.flush()
        return ProviderJob(name=name, state=f"JOB_STATE_LOOK_{self._looks}", has_started=True)


async def main(url: str, data_dir: str) -> None:
    """Work until killed."""
    location = location_of(build({"database_url": url}))
    store, clock = Store.open(location), SystemClock()
    world = World(store.jobs, Spool(Path(data_dir)), cast(Any, None))
    watch = CancelWatch(store.jobs, clock, 0.1)
    ports: Ports = world.ports(provider=cast(Any, Endless()), alarm=watch, timing=TIMING)
    ports = msgspec.structs.replace(ports, clock=clock)
    slots = dict.fromkeys(Phase, Slots(whole=2, each=2))
    engine = Engine(ports, store.workers, watch, engine_database(location), slots)
    await engine.begin(alone=False)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
