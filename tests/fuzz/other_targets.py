"""Targets outside of the ingest: addresses, keys, links, filters, and what the provider sends."""

import math
import os
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import quote_from_bytes

import msgspec
import orjson
from starlette.requests import Request
from tests.corpus.g1_names import NAMES
from tests.fake_clock import START, FakeClock
from tests.fuzz.target import Broken, Target
from tests.lifecycle.fakes import answer_of, index_rows, input_of, request_of, row_of

from penstock.api.links import Links
from penstock.api.pages import PAGE_LIMIT_MAX, cursor_after, read_page
from penstock.blobs.source_uri import parse
from penstock.core.job import Job, JobId, OrgId, tag_of
from penstock.core.key import KEY_CHARS, _with_check, key_id_of
from penstock.core.limits import Limits
from penstock.core.line import LineKey, LineOutcome, judge, judge_answer
from penstock.core.models import Price
from penstock.core.state import JobState
from penstock.errors import Refused
from penstock.ingest.index import pack_rows
from penstock.lifecycle.inflow import Inflow
from penstock.lifecycle.kept import Kept
from penstock.lifecycle.merge import Merge, Missing
from penstock.lifecycle.rows import Lines, Reader
from penstock.lifecycle.sent import what_was_sent
from penstock.lifecycle.shards import Shards
from penstock.lifecycle.totals import Totals
from penstock.store.jobs import Page

LIMITS: Final = Limits()
JOB: Final = JobId("req_aaaaaaaaaaaaaaaaaaaaaaaaaa")
PRICE: Final = Price(input=250_000, cached=50_000, output=1_500_000, audio_input=500_000)
A_KEY: Final = _with_check(f"pk_0123abcd_{'0123456789' * 4}abc")
ROW_WORDS: Final = (
    *(b'{"', b'":', b"null", b"[]", b"{}", b"-1", b"1e999", b"4294967297", b"\xff", b"\\ud800"),
    *(b'"status":"x",', b'"key":"', b'"request":', b'"response":', b'"candidates":[', b"true"),
    *(b'"promptTokenCount":-1,', b'"promptFeedback":{},', b'"finishReason":"SAFETY"', b"\n\n"),
)


def _a_job(created_at: float = START) -> Job:
    """A job of the list."""
    return Job(
        id=JOB,
        org_id=OrgId("acme"),
        user_id="acme-user",
        key_id="testkey1",
        state=JobState.SUCCEEDED,
        model="gemini-3-flash-preview",
        payload={},
        line_count=1,
        input_bytes=1,
        input_sha256="0" * 64,
        created_at=created_at,
        updated_at=START,
        output_sha256="1" * 64,
    )


def _cursor(created_at: float) -> str:
    """The cursor behind a job of this time."""
    return cursor_after(_a_job(created_at), Page())


class UriTarget:
    """`input_uri`: what is accepted has one spelling."""

    name = "uri"
    seeds: Sequence[bytes] = [name.text.encode("utf-8", "surrogatepass") for name in NAMES]
    words: Sequence[bytes] = (
        *(b"gs://", b"https://", b"http://", b"/", b"//", b"..", b"/../", b"%2e", b"%00", b"%zz"),
        *(b"@", b":", b":443", b"?", b"#", b"\\", b"[::1]", b"127.0.0.1", b"0x7f", b"\xc3\xbc"),
        *(b";", b"xn--", b"%25", b"."),
    )

    def run(self, data: bytes, chance: random.Random) -> str:
        """Parse it, and what it is shown as again."""
        del chance
        text = data.decode("utf-8", "surrogateescape")
        try:
            uri = parse(text)
        except Refused as refusal:
            return refusal.error_code
        if parse(uri.shown + (f"?{uri.query}" if uri.query else "")) != uri:
            raise Broken("is another address when it is shown")
        return uri.scheme

    def close(self) -> None:
        """Nothing is open."""


