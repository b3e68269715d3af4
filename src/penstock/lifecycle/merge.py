"""Write the output and its row index: line k answers line k, always as many as the input has.

The caller's own members and its request go back byte for byte as they were sent. The answer is
taken from the row that carries our key, and only if the row parses, its token counts are counts and
the request that it echoes is not certainly another one; otherwise the line says what is wrong.

Most lines were found good when their row was read; those are put together from three places without
parsing anything again. The others are looked at with care. In a later round a line that was not
sent again, or came back without a row, is copied from the output before.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Final, cast

import msgspec
import orjson

from penstock.core.answer_schema import Schemas, may_ask
from penstock.core.bill import Bill, Spent
from penstock.core.job import Counts, Job
from penstock.core.line import (
    UNFINISHED_OUTCOMES,
    Judgement,
    LineOutcome,
    echo_differs,
    judge,
    status_text,
)
from penstock.core.line_index import TWIN, IndexWriter
from penstock.errors import Problem
from penstock.fault import fault
from penstock.lifecycle.behind import Behind
from penstock.lifecycle.forms import UNDECODABLE
from penstock.lifecycle.rows import (
    ANSWERED,
    CONFLICTING,
    ENCODER,
    FLAG,
    KEPT,
    MEMBERS,
    NO_ROW,
    OURS,
    PUT_ASIDE,
    RECORD,
    ROW,
    TWIN_LINE,
    UNREADABLE,
    Columns,
    Record,
    Row,
    fitted,
    inside_of,
    processed_time,
)
from penstock.lifecycle.sent import Base
from penstock.lifecycle.shards import Shards
from penstock.lifecycle.stripes import (
    AROUND_BYTES,
    BEGIN_GOOD,
    END,
    RESPONSE,
    STRIPE_LINES,
    Stripes,
)
from penstock.lifecycle.totals import Totals, bill_of_rounds, counts_of

WRITE_BYTES: Final = 1024 * 1024
BLOCK_BYTES_AHEAD: Final = 4 * WRITE_BYTES
"""A larger block is written before the next is made; only huge lines make such blocks."""
_EMPTY_OBJECT: Final = msgspec.Raw(b"{}")
_NULL: Final = msgspec.Raw(b"null")

_WITHOUT_ANSWER: Final = frozenset({NO_ROW, KEPT, PUT_ASIDE})

Pieces = list[bytes | memoryview]


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """Why lines without a row have none: the job's end explains it."""

    code: str
    message: str
    outcome: LineOutcome = LineOutcome.MISSING


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """What was written."""

    counts: Counts
    """The lines of the output, and the tokens of what was answered for it."""
    output_bytes: int
    output_sha256: str
    spent: Spent
    bill: Bill

    @property
    def cost_micro_dollars(self) -> int | None:
        """What all of it did cost."""
        return self.bill.micro_dollars


class _Answer(msgspec.Struct, frozen=True):
    """What a line gets that was looked at with care."""

    judgement: Judgement
    response: msgspec.Raw = _EMPTY_OBJECT
    time: object = None
    message: str = ""
    """For people who ask what such lines have in common."""


