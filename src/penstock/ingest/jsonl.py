r"""Chunks of JSONL -> checked, numbered, indexed lines, in bounded memory.

The core behind every door: the JSON body feeds it what it decodes, other doors feed it what they
receive. Bytes are cut into blocks of exactly `BLOCK_BYTES` from the start of the input, whatever
the chunks were, so that every refusal is the same for any chunking. 256 KiB is large enough that
the cost per call vanishes and small enough that the passes of the line check find it in the cache.

A byte-order mark at the very start is dropped; everything else is stored as sent. Lines end at
`\n` only, never where `str.splitlines` would also cut (U+2028, `\x0b`, ...); one `\r` before it
belongs to the line's end.
"""

from itertools import accumulate
from typing import Final

import msgspec

from penstock.core.files import ANY_FILE, FileRule
from penstock.core.limits import Limits
from penstock.errors import InvalidInput, Problem, TooLarge
from penstock.ingest.check import JSON_SPACE, UTF8_BOM, LineCheck
from penstock.ingest.index import pack_columns
from penstock.ingest.problems import pack_problem
from penstock.ingest.sink import Sink
from penstock.ingest.spot import SEARCHED_BYTES
from penstock.ingest.survey import Survey
from penstock.ingest.treatment import STRICT, Report, Treatment

BLOCK_BYTES: Final = 262_144
"""Bytes written and checked at once."""

BLANK_FACTOR_MAX: Final = 2
"""Lines for each request that is allowed: room for one blank line after each."""

INDEX_ROWS: Final = 8_192
"""Index rows collected before they are written."""

SEARCHED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of bad lines walked to name a place, in all; further ones are named by their line only."""

_BLANK: Final = b" \t\r\n"


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What was stored: request lines, bytes, and the SHA-256 of the bytes in hexadecimal."""

    line_count: int
    input_bytes: int
    sha256: str
    problem_count: int = 0
    problems: tuple[Problem, ...] = ()
    report: Report | None = None


