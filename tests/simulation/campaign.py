"""Many seeds, one after the other: what was found, and how often each point was reached."""

import contextlib
import gc
import itertools
import logging
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final
from unittest.mock import patch

import msgspec
from tests.simulation.checker import Finding, check
from tests.simulation.reach import Reach
from tests.simulation.world import JOBS, Input, World, inputs

from penstock.core.limits import Limits
from penstock.lifecycle.behind import Behind

MEMORY_DISK: Final = Path("/dev/shm")  # noqa: S108  # scratch files; the outcome is the same on any


class Report(msgspec.Struct, kw_only=True):
    """The figures of a campaign."""

    histories: int = 0
    jobs: int = 0
    kills: int = 0
    idle_kills: int = 0
    """Kills of a process that had no job in hand."""
    reached: Counter[str] = msgspec.field(default_factory=Counter)
    failures: list[tuple[int, list[Finding]]] = []
    """The seeds that failed, and why."""
    seconds: float = 0.0

    def add(self, other: "Report") -> None:
        """Join another campaign's figures."""
        self.histories += other.histories
        self.jobs += other.jobs
        self.kills += other.kills
        self.idle_kills += other.idle_kills
        self.reached.update(other.reached)
        self.failures = [*self.failures, *other.failures]
        self.seconds += other.seconds

    def count(self, kind: str) -> int:
        """Return how many findings there are of a kind."""
        return sum(one.kind == kind for _, found in self.failures for one in found)


Change = Callable[[World], AbstractContextManager[object]]
"""What makes a mutant of a world."""


def unchanged(_world: World) -> AbstractContextManager[object]:
    """Change nothing."""
    return contextlib.nullcontext()


@contextlib.contextmanager
def rounds_and_shards(world: World) -> Iterator[None]:
    """Send failed lines again, and cut jobs of more than two lines."""
    world.limits = Limits(provider_lines_max=2)
    world.rest_seconds *= 3
    yield


def _inline(_behind: Behind, task: Callable[[bytes], object], block: bytes) -> None:
    task(block)


def _nothing(*_: object) -> None:
    """Start no thread, and wait for none."""


@contextlib.contextmanager
def _without_threads() -> Iterator[None]:
    """Do what the real code does in threads here and now."""
    with (
        patch.object(Behind, "__init__", _nothing),
        patch.object(Behind, "do", _inline),
        patch.object(Behind, "wait", _nothing),
        patch.object(Behind, "close", _nothing),
    ):
        yield


@contextlib.contextmanager
def _own_names() -> Iterator[None]:
    """Name files by a count instead of by chance."""
    names = itertools.count()
    modules = ("prepare", "gather", "concatenate")
    with contextlib.ExitStack() as stack:
        for module in modules:
            where = f"penstock.lifecycle.{module}.token_hex"
            stack.enter_context(patch(where, lambda _: f"{next(names):08x}"))
        yield


class Simulator:
    """Plays seeds in one folder."""

    def __init__(self, folder: Path) -> None:
        self._scratch = folder / "scratch"
        self._scratch.mkdir()
        self._pool: list[Input] = inputs(folder)

    def play(
        self, seed: int, change: Change = unchanged, *, is_traced: bool = False
    ) -> tuple[World, list[Finding]]:
        """Play one history and check it."""
        world = World(seed, self._pool, self._scratch, Reach(is_traced=is_traced))
        with _own_names(), change(world), _without_threads():
            world.play()
        return world, check(world)

    def campaign(
        self, seeds: Iterable[int], change: Change = unchanged, *, failures_max: int = 20
    ) -> Report:
        """Play many; stop early when enough of them failed."""
        report = Report()
        begun = time.perf_counter()
        for seed in seeds:
            world, found = self.play(seed, change)
            report.histories += 1
            report.jobs += JOBS
            report.kills += world.kills
            report.idle_kills += world.idle_kills
            report.reached.update(world.reach.counts)
            if found:
                report.failures.append((seed, found))
                if len(report.failures) >= failures_max:
                    break
        report.seconds = time.perf_counter() - begun
        return report


@contextlib.contextmanager
def simulator() -> Iterator[Simulator]:
    """Open a simulator; what the real code logs about all these deaths is of no interest."""
    home = MEMORY_DISK if MEMORY_DISK.is_dir() else None
    logging.disable(logging.CRITICAL)
    # Histories leave cycles behind; one young collection in a while is enough for them.
    gc.set_threshold(50_000, 10, 10)
    try:
        with (
            warnings.catch_warnings(),
            tempfile.TemporaryDirectory(prefix="penstock-simulation-", dir=home) as folder,
        ):
            # Who is killed closes no files.
            warnings.simplefilter("ignore", ResourceWarning)
            yield Simulator(Path(folder))
            gc.collect()
    finally:
        gc.set_threshold(700, 10, 10)
        logging.disable(logging.NOTSET)