class Merge:
    """One pass over the input that writes the output and adds up its lines."""

    def __init__(
        self, shards: Shards, totals: Totals, missing: Missing, now: float, round_: int = 1
    ) -> None:
        self._shards = shards
        self._sent = shards.sent
        self._totals = totals
        self._missing = missing
        self._now = ENCODER.encode(
            datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
        )
        self._round = round_
        self._schemas = Schemas()
        self._codes: dict[int, int] = {}
        """The kinds in the row index of the classes in the records."""
        self._kept_codes: dict[int, int] = {}
        """The kinds of those in the row index of the round before."""
        self._pieces: Pieces = []
        self.index = IndexWriter(round_)
        """The row index of what was written."""

    def write(self, write: Callable[[bytes], object]) -> Merged:
        """Read the input, write the output in blocks, return the sums. Blocks the thread.

        `write` is called in another thread, one call at a time, and never after the return.
        """
        digest = hashlib.sha256()
        size = 0
        with ExitStack() as stack:
            writing = stack.enter_context(Behind("penstock-merge-write"))
            hashing = stack.enter_context(Behind("penstock-merge-hash"))
            first = self._sent.lines.numbers.start
            for block in self._blocks(first, self._shards.records()):
                writing.do(write, block)
                _wrote_some()
                hashing.do(digest.update, block)
                size += len(block)
                if len(block) > BLOCK_BYTES_AHEAD:
                    writing.wait()
                    hashing.wait()
            writing.wait()
            hashing.wait()
        return self._merged(size, digest.hexdigest())

    def write_stripes(self, stripes: Stripes) -> Merged:
        """Do the same with other processes, which write the lines that nobody has to look at."""
        for first, records in self._shards.stripes(STRIPE_LINES):
            count = len(records) // RECORD.size
            if records[FLAG :: RECORD.size].count(ANSWERED) == count:
                stripes.put(first, records, self._note(first, records), self._now)
            else:
                for block in self._blocks(first, RECORD.iter_unpack(records), count):
                    stripes.append(block)
            _wrote_some()
        digest = stripes.finish()
        return self._merged(stripes.size, digest)

    def _merged(self, size: int, digest: str) -> Merged:
        return Merged(
            counts=counts_of(lines_of(self.index), self._totals.tokens()),
            spent=self._totals.spent(),
            bill=self._totals.bill(),
            output_bytes=size,
            output_sha256=digest,
        )

    def _note(self, first: int, records: bytes) -> int:
        """Note good answers in the row index; return the size of their lines."""
        columns = Columns(records)
        endings = columns.endings
        for ending in dict.fromkeys(endings):
            if ending not in self._codes:
                at = endings.index(ending)
                record = cast(Record, RECORD.unpack_from(records, at * RECORD.size))
                self._new_code(first + at, record)
        around = AROUND_BYTES + len(self._now)
        # A line without a time of its own gets that of the merge.
        lengths = [
            line + response + (stamp + AROUND_BYTES if stamp else around)
            for line, response, stamp in zip(
                self._sent.lines.lengths(first, len(endings)),
                columns.response_bytes,
                columns.time_bytes,
                strict=True,
            )
        ]
        self.index.codes.extend(map(self._codes.__getitem__, endings))
        self.index.lengths.extend(lengths)
        self.index.tokens.extend(columns.tokens)
        return sum(lengths)

    def _blocks(
        self, first: int, records: Iterator[Record], count: int | None = None
    ) -> Iterator[bytes]:
        """Yield the output of some lines that follow each other, or of all of them."""
        pieces, index = self._pieces, self.index
        add_code, add_length = index.codes.append, index.lengths.append
        add_tokens, code_of = index.tokens.append, self._codes.get
        size = 0
        kept, now = self._shards.kept, self._now
        lines = self._sent.lines
        wanted = lines.some(first, lines.count if count is None else count)
        for number, (record, line) in enumerate(zip(records, wanted, strict=True), start=first):
            _, flag, time_bytes, ending, _, length, tokens, time = record
            if flag == ANSWERED:
                stamp = time[:time_bytes] or now
                pieces += (
                    BEGIN_GOOD,
                    stamp,
                    b",",
                    line[1:-1],
                    RESPONSE,
                    kept(record),
                    END,
                )
                code = code_of(ending)
                add_code(self._new_code(number, record) if code is None else code)
                written = len(line) + length + len(stamp) + AROUND_BYTES
                add_length(written)
                add_tokens(tokens)
                size += written
            else:
                size += self._other(number, flag, line)
            if size >= WRITE_BYTES:
                yield b"".join(pieces)
                pieces.clear()
                size = 0
        if pieces:
            yield b"".join(pieces)
            pieces.clear()

    def _new_code(self, number: int, record: Record) -> int:
        """Return the kind of a class of good answers, of which this line is the first."""
        ending = self._shards.endings[record[3]]
        message = ""
        if ending.outcome is LineOutcome.INVALID_OUTPUT:
            # Why was not kept, as only the first line of its kind is asked.
            line = self._sent.lines.line(number)
            plain = msgspec.structs.replace(self._shards.judgement(record), outcome=LineOutcome.OK)
            _, message = fitted(self._schemas, plain, line, self._shards.kept(record))
        code = self.index.kind(ending.outcome, ending.code, message, retryable=ending.is_retryable)
        self._codes[record[3]] = code
        return code

    def _other(self, number: int, flag: int, line: memoryview) -> int:
        """Append the pieces of any line that is not a good answer of its own; return their size."""
        sent = self._sent
        source = number
        if flag == TWIN_LINE and sent.leaders is not None:
            source = sent.leaders[number - sent.lines.numbers.start]
            flag = self._shards.flag(source)
        if sent.base is not None and flag in _WITHOUT_ANSWER:
            return self._kept(number, sent.base)
        if flag == PUT_ASIDE:
            return self._put_aside(sent.problems[number], line)
        if flag == ANSWERED:
            return self._twin(source, line)
        return self._line(number, source, flag, line)

    def _kept(self, number: int, base: Base) -> int:
        """Take over what the line had in the round before."""
        at = number - self._sent.lines.numbers.start
        columns = base.columns
        line = base.line(at)
        self._pieces.append(line)
        old = columns.codes[at]
        code = self._kept_codes.get(old)
        if code is None:
            kind = columns.kinds[old]
            code = self._kept_codes[old] = self.index.kind(
                kind.outcome, kind.code, kind.message, retryable=kind.retryable
            )
        self.index.codes.append(code)
        self.index.lengths.append(len(line))
        self.index.tokens.append(columns.tokens[at])
        self.index.mark(columns.flags[at], columns.rounds[at])
        return len(line)

    def _twin(self, leader: int, line: memoryview) -> int:
        """Give a line the good answer of the one with the same request."""
        record = self._shards.record(leader)
        _, _, time_bytes, ending, *_, time = record
        data = bytes(line)
        inside = inside_of(data, MEMBERS.decode(data))
        size = self._put("", time[:time_bytes] or self._now, inside, self._shards.kept(record))
        self._totals.add_twin(self._shards.judgement(record).usage)
        # The leader came before, so its class has a kind.
        self.index.add(self._codes[ending], TWIN, self._round, size)
        return size

    def _line(self, number: int, source: int, flag: int, line: memoryview) -> int:
        """Append the pieces of an output line, which has the row of `source`; return their size."""
        data = bytes(line)
        members = MEMBERS.decode(data)
        answer = self._answer(source, flag, data, bytes(members["request"]))
        judgement = answer.judgement
        usage = judgement.usage
        if judgement.status and self._sent.was_answered(number):
            # Its owner had it tried again, and an error is worth less than what there was.
            return self._kept(number, cast(Base, self._sent.base))
        size = self._put(
            judgement.status,
            processed_time(answer.time) or self._now,
            inside_of(data, members),
            bytes(answer.response),
        )
        kind = self.index.kind(
            judgement.outcome,
            judgement.code,
            answer.message or judgement.status,
            retryable=judgement.is_retryable,
        )
        if source != number:
            self._totals.add_twin(usage)
            self.index.add(kind, TWIN, self._round, size)
        else:
            self._totals.add(judgement)
            tokens = usage.prompt_tokens, usage.candidates_tokens + usage.thoughts_tokens
            self.index.add(kind, 0, self._round, size, tokens)
        return size

    def _put_aside(self, problem: Problem, line: memoryview) -> int:
        """Say on a bad line what is wrong with it, and give back what of it can be given back."""
        own, request = _sound(bytes(line))
        text = problem_text(problem)
        judgement = Judgement(
            outcome=LineOutcome.ERROR, status=status_text(problem.code, text), code=problem.code
        )
        inside = ENCODER.encode({**own, "request": request})[1:-1]
        size = self._put(judgement.status, self._now, inside, bytes(_EMPTY_OBJECT))
        self._totals.add(judgement)
        kind = self.index.kind(judgement.outcome, judgement.code, text, retryable=False)
        self.index.add(kind, 0, self._round, size)
        return size

    def _put(self, status: str, time: bytes, inside: bytes, response: bytes) -> int:
        """Append the pieces of an output line with the caller's members; return their size."""
        head = ENCODER.encode({"status": status, "processed_time": msgspec.Raw(time)})
        pieces = (head[:-1], b",", inside, RESPONSE, response, END)
        self._pieces += pieces
        return sum(map(len, pieces))

    def _answer(self, source: int, flag: int, line: bytes, request: bytes) -> _Answer:
        if flag == NO_ROW:
            missing = self._missing
            return _without(missing.outcome, missing.code, missing.message)
        if flag == CONFLICTING:
            return _error("duplicate_row", "The provider gave two different answers for this line.")
        if flag == UNREADABLE:
            return _error("corrupt_row", "The provider's row for this line is unreadable.")
        return self._with_care(self._shards.kept(self._shards.record(source)), line, request)

    def _with_care(self, found: bytes, line: bytes, request: bytes) -> _Answer:
        try:
            row = ROW.decode(found)
            response = msgspec.json.decode(row.response)
        except UNDECODABLE:
            return _error("corrupt_row", "The provider's row for this line is unreadable.")
        return self._of_row(row, response, line, request)

    def _of_row(self, row: Row, response: object, line: bytes, request: bytes) -> _Answer:
        judgement = judge(row.status, response)
        if judgement.status:
            return _Answer(judgement, time=row.processed_time)
        if echo_differs(request, bytes(row.request)):
            return _error(
                "integrity_mismatch", "The provider's row answers another request than this line's."
            )
        message = ""
        if may_ask(line):
            judgement, message = fitted(self._schemas, judgement, line, row.response)
        return _Answer(judgement, row.response, row.processed_time, message)