class KeyTarget:
    """An API key as it stands in a header."""

    name = "key"
    seeds: Sequence[bytes] = [A_KEY.encode(), b"", b"pk", b"pk___", b"Bearer", A_KEY[:-6].encode()]
    words: Sequence[bytes] = (b"_", b"pk_", b"PK_", b"\xc2\xb2", b"\xd9\xa1", b"a", b"Z", b"0")

    def run(self, data: bytes, chance: random.Random) -> str:
        """Only whole keys have an id."""
        del chance
        key_id = key_id_of(data.decode("utf-8", "replace"))
        if key_id is None:
            return "none"
        if len(data) != KEY_CHARS or data.split(b"_")[1] != key_id.encode():
            raise Broken("is a key of another form")
        return "ok"

    def close(self) -> None:
        """Nothing is open."""


class LinkTarget:
    """The query of a download link: one is right, and nothing else."""

    name = "link"
    words: Sequence[bytes] = (
        *(b"&", b"=", b"expires=", b"signature=", b"%30", b"+", b";", b"#", b"0", b"a", b"A"),
        b"\xd9\xa1",
    )

    def __init__(self) -> None:
        self._clock = FakeClock()
        self._links = Links(b"k" * 32, self._clock, 3_600)
        self._job = _a_job()
        self._good = self._links.query(self._job).encode()
        other = Links(b"x" * 32, self._clock, 3_600).query(self._job).encode()
        self.seeds = [self._good, other, self._good[:-1], b"", self._good + b"&a=1"]

    def run(self, data: bytes, chance: random.Random) -> str:
        """No other byte opens the file."""
        job = self._job if chance.randrange(8) else None
        try:
            self._links.check(job, data)
        except Refused as refusal:
            return refusal.error_code
        if data != self._good:
            raise Broken("opens a file, and is not the link")
        return "ok"

    def close(self) -> None:
        """Nothing is open."""


class PageTarget:
    """The query of a list: its filters and its cursor."""

    name = "page"
    seeds: Sequence[bytes] = (
        b"",
        b"limit=5&offset=3",
        b"status=success&model_id=Gemini-batch-inference",
        b"status=queued&limit=200&cursor=" + _cursor(START).encode(),
        b"cursor=" + _cursor(0.1).encode(),
        b"cursor=" + _cursor(5e-324).encode(),
        b"name=nov&label=team:ads&label=day:1&prefix=req_a&name_prefix=n",
        b"model=other",
        b"limit=00001&offset=999999999999",
    )
    words: Sequence[bytes] = (
        *(b"&", b"=", b"limit=", b"offset=", b"cursor=", b"status=", b"model=", b"%", b"%00"),
        *(b"name=", b"label=", b":", b"prefix=", b"name_prefix="),
        *(b"-1", b"1e3", b"1_0", b"%D9%A1", b"inf", b"0x1p99999", b"%ff", b"AAAA", b"+", b"9" * 20),
    )

    def run(self, data: bytes, chance: random.Random) -> str:
        """Whatever is asked for, a page is small and its start is a number."""
        query = data if chance.randrange(2) else quote_from_bytes(data, safe="&=%+").encode()
        scope = {"type": "http", "query_string": query, "headers": []}
        try:
            page = read_page(Request(scope).query_params, LIMITS)
        except Refused as refusal:
            return refusal.error_code
        if page is None:
            return "nothing"
        if not (1 <= page.limit <= PAGE_LIMIT_MAX and page.offset >= 0):
            raise Broken(f"is a page of {page.limit} from {page.offset}")
        if page.before is not None and not math.isfinite(page.before[0]):
            raise Broken("begins at no time")
        return "ok"

    def close(self) -> None:
        """Nothing is open."""


