"""Many histories in several lanes, and what they add up to."""

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from typing import Final, Self

import msgspec
from tests.crash.history import Ending, History, Plan, Story
from tests.crash.lane import Lane, make_templates
from tests.crash.nursery import Nursery
from tests.crash.points import BEGINNINGS, IN_CHILD, Point, Work, table

MEMORY: Final = Path("/dev/shm")  # noqa: S108  # a memory file system; SIGKILL needs no disk


class Report(msgspec.Struct):
    """What happened in all histories."""

    histories: int = 0
    strikes: Counter[str] = msgspec.field(default_factory=Counter)
    """Kills by point."""
    hits: Counter[str] = msgspec.field(default_factory=Counter)
    missed: list[str] = []
    """Stories whose point was not reached."""
    failures: list[Ending] = []
    """Stories with findings."""
    seconds: float = 0.0
    """Of all lanes together."""

    @property
    def kills(self) -> int:
        """How often something was killed."""
        return sum(self.strikes.values())

    def join(self, other: "Report") -> None:
        """Count all of another report."""
        self.histories += other.histories
        self.strikes.update(other.strikes)
        self.hits.update(other.hits)
        self.seconds += other.seconds
        self.missed += other.missed
        self.failures += other.failures

    def add(self, ending: Ending) -> None:
        """Count one history."""
        self.histories += 1
        self.strikes.update(ending.strikes)
        self.hits.update(ending.hits)
        self.seconds += ending.seconds
        self.missed += [f"{ending.story.name}: {point}" for point in ending.missed]
        if ending.findings:
            self.failures.append(ending)


class Campaign:
    """Lanes over one zygote; a context."""

    def __init__(self, folder: Path | None = None, lanes: int = 6) -> None:
        self._stack = ExitStack()
        parent = folder or (MEMORY if MEMORY.is_dir() else None)
        self.folder = Path(tempfile.mkdtemp(prefix="penstock-kill-", dir=parent))
        self._count = lanes
        self._lanes: Queue[Lane] = Queue()
        self._keeps_folder = False

    def __enter__(self) -> Self:
        try:
            nursery = Nursery()
            self._stack.callback(nursery.close)
            templates = make_templates(nursery, self.folder / "template")
            nursery.learn(self.folder / "template" / "modules")
            for number in range(self._count):
                lane = Lane(nursery, self.folder / f"lane{number}", templates)
                self._stack.callback(lane.close)
                self._lanes.put(lane)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        if not self._keeps_folder:
            shutil.rmtree(self.folder)

    def run(
        self, stories: Sequence[Story], tell: Callable[[Ending], None] = lambda _: None
    ) -> Report:
        """Play all of them; `tell` hears of each as it ends."""
        report = Report()
        with ThreadPoolExecutor(self._count, thread_name_prefix="lane") as pool:
            for ending in pool.map(self._play, stories):
                report.add(ending)
                tell(ending)
        self._keeps_folder = self._keeps_folder or bool(report.failures)
        return report

    def _play(self, story: Story) -> Ending:
        lane = self._lanes.get()
        try:
            ending = History(lane, story).run()
            if ending.findings or ending.missed:
                lane.renew()
            return ending
        finally:
            self._lanes.put(lane)


def singles(times: int = 1) -> Iterator[Story]:
    """Yield each point alone; again at its second hit, and for the whole group of processes."""
    for number in range(times):
        for point in table().values():
            hit = 2 if number == 1 and point.work not in BEGINNINGS | {Work.STOP} else 1
            plan = Plan(point=point.name, work=point.work, hit=hit, whole=number > 0)
            yield Story(name=f"{point.code}.{number}", plans=(plan,))
            if number == 0 and point.name in IN_CHILD:
                large = Plan(point=point.name, work=Work.LARGE, large=True)
                yield Story(name=f"{point.code}.child", plans=(large,))


def pairs() -> list[Story]:
    """Return each ordered pair; the second strikes while the server recovers from the first."""
    points = list(table().values())
    return [
        Story(
            name=f"{first.code}-{second.code}",
            plans=(_plan(first), _plan(second)),
            ends_in_order=False,
        )
        for first in points
        for second in points
        if second.work not in BEGINNINGS or first is second
    ]


def triples(seed: int, count: int) -> list[Story]:
    """Return stories of three kills, of which any may come twice."""
    generator = random.Random(seed)  # noqa: S311  # reproducible, not secret
    points = [point for point in table().values() if point.work not in BEGINNINGS]
    stories = []
    for number in range(count):
        chosen = generator.choices(points, k=3)
        name = "-".join(point.code for point in chosen)
        plans = tuple(_plan(point) for point in chosen)
        stories.append(Story(name=f"{number}.{name}", plans=plans, ends_in_order=False))
    return stories


def sample(seed: int, count: int) -> list[Story]:
    """Return some of the pairs."""
    return random.Random(seed).sample(pairs(), count)  # noqa: S311  # reproducible, not secret


def _plan(point: Point) -> Plan:
    return Plan(point=point.name, work=point.work, whole=True)
