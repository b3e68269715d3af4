"""What judging an answer costs, by how its line asks for it, and what pictures cost.

Prints one JSON object: microseconds a line, of one core, best of the rounds. `judged` is what every
line pays; `asks` the look whether a line asks for JSON at all; the others are for lines that do.
`pictures` takes a picture out of a line, and replaces it by a link.
"""

import argparse
import base64
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from penstock.api.answer_parts import PictureLinks, part_of
from penstock.core.answer_schema import Schemas, may_ask
from penstock.core.line import judge_answer
from processes import machine

ROUNDS: Final = 5
PICTURE: Final = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4_096
PROMPT: Final = "Rate this review: " + "it is what it is " * 60
FIELDS: Final = 12
SCHEMA: Final = {
    "type": "OBJECT",
    "properties": {
        "stars": {"type": "INTEGER", "minimum": 1, "maximum": 5},
        "mood": {"type": "STRING", "enum": ["good", "bad"]},
        "words": {"type": "ARRAY", "items": {"type": "STRING"}, "maxItems": "5"},
    },
    "required": ["stars", "mood"],
}
LARGE: Final = {
    "type": "object",
    "properties": {f"field_{number}": {"type": "string"} for number in range(FIELDS * 10)},
    "required": [f"field_{number}" for number in range(FIELDS * 10)],
}


def request(**config: Any) -> bytes:  # noqa: ANN401  # JSON goes as it is
    """Return a request of about a kilobyte."""
    contents = [{"role": "user", "parts": [{"text": PROMPT}]}]
    return json.dumps({"contents": contents, "generationConfig": config}).encode()


def response(text: str) -> bytes:
    """Return a response that says this."""
    usage = {"promptTokenCount": 250, "candidatesTokenCount": 40, "totalTokenCount": 290}
    parts = [{"text": text}]
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}
    return json.dumps({"candidates": [candidate], "usageMetadata": usage}).encode()


def microseconds(calls: Sequence[Callable[[], object]]) -> float:
    """Return what one of the calls takes, in the best round."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for call in calls:
            call()
        best = min(best, time.perf_counter() - began)
    return round(best / len(calls) * 1e6, 2)


def judged(lines: int) -> dict[str, float]:
    """Return microseconds a line of each kind."""
    good = response(json.dumps({"stars": 4, "mood": "good", "words": ["a", "b"]}))
    bad = response(json.dumps({"stars": 9, "mood": "good"}))
    large = response(json.dumps(dict.fromkeys(LARGE["properties"], "some words")))
    plain = request(temperature=0.5)
    asked = request(responseMimeType="application/json", responseSchema=SCHEMA)
    schemas = Schemas()
    kinds: dict[str, tuple[bytes, bytes]] = {
        "fits": (asked, good),
        "misfit": (asked, bad),
        "not_json": (asked, response("Here is your JSON: {}")),
        "large_schema": (request(responseJsonSchema=LARGE), large),
    }
    found = {
        "judged": microseconds([lambda: judge_answer(good)] * lines),
        "asks": microseconds([lambda: may_ask(plain)] * lines),
    }
    for name, (one, answer) in kinds.items():
        call = lambda one=one, answer=answer: schemas.problem(one, answer)  # noqa: E731
        found[name] = microseconds([call] * lines)
    return found | {"own_schema_each": _own(lines // ROUNDS, good)}


def _own(lines: int, good: bytes) -> float:
    """Return microseconds a line where each has a schema of its own, which is compiled."""
    requests = [request(responseSchema={**SCHEMA, "title": str(number)}) for number in range(lines)]
    schemas = Schemas()
    began = time.perf_counter()
    for one in requests:
        schemas.problem(one, good)
    return round((time.perf_counter() - began) / lines * 1e6, 2)


def pictures() -> dict[str, float]:
    """Return what a line with a picture of a megabyte costs."""
    data = base64.b64encode(PICTURE).decode()
    parts = [{"text": "here"}, {"inlineData": {"mimeType": "image/png", "data": data}}]
    answer = {"candidates": [{"content": {"parts": parts}}]}
    line = json.dumps({"status": "", "request": {}, "response": answer}).encode() + b"\n"
    links = PictureLinks(lambda number, part: f"https://example.com/{number}/{part}", len(line))
    took = microseconds([lambda: links.feed(line)] * 20)
    return {
        "line_bytes": len(line),
        "part_ms": round(microseconds([lambda: part_of(line, 1)] * 20) / 1e3, 2),
        "linked_ms": round(took / 1e3, 2),
        "linked_megabytes_per_second": round(len(line) / took, 0),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=20_000)
    lines = parser.parse_args().lines
    found = {"machine": machine(), "lines": lines, "microseconds": judged(lines)}
    sys.stdout.write(json.dumps({**found, "pictures": pictures()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