class AnswerTarget:
    """A provider's response: the quick and the careful judge must agree."""

    name = "answer"
    words = ROW_WORDS

    def __init__(self) -> None:
        more = {"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 1}]}
        audio = answer_of("x")
        audio["usageMetadata"] = {"promptTokenCount": 5, **more}
        answers = [
            answer_of("x"),
            audio,
            {"candidates": [{"finishReason": "MAX_TOKENS"}]},
            {"candidates": [{"finishReason": "SAFETY"}]},
            {"promptFeedback": {"blockReason": "OTHER"}},
            {},
        ]
        self.seeds = [orjson.dumps(answer) for answer in answers]

    def run(self, data: bytes, chance: random.Random) -> str:
        """Judge it in both ways."""
        del chance
        quick = judge_answer(data)
        try:
            slow = judge("", msgspec.json.decode(data))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            slow = None
        if quick is not None and quick != slow:
            raise Broken(f"is {quick} quickly and {slow} with care")
        return "undecodable" if slow is None else slow.outcome

    def close(self) -> None:
        """Nothing is open."""


class RowsTarget:
    """Shards of the provider through reading, putting in order and writing the output."""

    name = "rows"
    words = ROW_WORDS
    LINES = 6

    def __init__(self) -> None:
        texts = [f"text {number}" for number in range(self.LINES)]
        raw = input_of(texts)
        self._open = ExitStack()
        folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
        data, index, self._arriving, self._kept = (
            self._open.enter_context((folder / name).open("w+b", buffering=0))
            for name in ("input", "index", "rows", "kept")
        )
        data.write(raw)
        index.write(pack_rows(index_rows(raw)))
        self._lines = Lines(data.fileno(), index.fileno())
        self._keys = LineKey(tag_of(JOB))
        rows = [row_of(JOB, number, text) for number, text in enumerate(texts, start=1)]
        failed = row_of(JOB, 2, "", status="Error: 429", response={})
        foreign = row_of(JobId("req_bbbbbbbbbbbbbbbbbbbbbbbbbb"), 1, texts[0])
        other = row_of(JOB, 3, "another text")
        self.seeds = [
            b"\n".join(rows),
            b"\n".join(reversed(rows)) + b"\n",
            b"\n".join((*rows, rows[0], rows[1])),
            b"\n".join((rows[0], failed, other, foreign)),
            rows[0],
            orjson.dumps(request_of("x")),
            b"",
        ]

    def run(self, data: bytes, chance: random.Random) -> str:
        """Whatever comes, in any chunks: as many lines as the input has, each of them sound."""
        output = self._merged([data])
        cuts = sorted(chance.randint(0, len(data)) for _ in range(chance.randint(1, 8)))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        if self._merged(pieces) != output:
            raise Broken(f"gives another output when it is cut at {cuts}")
        lines = output.split(b"\n")
        if len(lines) != self.LINES + 1 or lines[-1]:
            raise Broken(f"makes {len(lines) - 1} lines of {self.LINES}")
        for number, line in enumerate(lines[:-1]):
            made = orjson.loads(line)
            if made["request"] != request_of(f"text {number}"):
                raise Broken(f"changes the request of line {number + 1}")
        good = output.count(b'{"status":"",')
        return f"{good} good"

    def close(self) -> None:
        """Close the files."""
        self._open.close()

    def _merged(self, pieces: Sequence[bytes]) -> bytes:
        for file in (self._arriving, self._kept):
            file.seek(0)
            file.truncate()
        descriptor = self._arriving.fileno()
        keeping = Kept(self._kept.fileno())
        totals = Totals(PRICE)
        reader = Reader(self._keys, self._lines, totals)
        shards = Shards(self._kept.fileno(), what_was_sent(self._lines), totals, reader.endings)
        inflow = Inflow(descriptor)
        segments = [segment for piece in pieces for segment in inflow.feed(piece)]
        for segment in (*segments, *inflow.end_shard()):
            rows = os.pread(descriptor, segment.size, segment.offset)
            records, kept = reader.read(rows, keeping.room(len(rows)))
            keeping.put(kept)
            shards.put(records)
        blocks: list[bytes] = []
        merge = Merge(shards, totals, Missing(code="missing_row", message="None."), START)
        merged = merge.write(blocks.append)
        counts = merged.counts
        if sum(getattr(counts, outcome) for outcome in LineOutcome) != self._lines.count:
            raise Broken("counts another number of lines")
        return b"".join(blocks)


TARGETS: Final[Mapping[str, Callable[[], Target]]] = MappingProxyType(
    {
        "uri": UriTarget,
        "key": KeyTarget,
        "link": LinkTarget,
        "page": PageTarget,
        "answer": AnswerTarget,
        "rows": RowsTarget,
    }
)
