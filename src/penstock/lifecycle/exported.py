"""Which objects in a provider job's output folder hold its rows."""

import re
from collections.abc import Iterable
from typing import Final

_FILE: Final = re.compile(r"predictions(\.jsonl(-\d+-of-\d+)?|_\d+\.jsonl)\Z")
"""The provider's output files; `incremental_predictions.jsonl` repeats rows and is ignored."""


def output_files(names: Iterable[str]) -> list[str]:
    """Return the names of those that do."""
    return [name for name in names if _FILE.match(name.rsplit("/", 1)[-1])]