def _wrote_some() -> None:
    """Be at the point that both ways have in common."""
    fault("collect.half_merged")


def over_rounds(job: Job, merged: Merged) -> Merged:
    """Add to what one round did cost what the rounds of the job before it did."""
    more = merged.counts
    tokens = {
        name: getattr(more, name) + getattr(job.counts, name, 0)
        for name in ("prompt_tokens", "candidates_tokens", "thoughts_tokens", "cached_tokens")
    }
    return msgspec.structs.replace(
        merged,
        counts=msgspec.structs.replace(more, **tokens),
        bill=bill_of_rounds(job, merged.bill),
    )


def lines_of(index: IndexWriter) -> Counter[LineOutcome]:
    """Return how many lines ended in which way."""
    lines = Counter[LineOutcome]()
    for kind in index.kinds():
        lines[kind.outcome] += kind.lines
    return lines


def problem_text(problem: Problem) -> str:
    """Return in one sentence where in the input something is wrong, and what."""
    where = [
        f"{name} {value}"
        for name, value in (("line", problem.line), ("column", problem.column))
        if value is not None
    ]
    if problem.path is not None:
        where.append(problem.path)
    return f"{', '.join(where)}: {problem.message}" if where else problem.message


def _sound(line: bytes) -> tuple[dict[str, msgspec.Raw], msgspec.Raw]:
    """Return the caller's own members and the request of a bad line, as far as they are JSON."""
    try:
        # All of it is read, for msgspec does not look into what it leaves as it is.
        orjson.loads(line)
        own = MEMBERS.decode(line)
    except (*UNDECODABLE, orjson.JSONDecodeError):
        return {}, _NULL
    request = own.pop("request", _NULL)
    return {name: value for name, value in own.items() if name not in OURS}, request


def _error(code: str, message: str) -> _Answer:
    return _without(LineOutcome.ERROR, code, message)


def _without(outcome: LineOutcome, code: str, message: str) -> _Answer:
    judgement = Judgement(
        outcome=outcome,
        status=status_text(code, message),
        code=code,
        # Who cancelled a job, or let its time run out, does not want the rest of it sent again.
        is_retryable=outcome not in UNFINISHED_OUTCOMES,
    )
    return _Answer(judgement, message=message)
