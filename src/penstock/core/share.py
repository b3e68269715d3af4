"""How much of what all share one organisation may hold at a time."""

from typing import Final

KEPT_FREE: Final = 5
"""One part in so many stays free for the others, unless a setting says another number."""


def share_of(whole: int, each: int) -> int:
    """Return how many of `whole` one organisation may hold: `each`, and four fifths if that is 0.

    One alone nearly has it all, and whoever comes next finds something free: what is held may be
    held for a day.
    """
    if each:
        return min(each, whole)
    return max(1, whole - max(1, whole // KEPT_FREE))
