"""Money in integers.

A price is micro-dollars per million tokens; one token then costs that many pico-dollars, so a sum
over lines is exact and only the total is rounded, once, to whole micro-dollars.
"""

from typing import Final

PICO_PER_MICRO: Final = 1_000_000


def micro_from_pico(pico_dollars: int) -> int:
    """Round pico-dollars to the nearest micro-dollar, half up."""
    return (pico_dollars + PICO_PER_MICRO // 2) // PICO_PER_MICRO


def usd_text(micro_dollars: int) -> str:
    """Return dollars with six decimals, as `actual_cost_usd` carries them: `0.013280`."""
    sign = "-" if micro_dollars < 0 else ""
    whole, fraction = divmod(abs(micro_dollars), 1_000_000)
    return f"{sign}{whole}.{fraction:06d}"
