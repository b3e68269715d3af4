"""Plays inputs against a target and says what happened."""

import base64
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec
from tests.fuzz import ingest_targets, other_targets
from tests.fuzz.mutate import Mutator
from tests.fuzz.target import Target

WARM_UP_INPUTS: Final = 2_000
"""Played before memory is looked at: caches fill, modules load."""

FINDINGS_MAX: Final = 5
SHOWN_BYTES: Final = 600
_SEED_SHIFT: Final = 40
_MEMORY: Final = Path("/proc/self/statm")
_PAGE_KIB: Final = 4


class Finding(msgspec.Struct, frozen=True):
    """An input that broke a promise."""

    number: int
    error: str
    input: str
    """Base64 of it."""


class Report(msgspec.Struct, kw_only=True):
    """What became of the inputs of one target."""

    target: str
    seed: int
    first: int
    inputs: int
    seconds: float = 0.0
    verdicts: dict[str, int] = {}
    slowest_milliseconds: float = 0.0
    slowest_number: int = 0
    slowest_bytes: int = 0
    rss_before_kib: int = 0
    rss_after_kib: int = 0
    findings: list[Finding] = []


TARGETS: Final[Mapping[str, Callable[[], Target]]] = MappingProxyType(
    {**ingest_targets.TARGETS, **other_targets.TARGETS}
)
"""What makes each target, by its name."""


def input_of(target: Target, seed: int, number: int) -> tuple[bytes, random.Random]:
    """Return the input with this number, and the chance that goes on with it."""
    return _input(Mutator(target.seeds, target.words), random.Random(), seed, number)  # noqa: S311


def _input(
    mutator: Mutator, chance: random.Random, seed: int, number: int
) -> tuple[bytes, random.Random]:
    # Each input has its own seed, so that one can be played again without those before it.
    chance.seed((seed << _SEED_SHIFT) | number)
    return mutator.make(chance), chance


def play(target: Target, seed: int, inputs: int, first: int = 0) -> Report:
    """Play so many inputs, stopping early only after `FINDINGS_MAX` findings."""
    report = Report(target=target.name, seed=seed, first=first, inputs=inputs)
    verdicts: Counter[str] = Counter()
    mutator, chance = Mutator(target.seeds, target.words), random.Random()  # noqa: S311
    begun = time.perf_counter()
    with closing(target):
        for number in range(first, first + inputs):
            if number - first == min(WARM_UP_INPUTS, inputs - 1):
                report.rss_before_kib = rss_kib()
            data, chance = _input(mutator, chance, seed, number)
            start = time.perf_counter()
            try:
                verdicts[target.run(data, chance)] += 1
            except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
                verdicts["FINDING"] += 1
                report.findings.append(_finding(number, error, data))
                if len(report.findings) >= FINDINGS_MAX:
                    break
            _remember_slowest(report, time.perf_counter() - start, number, data)
    report.seconds = time.perf_counter() - begun
    report.rss_after_kib = rss_kib()
    report.verdicts = dict(verdicts.most_common())
    return report


def _remember_slowest(report: Report, seconds: float, number: int, data: bytes) -> None:
    if seconds * 1_000 > report.slowest_milliseconds:
        report.slowest_milliseconds = seconds * 1_000
        report.slowest_number = number
        report.slowest_bytes = len(data)


def _finding(number: int, error: Exception, data: bytes) -> Finding:
    words = "".join(traceback.format_exception(error))[-SHOWN_BYTES:]
    return Finding(number, words, base64.b64encode(data).decode())


def rss_kib() -> int:
    """Return the memory of this process, 0 where the system does not tell."""
    if not _MEMORY.exists():
        return 0
    return int(_MEMORY.read_text("ascii").split()[1]) * _PAGE_KIB