class JsonlIntake:
    """Takes JSONL in chunks of any size; stores, indexes and judges it.

    The sink gets the bytes to store, `BLOCK_BYTES` each but the last, and packed rows, one for each
    request line. After the first bad line it is not called again: the input is refused, only the
    other bad lines are of interest. Where bad lines are put aside it is, and gets each problem.
    """

    def __init__(
        self,
        limits: Limits,
        sink: Sink,
        files: FileRule = ANY_FILE,
        treatment: Treatment = STRICT,
    ) -> None:
        self._treatment = treatment
        self._survey = Survey() if treatment.is_trial else None
        self._searched_bytes = 0
        self._limits = limits
        self._check = LineCheck(limits, files)
        self._sink = sink
        self._head: bytes | None = b""
        self._sniffing = True
        self._sniffed_bytes = 0
        self._sniffed_lines = 0
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        self._line_start: list[bytes] = []
        self._line_start_bytes = 0
        self._input_bytes = 0
        self._checked_bytes = 0
        self._line_number = 0
        self._line_count = 0
        self._offsets: list[int] = []
        self._lengths: list[int] = []
        self._problems: list[Problem] = []
        self._problems_total = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises `TooLarge` (`input_too_large`, `too_many_lines`, `line_too_long`) at once, and
        `InvalidInput` when the file as a whole is something else (`json_array_file`, `utf16`,
        `compressed_input`). Bad lines are collected until `finish`.
        """
        if self._head is not None:
            data = self._head + data
            if len(data) < len(UTF8_BOM) and UTF8_BOM.startswith(data):
                self._head = data
                return
            self._head = None
            data = data.removeprefix(UTF8_BOM)
        self._take(data)

    def finish(self) -> Tally:
        """Judge what is left and return what was stored.

        Raises `InvalidInput` with the first `problems_reported_max` problems in the order of lines,
        or `empty_input` when no line is a request; and what `feed` raises.
        """
        if self._head:
            self._take(self._head)
        self._flush()
        if self._line_start_bytes:
            self._check_lines(b"".join(self._line_start))
        if self._is_refused:
            raise self._refusal()
        if not self._line_count:
            raise InvalidInput(
                "The input holds no request.",
                code="empty_input",
                hint="Send one JSON object on each line.",
            )
        self._write_rows()
        return Tally(
            line_count=self._line_count,
            input_bytes=self._input_bytes,
            sha256=self._sink.sha256(),
            problem_count=self._problems_total,
            problems=tuple(self._problems),
            report=None if self._survey is None else self._survey.report(),
        )

    @property
    def _is_lost(self) -> bool:
        """Whether nothing that comes from here on is kept."""
        treatment = self._treatment
        return self._problems_total > 0 and not (treatment.puts_aside or treatment.is_trial)

    @property
    def _is_refused(self) -> bool:
        """Whether the bad lines refuse the file; a file without a good one is always refused."""
        if self._treatment.is_trial:
            return False
        return self._is_lost or 0 < self._problems_total == self._line_count

    def _take(self, data: bytes) -> None:
        room = self._limits.job_bytes_max - self._input_bytes
        if self._sniffing:
            self._sniff(data[:room])
        start = 0
        while start < min(len(data), room):
            stop = min(start + BLOCK_BYTES - self._pieces_bytes, len(data), room)
            self._pieces.append(data[start:stop])
            self._pieces_bytes += stop - start
            self._input_bytes += stop - start
            start = stop
            if self._pieces_bytes == BLOCK_BYTES:
                self._flush()
        if len(data) > room:
            raise TooLarge(
                f"The input is larger than {self._limits.job_bytes_max} bytes.",
                code="input_too_large",
                hint="Split it into several jobs (limit job_bytes_max).",
            )

    def _sniff(self, data: bytes) -> None:
        """Look at the first byte that is not blank; a whole file of the wrong kind starts there."""
        rest = data.lstrip(_BLANK)
        blank = len(data) - len(rest)
        self._sniffed_bytes += blank
        self._sniffed_lines += data.count(b"\n", 0, blank)
        self._sniffing = not rest
        if rest[:1] in _WHOLE_FILES:
            code, message, hint = _WHOLE_FILES[rest[:1]]
            problem = Problem(
                code=code,
                message=message,
                hint=hint,
                line=self._sniffed_lines + 1,
                offset=self._sniffed_bytes,
            )
            raise InvalidInput(
                f"The input is not JSONL: {message}.",
                code=code,
                hint=hint,
                problems=[problem],
            )

    def _flush(self) -> None:
        """Store and check the collected block."""
        block = b"".join(self._pieces)
        self._pieces.clear()
        self._pieces_bytes = 0
        if not block:
            return
        if not self._is_lost:
            self._sink.write(block)
        end = block.rfind(b"\n") + 1
        if end:
            whole = b"".join((*self._line_start, memoryview(block)[:end]))
            self._line_start.clear()
            self._line_start_bytes = 0
            self._check_lines(whole)
        if end < len(block):
            self._line_start.append(block[end:])
            self._line_start_bytes += len(block) - end
        # One more byte may come and be the `\r` of the line's end.
        if self._line_start_bytes > self._limits.line_bytes_max + 1:
            raise self._too_long(self._line_number + 1, self._checked_bytes)

    def _check_lines(self, whole: bytes) -> None:
        """Judge lines that are complete; only the very last may lack its line feed."""
        check = self._check
        lengths = None
        if b"\r" not in whole and len(whole) <= self._limits.line_bytes_max:
            lengths = check.lengths(whole)
        bare = None
        if lengths is not None and sum(lengths) + len(lengths) == len(whole):
            # There is nothing between the values but line feeds, so they are the lines.
            bare = lengths
        at = number = 0
        while at < len(whole):
            good = check.reach(whole, at) if lengths is not None else at
            if good > at:
                if bare is None:
                    known = _lengths(whole, at, good)
                elif good == len(whole):
                    known = bare[number:]
                else:
                    known = bare[number : number + whole.count(b"\n", at, good)]
                self._count_good(whole, at, known)
                number += len(known)
                at = good
                continue
            end = whole.find(b"\n", at)
            line = whole[at : end if end >= 0 else len(whole)]
            self._take_line(line)
            if lengths is not None:
                check.learn(line)
            number += 1
            at += len(line) + 1
        if len(self._offsets) >= INDEX_ROWS:
            self._write_rows()

    def _count_good(self, block: bytes, start: int, lengths: list[int]) -> None:
        """Count lines from an index of a block on that are requests as they stand."""
        shift = self._checked_bytes - start
        offsets = list(accumulate([length + 1 for length in lengths], initial=self._checked_bytes))
        self._checked_bytes = offsets.pop()
        if self._survey is not None:
            lines = zip(offsets, lengths, strict=True)
            for number, (offset, length) in enumerate(lines, start=self._line_number + 1):
                at = offset - shift
                self._survey.take(block[at : at + length], number)
        self._go_on(len(lengths))
        self._line_count += len(lengths)
        if self._line_count > self._limits.job_lines_max:
            raise self._too_many()
        if not self._is_lost:
            self._offsets += offsets
            self._lengths += lengths

    def _go_on(self, lines: int) -> None:
        self._line_number += lines
        # Blank lines are no requests, but each costs a step: a compressed megabyte holds a hundred
        # million of them.
        if self._line_number > BLANK_FACTOR_MAX * self._limits.job_lines_max:
            raise self._too_many()

    def _take_line(self, raw: bytes) -> None:
        self._go_on(1)
        line = raw.removesuffix(b"\r")
        if len(line) > self._limits.line_bytes_max:
            raise self._too_long(self._line_number, self._checked_bytes)
        if line.strip(JSON_SPACE):
            self._count_line(line)
            if not self._check.is_plainly_good(line):
                self._check_line(line)
            elif self._survey is not None:
                self._survey.take(line, self._line_number)
        self._checked_bytes += len(raw) + 1

    def _count_line(self, line: bytes) -> None:
        self._line_count += 1
        if self._line_count > self._limits.job_lines_max:
            raise self._too_many()
        if not self._is_lost:
            self._offsets.append(self._checked_bytes)
            self._lengths.append(len(line))

    def _check_line(self, line: bytes) -> None:
        # Words cost time and memory; beyond the reported lines only the count is wanted.
        is_listed = len(self._problems) < self._limits.problems_reported_max
        if not is_listed and not self._treatment.puts_aside:
            self._problems_total += self._check.is_bad(line)
            return
        problem = self._check.problem(
            line,
            self._line_number,
            self._checked_bytes,
            is_placed=self._searched_bytes < SEARCHED_BYTES_MAX,
        )
        if problem is None:
            if self._survey is not None:
                self._survey.take(line, self._line_number)
            return
        self._searched_bytes += min(len(line), SEARCHED_BYTES)
        self._problems_total += 1
        if is_listed:
            self._problems.append(problem)
        if self._treatment.puts_aside:
            self._put_aside(problem)

    def _put_aside(self, problem: Problem) -> None:
        if self._problems_total > self._limits.quarantine_lines_max:
            raise self._too_many_problems()
        self._sink.write_problem(pack_problem(self._line_count, problem))

    def _write_rows(self) -> None:
        if self._offsets and not self._is_lost:
            self._sink.write_index(pack_columns(self._offsets, self._lengths))
        self._offsets.clear()
        self._lengths.clear()

    def _too_many(self) -> TooLarge:
        most = self._limits.job_lines_max
        return TooLarge(
            f"The input has more than {most} requests, or {BLANK_FACTOR_MAX * most} lines with the "
            "blank ones.",
            code="too_many_lines",
            hint="Split it into several jobs (limit job_lines_max).",
        )

    def _too_many_problems(self) -> InvalidInput:
        most = self._limits.quarantine_lines_max
        return InvalidInput(
            f"More than {most} lines are invalid, which is the most that is put aside.",
            code="too_many_problems",
            hint="Mend what the listed lines have in common (limit quarantine_lines_max); nothing "
            "was stored.",
            problems=self._problems,
            problems_total=self._problems_total,
        )

    def _too_long(self, number: int, offset: int) -> TooLarge:
        message = f"line {number} is longer than {self._limits.line_bytes_max} bytes"
        hint = (
            "Put large media into Cloud Storage and name it by `fileData` (limit line_bytes_max)."
        )
        return TooLarge(
            f"The input is refused: {message}.",
            code="line_too_long",
            hint=hint,
            problems=[
                Problem(
                    code="line_too_long", message=message, hint=hint, line=number, offset=offset
                )
            ],
        )

    def _refusal(self) -> InvalidInput:
        noun = "request is" if self._line_count == 1 else "requests are"
        first = ""
        for problem in self._problems[:1]:
            first = f" First: line {problem.line}, column {problem.column}: {problem.message}."
        return InvalidInput(
            f"{self._problems_total} of {self._line_count} {noun} invalid.{first}",
            hint="Mend the listed lines and send the file again; nothing was stored.",
            problems=self._problems,
            problems_total=self._problems_total,
        )


def _lengths(block: bytes, start: int, stop: int) -> list[int]:
    """Return how long the lines of a part of a block are, without their line feeds."""
    lengths = list(map(len, block[start:stop].split(b"\n")))
    # Nothing is behind the last line feed.
    lengths.pop()
    return lengths


_WHOLE_FILES: Final = {
    b"[": (
        "json_array_file",
        "the file is one JSON array",
        "Write its elements one on each line: `jq -c '.[]' file.json > file.jsonl`.",
    ),
    b"\xff": ("utf16", "the file is UTF-16 or UTF-32", "Save it as UTF-8."),
    b"\xfe": ("utf16", "the file is UTF-16", "Save it as UTF-8."),
    b"\x1f": ("compressed_input", "the file is compressed", "Send it uncompressed."),
}
