"""The text format of Prometheus, as far as gauges need it.

Only gauges: all figures are counted in the database when somebody asks, so any process gives the
same ones, and none is lost with a process. The format is version 0.0.4 of the text exposition.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One value, with the labels that tell it from others of its name."""

    value: float
    labels: Mapping[str, str] = {}


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """All values of one name, and what they mean."""

    name: str
    about: str
    samples: tuple[Sample, ...]


def render(families: Iterable[Family]) -> str:
    """Return the families as text; labels are escaped, so that no value can forge a line."""
    lines = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escaped(family.about)}")
        lines.append(f"# TYPE {family.name} gauge")
        lines += [
            f"{family.name}{_labels(sample.labels)} {_number(sample.value)}"
            for sample in family.samples
        ]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
