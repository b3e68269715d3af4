"""Targets in the ingest: the judge of a line, and every door, which must not notice chunks."""

import base64
import gzip
import json
import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from starlette.datastructures import Headers, QueryParams
from tests.corpus import (
    b1_base64,
    c1_compression,
    j1_grammar,
    j2_semantics,
    j3_framing,
    j4_contract,
    m1_multipart,
)
from tests.corpus.case import Case, verdict_of
from tests.corpus.doors import FORM, JSONL
from tests.fuzz.target import Broken, Target
from tests.ingest.naive import FILES, through

from penstock.api.doors import read_head
from penstock.core.limits import Limits
from penstock.ingest.check import LineCheck
from penstock.ingest.intake import BodyIntake
from penstock.ingest.sink import Sink

LIMITS: Final = Limits(
    job_bytes_max=20_000,
    job_lines_max=50,
    line_bytes_max=8_000,
    line_values_max=2_000,
    problems_reported_max=5,
    envelope_bytes_max=4_000,
)
"""Small, so that inputs of a few thousand bytes meet each of them."""

JSON_WORDS: Final = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\\ud83d", b"\\ude00", b"\\u0022"),
    *(b"null", b"true", b"NaN", b"-", b"1e999", b"18446744073709551616", b"1e-999", b"9" * 30),
    *(b'"request":', b'"contents":[', b'"parts":', b'"role":"x",', b'"status":1,', b'"config":1,'),
    *(b'"fileData":{"fileUri":"gs://b-c/d"},', b'"file_data":{"file_uri":"file:///d"},'),
    *(b"gs://own-bucket/penstock/", b"https://", b"fileUri", b"f\\u0069leData"),
    *(b'{"a":', b"[[[[[[[[", b"]]]]]]]]", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80"),
)
FORM_WORDS: Final = (
    *(b"\r\n--cut", b"--cut\r\n", b"--cut--", b"--", b": ", b";", b'"', b"name=", b"filename="),
    *(b"Content-Disposition: form-data; ", b'name="file"', b'name="input_data"', b"\r\n\r\n"),
    *(b"Content-Transfer-Encoding: ", b"*=utf-8''", b'name="model"'),
)
SEED_BYTES_MAX: Final = 4_096


def seeds_of(cases: Sequence[Case]) -> list[bytes]:
    """The short ones of some cases."""
    return [
        case.data for case in cases if not case.is_streamed and len(case.data) <= SEED_BYTES_MAX
    ]


class LineTarget:
    """The judge of one line: its quick and its careful ways must agree."""

    name = "line"
    words = JSON_WORDS

    def __init__(self) -> None:
        cases = [*j1_grammar.CASES, *j2_semantics.CASES, *j4_contract.CASES]
        lines = {line for seed in seeds_of(cases) for line in seed.split(b"\n")}
        self.seeds = sorted(lines)
        self._check = LineCheck(LIMITS, FILES)
        self._good = next(line for line in self.seeds if self._check.is_plainly_good(line))

    def run(self, data: bytes, chance: random.Random) -> str:
        """Judge the line in every way there is."""
        line = data.replace(b"\n", b" ")
        if not line.strip(b" \t\r"):
            return "blank"
        problem = self._check.problem(line, 1, chance.randrange(1_000))
        if problem and (self._check.is_plainly_good(line) or self._is_alike(line, chance)):
            raise Broken(f"passes, and is refused as {problem.code}")
        if self._check.is_bad(line) != (problem is not None):
            raise Broken("is counted otherwise than it is listed")
        if problem:
            return problem.code
        # What a good line holds bounds those after it, and here each line is a file of its own.
        self._check = LineCheck(LIMITS, FILES)
        self._good = line
        return "ok"

    def _is_alike(self, line: bytes, chance: random.Random) -> bool:
        """Tell whether the line is taken because it looks like one of two others."""
        check = LineCheck(LIMITS, FILES)
        for good in (self._good, chance.choice(self.seeds)):
            check.learn(good)
        block = line + b"\n"
        return check.lengths(block) is not None and check.reach(block, 0) > 0

    def close(self) -> None:
        """Nothing is open."""


class DoorTarget:
    """One door: a body in any chunks must get the same answer."""

    def __init__(
        self,
        name: str,
        head: dict[str, str],
        seeds: Sequence[bytes],
        words: Sequence[bytes],
        make: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.name = name
        self.seeds = seeds
        self.words = words
        self._make = make
        self._headers = Headers(head)

    def run(self, data: bytes, chance: random.Random) -> str:
        """Feed it whole and in pieces."""
        body = data if self._make is None else self._make(data)
        sizes = [chance.randint(1, 1 + len(body) // 4) for _ in range(chance.randint(1, 12))]
        whole = through(self._open, body)
        if through(self._open, body, sizes) != whole:
            raise Broken(f"is another result in pieces of {sizes}")
        return verdict_of(whole).partition(",")[0].partition("@")[0].partition(":")[0]

    def close(self) -> None:
        """Nothing is open."""

    def _open(self, sink: Sink) -> BodyIntake:
        return read_head(self._headers, QueryParams("")).open(LIMITS, sink, FILES)


def _in_json(data: bytes) -> bytes:
    return json.dumps({"payload": {"input_data": data.decode("utf-8", "replace")}}).encode()


def _bodies(texts: Sequence[bytes]) -> list[bytes]:
    """JSON around some inputs, in both forms and with members of their own."""
    bodies = []
    for text in texts:
        data = text.decode("utf-8", "replace")
        bodies.append(json.dumps({"model": "m", "payload": {"input_data": data}}).encode())
        flat = {"note": [1.5, {"a": None}], "input_data": data, "input_uri": 1}
        bodies.append(json.dumps(flat, ensure_ascii=False).encode())
    return bodies


def _files() -> list[bytes]:
    return seeds_of([*j3_framing.CASES, *j4_contract.CASES[-9:], *j1_grammar.CASES[::20]])


def _texts() -> list[bytes]:
    return [*seeds_of(b1_base64.CASES), *_files()[::4]]


def _splitter() -> DoorTarget:
    return DoorTarget("splitter", JSONL, _files(), JSON_WORDS)


def _json() -> DoorTarget:
    words = (*JSON_WORDS, b'"input_data":', b'"payload":{')
    return DoorTarget("json", {}, _bodies(_texts()), words)


def _base64() -> DoorTarget:
    seeds = [*_texts(), *map(base64.b64encode, _files())]
    return DoorTarget("base64", {}, seeds, (b"=", b"==", b"-", b"_", b"QUFB"), _in_json)


def _multipart() -> DoorTarget:
    return DoorTarget("multipart", FORM, seeds_of(m1_multipart.CASES), FORM_WORDS)


def _gzip() -> DoorTarget:
    head = {**JSONL, "content-encoding": "gzip"}
    packed = [case for case in c1_compression.CASES if case.head["content-encoding"] == "gzip"]
    words = (gzip.compress(b"{}", mtime=0), b"\x1f\x8b\x08", b"\x00\x00\xff\xff")
    return DoorTarget("gzip", head, seeds_of(packed), words)


TARGETS: Final[Mapping[str, Callable[[], Target]]] = MappingProxyType(
    {
        "line": LineTarget,
        "splitter": _splitter,
        "json": _json,
        "base64": _base64,
        "multipart": _multipart,
        "gzip": _gzip,
    }
)
