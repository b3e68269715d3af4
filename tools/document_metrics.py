"""docs/reference/metrics.md: what `GET /metrics` tells, from the code that tells it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from penstock.api.metrics import families
from penstock.core.waiting import Past
from penstock.store.history import Figures
from penstock.telemetry.metrics import Family

SOURCE: Final = Path(__file__).parent.parent / "src" / "penstock"
LABELS: Final = {
    "model": "a model of the catalogue",
    "outcome": "what became of a line ([outcomes](../outcomes.md))",
    "quantile": "`0.5`, `0.9` or `0.95`",
    "state": "a state of a job ([waiting](../waiting.md))",
}
OF_CURVES: Final = {"penstock_wait_seconds": ("model", "quantile")}
"""Labels of families that have no sample until jobs have ended."""

HEAD: Final = """# Metrics

<!-- Written by tools/document_reference.py; do not edit. -->

`GET /metrics` in the text format of Prometheus, for keys with the scope `metrics:read`:
[Waiting](../waiting.md#metrics) tells how to scrape it. All are gauges over the whole server.

| name | labels | meaning |
|---|---|---|
"""


def build() -> str:
    """Return the page, or raise `SystemExit` with what it lacks."""
    nothing = Figures(
        open_jobs={},
        oldest_at={},
        slow_jobs=0,
        ended_jobs={},
        outcomes={},
        deliveries=0,
        models=(),
    )
    found = families(nothing, {"any": Past()}, 0.0)
    used: dict[str, None] = {}
    parts = [HEAD]
    for family in found:
        labels = _labels(family)
        used.update(dict.fromkeys(labels))
        shown = ", ".join(f"`{label}`" for label in labels)
        parts.append(f'| <a id="{family.name}"></a>`{family.name}` | {shown} | {family.about} |\n')
    lacking = sorted(set(used) - set(LABELS))
    if lacking:
        raise SystemExit(f"labels without a meaning in tools/document_metrics.py: {lacking}")
    parts.append("\n| label | is |\n|---|---|\n")
    parts += (f"| `{label}` | {LABELS[label]} |\n" for label in sorted(used))
    _check_all(found)
    return "".join(parts)


def _labels(family: Family) -> tuple[str, ...]:
    if family.name.endswith("_seconds") and not family.samples:
        return OF_CURVES["penstock_wait_seconds"]
    return tuple(family.samples[0].labels)


def _check_all(found: Iterable[Family]) -> None:
    """Raise `SystemExit` for a family that the source makes, and that is not rendered above."""
    names = {family.name for family in found}
    made = set()
    for path in SOURCE.rglob("*.py"):
        for name in re.findall(r'name=f?"(penstock_[^"]+)"', path.read_text("utf-8")):
            made.add(re.sub(r"\{.*?\}", "*", name))
    for name in sorted(made):
        pattern = re.escape(name).replace(r"\*", r"\w+")
        if not any(re.fullmatch(pattern, known) for known in names):
            raise SystemExit(f"the metric {name} is rendered somewhere, and not by api/metrics")
