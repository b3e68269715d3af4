"""The points of the protocol that a run must reach, by the names of the reliability record 2.1.

A point is the place between two effects at which the process dies, so it is reached when somebody
was killed there.
"""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

REACHED_MIN: Final = 20

POINTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "A6 bytes there, not put": ("killed before blobs.commit input.jsonl",),
        "A7 half put": ("killed before blobs.commit input.idx",),
        "A8 bytes durable, row not committed": (
            "killed before jobs.add",
            "killed after blobs.commit input.idx",
        ),
        "A9 commit of the row unclear": ("error after jobs.add",),
        "A10 row committed, no answer": ("killed after jobs.add",),
        "B1 before the claim": ("killed before engine.start",),
        "B2 claimed": ("killed after engine.start",),
        "B3 provider's input half written": ("killed before bucket.put_all",),
        "B4 written, not recorded": ("killed after bucket.put_all",),
        "B5 state recorded": ("killed after jobs.move",),
        "C1 before the intent": ("killed before jobs.intend",),
        "C2 intent committed, nothing sent": (
            "killed after jobs.intend",
            "killed before provider.create",
        ),
        "C2 frozen between the check and the socket": ("frozen before provider.create",),
        "C3 sent, reply not read": ("killed after provider.create",),
        "C4 reply read, not recorded": ("killed before jobs.record_provider_job",),
        "C5 recorded": ("killed after jobs.record_provider_job",),
        "C6 before the list": ("killed before provider.find",),
        "C7 found, not adopted": ("killed after provider.find",),
        "C8 fence committed, input still there": ("killed after jobs.fence",),
        "C8 input copied, not removed": ("killed before bucket.delete",),
        "C8 input removed": ("killed after bucket.delete",),
        "C9 in the wait": ("killed in a sleep",),
        "D1 before a poll": ("killed before provider.get",),
        "D2 polled, not recorded": ("killed after provider.get",),
        "E1 outputs listed": ("killed after bucket.list",),
        "E2 half an output read": ("killed in bucket.read",),
        "E5 merged, not put": ("killed before blobs.commit output",),
        "E6 put, not recorded": ("killed after blobs.commit output",),
        "an output came too late": ("an output that came too late removed",),
        "E7 commit of the end unclear": ("error after jobs.finish",),
        "E8 end committed": ("killed after jobs.finish",),
        "G2 before a cancel at the provider": ("killed before provider.cancel",),
        "G3 cancelled, not recorded": ("killed after provider.cancel",),
        "step done, not recorded by the engine": ("killed before engine.record",),
        "step recorded by the engine": ("killed after engine.record",),
        "work taken over": ("work taken over",),
        "work of a living process taken over": ("work of a living process taken over",),
        "a zombie's step refused by the engine": ("engine refused the step of a zombie",),
        "a zombie's move refused by the store": ("late move refused",),
        "a zombie's record or fence refused by the store": (
            "late record_provider_job refused",
            "late fence refused",
        ),
        "a zombie's end refused by the store": ("late finish refused",),
        "create lands late": ("create lands late",),
        "create lost": ("create lost before it landed",),
        "create refused": ("create refused",),
        "create unreachable": ("create unreachable",),
        "reply lost": ("reply lost",),
        "provider makes two jobs of one create": ("provider makes two",),
        "a job finds no input": ("job found no input",),
        "a stale list hides a job": ("stale list hides a job",),
        "a job unknown for a moment": ("provider forgets a job for a moment",),
        "cancel asked": ("cancel asked",),
        "a row missing": ("row missing",),
        "a row twice": ("row twice",),
        "a row with an error": ("row with an error",),
        "a workflow dies of an error": ("workflow died of an error",),
        "adopted": ("adopted",),
        "duplicate cancelled": ("duplicate_cancelled",),
        "second attempt": ("second attempt",),
        "ended succeeded": ("ended succeeded",),
        "ended failed": ("ended failed",),
        "ended cancelled": ("ended cancelled",),
    }
)


def how_often(reached: Counter[str]) -> dict[str, int]:
    """Return how often each point was reached."""
    return {point: sum(reached[name] for name in names) for point, names in POINTS.items()}


def missed(reached: Counter[str]) -> dict[str, int]:
    """Return the points that were not reached often enough."""
    return {point: times for point, times in how_often(reached).items() if times < REACHED_MIN}
