"""What docs/waiting.md says is there: reasons, settings, metrics, and figures as measured."""

import json
import re
from pathlib import Path

from penstock.api.metrics import families
from penstock.api.waiting import Reason
from penstock.core.state import JobState
from penstock.core.waiting import COVERAGE, EXPECTED_SAMPLES_MIN, INTERVAL_SAMPLES_MIN, Past
from penstock.settings import Settings
from penstock.store.history import Figures

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "waiting.md").read_text("utf-8")
NOTHING = Figures(
    open_jobs={},
    oldest_at={},
    slow_jobs=0,
    ended_jobs={},
    outcomes={},
    deliveries=0,
    models=(),
)


def names(heading: str) -> list[str]:
    """What the first column of the table below a heading names."""
    section = PAGE.partition(heading)[2]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]


def test_every_reason_is_explained() -> None:
    """In the order of the code, and no other."""
    table = PAGE.partition("## Where the figures come from")[0]
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert rows == [str(reason) for reason in Reason]


def test_every_metric_is_on_the_page() -> None:
    """Each name that is rendered, and none that is not."""
    rendered = [family.name for family in families(NOTHING, {"m": Past()}, 0.0)]
    assert names("| name | labels | |") == rendered
    for name in re.findall(r"penstock_\w+", PAGE):
        assert name in rendered


def test_every_setting_on_the_page_exists() -> None:
    """`waiting.x`, `timing.x` and `limits.x` are settings, but for members of the record."""
    settings = Settings()
    for group, name in re.findall(r"`(waiting|timing|limits)\.(\w+)`", PAGE):
        if (group, name) != ("waiting", "reason"):
            assert hasattr(getattr(settings, group), name), name


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    """How many others it takes, and how many end within an interval."""
    assert f"({COVERAGE * 100:.0f} %)" in PAGE
    assert f"It takes {INTERVAL_SAMPLES_MIN} others" in PAGE
    assert f"fewer than {EXPECTED_SAMPLES_MIN} there is no" in PAGE
    states = set(re.findall(r'state="(\w+)"', PAGE))
    assert states
    assert states <= {str(state) for state in JobState}


def test_the_figures_are_those_that_were_measured() -> None:
    """Each row has the coverage that stands in the results of the benchmark."""
    results = json.loads((ROOT / "bench" / "results" / "waiting.json").read_text("utf-8"))
    told = [int(number) for number in re.findall(r"\| \*\*(\d+) %\*\* \|", PAGE)]
    measured = [shape["ours"]["coverage"] for shape in results.values() if isinstance(shape, dict)]
    assert told == [round(100 * coverage) for coverage in measured]
    assert all(
        shape["ours"]["predictions"] >= 20_000
        for shape in results.values()
        if isinstance(shape, dict)
    )
