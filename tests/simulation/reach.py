"""How often each named point was reached: a fault test that hits nothing is worse than none."""

from collections import Counter


class Reach:
    """Counts the points of one history, and writes its trace if somebody reads it."""

    def __init__(self, *, is_traced: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self.lines: list[str] = []
        self.is_traced = is_traced

    def __call__(self, point: str) -> None:
        """Count one."""
        self.counts[point] += 1
        if self.is_traced:
            self.lines.append(f"{'':>10} {'':<8} ** {point}")

    def trace(self, time: float, who: str, what: str, outcome: object) -> None:
        """Write one line: when, who, the effect, what became of it."""
        if self.is_traced:
            self.lines.append(f"{time:10.1f} {who:<8} {what} -> {outcome}"[:240])
