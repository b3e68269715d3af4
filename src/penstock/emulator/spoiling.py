"""Spoils the output of a job as rules order it, and keeps a record of every row for the witness.

The answers are made, and paid for, before anything here happens: what is spoiled is what a client
reads. `record` tells of each row what it cost and what was done to it.
"""

import random
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import orjson

from penstock.emulator.faults import OutputFault, OutputOrder, Then

FOREIGN_TEXT: Final = "This row belongs to another job."
SHARDS: Final = 3
"""So many, where a fault needs more than one."""
_OPTIONS: Final = orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
_BAD_COUNTS: Final[tuple[dict[str, object], ...]] = (
    {"promptTokenCount": -5},
    {"candidatesTokenCount": 12.5},
    {"thoughtsTokenCount": "many"},
    {"promptTokenCount": 2**63},
)
_BY_ROW: Final = frozenset(
    {
        "missing-rows",
        "duplicate-rows",
        "conflicting-rows",
        "foreign-rows",
        "invalid-json",
        "invalid-utf8",
        "huge-row",
        "bad-usage",
        "no-usage",
    }
)
_HEX: Final = "0123456789abcdef"
_OTHER_HEX: Final = str.maketrans(_HEX, _HEX[5:] + _HEX[:5])


class _Chosen(NamedTuple):
    then: Then
    rows: frozenset[int]


class Spoiler:
    """What one job's output suffers."""

    def __init__(self, orders: Iterable[OutputOrder], rows: int) -> None:
        self.record: list[dict[str, Any]] = []
        """Of each row, in output order: key, status, usage and faults."""
        self._whole: dict[OutputFault, OutputOrder] = {}
        self._by_row: dict[OutputFault, _Chosen] = {}
        for order in orders:
            kind = order.then.output
            if kind in _BY_ROW:
                self._by_row[kind] = _Chosen(order.then, _choose(order, rows))
            elif kind is not None:
                self._whole[kind] = order

    def order(self, kind: OutputFault) -> OutputOrder | None:
        """The order of a fault of whole files."""
        return self._whole.get(kind)

    @property
    def shards_min(self) -> int:
        """How many files the output has at least."""
        several = {"empty-shard", "missing-shard", "unordered"}
        return 1 if several.isdisjoint(self._whole) else SHARDS

    def row(self, number: int, made: dict[str, Any]) -> list[bytes]:
        """What stands in the output for a row; `made` itself stays as it is."""
        faults = [kind for kind, chosen in self._by_row.items() if number in chosen.rows]
        response = made["response"]
        self.record.append(
            {
                "key": made.get("key"),
                "status": made["status"],
                "usage": dict(response.get("usageMetadata", {})),
                "faults": faults,
            }
        )
        spoiled = {**made, "response": self._response(number, response, faults)}
        whole = orjson.dumps(spoiled, option=_OPTIONS)
        if "invalid-json" in faults:
            whole = whole[: len(whole) // 2] + b"\n"
        elif "invalid-utf8" in faults:
            whole = whole.replace(b'"status":"', b'"status":"\xff\xfe', 1)
        return self._pieces(whole, spoiled, faults)

    def _response(
        self, number: int, response: dict[str, Any], faults: list[OutputFault]
    ) -> dict[str, Any]:
        made = dict(response)
        if "bad-usage" in faults and "usageMetadata" in made:
            made["usageMetadata"] = {
                **made["usageMetadata"],
                **_BAD_COUNTS[number % len(_BAD_COUNTS)],
            }
        if "no-usage" in faults:
            made.pop("usageMetadata", None)
        if "huge-row" in faults:
            made["candidates"] = _candidates("x" * self._by_row["huge-row"].then.row_bytes)
        return made

    def _pieces(self, whole: bytes, made: dict[str, Any], faults: list[OutputFault]) -> list[bytes]:
        pieces = [whole]
        if "duplicate-rows" in faults:
            pieces.append(whole)
        if "conflicting-rows" in faults:
            other = {**made["response"], "candidates": _candidates("Another answer.")}
            pieces.append(orjson.dumps({**made, "response": other}, option=_OPTIONS))
        is_replaced = False
        if "foreign-rows" in faults:
            is_replaced = self._by_row["foreign-rows"].then.replace
            key = foreign_key(str(made.get("key", "")))
            other = {**made["response"], "candidates": _candidates(FOREIGN_TEXT)}
            foreign = {**made, "key": key, "status": "", "response": other}
            pieces.insert(0, orjson.dumps(foreign, option=_OPTIONS))
        if "missing-rows" in faults or is_replaced:
            # What is of this line goes; a row of another job stays.
            return pieces[:1] if "foreign-rows" in faults else []
        return pieces

    def lose(self, first: int, last: int, kind: OutputFault) -> None:
        """Note that the rows from `first` to before `last` were not written as they are."""
        for row in self.record[first:last]:
            row["faults"].append(kind)


def foreign_key(key: str) -> str:
    """A key that looks as if it were of another job: the same line, another job's mark."""
    head, dash, line = key.rpartition("-")
    other = head[:1] + head[1:].translate(_OTHER_HEX)
    return f"{other}{dash}{line}" if dash and other != head else f"foreign-{key}"


def _candidates(text: str) -> list[dict[str, Any]]:
    content = {"role": "model", "parts": [{"text": text}]}
    return [{"content": content, "finishReason": "STOP"}]


def _choose(order: OutputOrder, rows: int) -> frozenset[int]:
    """Some rows, at least one, by the seed; the same for the same seed and number of rows."""
    share = order.then.share
    wanted = 1 if order.then.output == "huge-row" else min(rows, max(1, round(rows * share)))
    draw = random.Random(f"{order.seed}|{order.then.output}|{rows}")
    return frozenset(draw.sample(range(rows), wanted))
