"""The row index: what became of each line of an output and where it stands in it, by column.

A file beside the output, about 25 bytes a line:

    magic · header bytes u32 · lines u32 · header (JSON) · outcomes u8 · codes u16 · flags u8 ·
    rounds u8 · places (offset u64, length u32) · tokens (prompt u32, output u32)

Columns and not rows, because the question is "which lines are like this": all outcomes of 200,000
lines are 200 KB in one piece, in which C finds the next one; only what is shown is read beside it.
A code is a number in the header's table of kinds, where each says how many lines have it and which
is the first, so groups cost nothing to read.
"""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate
from struct import Struct
from typing import Final

import msgspec

from penstock.core.line import LineOutcome
from penstock.errors import BlobCorrupt

MAGIC: Final = b"PNSTKLX1"
_HEAD: Final = Struct("<8sII")
_PLACE: Final = Struct("<QI")
_TOKENS: Final = Struct("<II")
_COUNT_MAX: Final = 0xFFFF_FFFF
_BYTE_VALUES: Final = 256
_PLACES_AT_ONCE: Final = 16_384
"""Lines whose places are written in one piece."""

KINDS_MAX: Final = 1_000
"""Different kinds of lines; further ones of an outcome count as its code `other`."""

CODE_CHARACTERS: Final = 100
"""Of a code, which may come from a provider."""

MESSAGE_CHARACTERS: Final = 300
"""Of the example that stands for a kind; it comes from a provider."""

HEADER_BYTES_MAX: Final = 4 * 1024 * 1024

OTHER: Final = "other"

TWIN: Final = 1
"""Flag: the line got the answer of an identical one and was not paid."""

OUTCOMES: Final = tuple(LineOutcome)
_NUMBERS: Final = {outcome: number for number, outcome in enumerate(OUTCOMES)}

HEAD_BYTES: Final = _HEAD.size

Read = Callable[[int, int], bytes]
"""Returns so many bytes from an offset on, fewer only at the end of the file."""


class Kind(msgspec.Struct, kw_only=True):
    """Lines that ended in the same way."""

    outcome: LineOutcome
    code: str
    """The provider's or ours, such as `429`, `SAFETY` or `missing_row`; empty for a plain `ok`."""
    message: str = ""
    """What the first of them says."""
    retryable: bool = False
    """Whether another try may mend it."""
    lines: int = 0
    first_line: int = 0
    """Number of the first of them, from 1."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What the index says of one line."""

    number: int
    outcome: LineOutcome
    code: str
    is_retryable: bool
    is_twin: bool
    round: int
    """Which one answered it, from 1."""
    offset: int
    """Where the line begins in the output, in bytes."""
    length: int
    """Bytes of the line in the output, its newline included."""
    prompt_tokens: int
    output_tokens: int
    """Thoughts included."""


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """What an index says of some lines that follow each other, for who takes them over."""

    kinds: Sequence[Kind]
    codes: Sequence[int]
    """Places in `kinds`."""
    flags: bytes
    rounds: bytes
    places: bytes
    tokens: Sequence[int]
    """See `packed_tokens`."""

    def place(self, at: int) -> tuple[int, int]:
        """Return offset and length in the output of the line at this place, from 0."""
        offset, length = _PLACE.unpack_from(self.places, _PLACE.size * at)
        return offset, length


def packed_tokens(prompt_tokens: int, output_tokens: int) -> int:
    """Return the tokens of one line as the index holds them, in one number."""
    if prompt_tokens > _COUNT_MAX or output_tokens > _COUNT_MAX:
        prompt_tokens = min(prompt_tokens, _COUNT_MAX)
        output_tokens = min(output_tokens, _COUNT_MAX)
    return prompt_tokens | output_tokens << 32


class IndexWriter:
    """Takes what became of each line, in order, and returns the file; 16 bytes a line meanwhile."""

    def __init__(self, round_: int = 1) -> None:
        """Take the round that answered the lines of which nothing else is said."""
        self._round = round_
        self._kinds: list[Kind] = []
        self._codes_of: dict[tuple[LineOutcome, str, bool], int] = {}
        self.codes = array("H")
        """The kind of each line. Who has a line a microsecond appends to these three, not `add`."""
        self.lengths = array("I")
        """Bytes of each line in the output."""
        self.tokens = array("Q")
        """Of each line; see `packed_tokens`."""
        self._flags = bytearray()
        self._rounds = bytearray()
        self._counted = 0
        self._lines = Counter[int]()
        """Of each kind, when it was last asked for."""

    def kind(self, outcome: LineOutcome, code: str, message: str = "", *, retryable: bool) -> int:
        """Return the number of the kind, for `add`; a new kind keeps the message as its example."""
        code = code[:CODE_CHARACTERS]
        known = self._codes_of.get((outcome, code, retryable))
        if known is not None:
            return known
        if len(self._kinds) >= KINDS_MAX and code != OTHER:
            return self.kind(outcome, OTHER, retryable=retryable)
        number = self._codes_of[outcome, code, retryable] = len(self._kinds)
        self._kinds.append(
            Kind(
                outcome=outcome,
                code=code,
                message=message[:MESSAGE_CHARACTERS],
                retryable=retryable,
            )
        )
        return number

    def add(
        self, kind: int, flags: int, round_: int, length: int, tokens: tuple[int, int] = (0, 0)
    ) -> None:
        """Append the next line; `length` is that of its output, the newline included."""
        self.codes.append(kind)
        self.lengths.append(length)
        self.tokens.append(packed_tokens(*tokens))
        self.mark(flags, round_)

    def mark(self, flags: int, round_: int) -> None:
        """Say more of the line that was just added."""
        self._fill(len(self.codes) - 1)
        self._flags.append(flags)
        self._rounds.append(round_)

    def extend(self, some: Columns) -> None:
        """Append lines of another index as they are, but for their places in the output."""
        numbers = [
            self.kind(kind.outcome, kind.code, kind.message, retryable=kind.retryable)
            for kind in some.kinds
        ]
        self._fill(len(self.codes))
        try:
            self.codes.extend(map(numbers.__getitem__, some.codes))
        except IndexError as error:
            raise _corrupt() from error
        self.lengths.extend(length for _, length in _PLACE.iter_unpack(some.places))
        self.tokens.extend(some.tokens)
        self._flags += some.flags
        self._rounds += some.rounds

    @property
    def output_bytes(self) -> int:
        """Bytes of all lines so far."""
        return sum(self.lengths)

    def kinds(self) -> list[Kind]:
        """Return the kinds with their lines, as far as lines have been added."""
        if self._counted != len(self.codes):
            self._counted = len(self.codes)
            self._lines = Counter(self.codes)
        lines = self._lines
        return [
            msgspec.structs.replace(
                kind,
                lines=lines[number],
                first_line=self.codes.index(number) + 1 if lines[number] else 0,
            )
            for number, kind in enumerate(self._kinds)
        ]

    def pieces(self) -> Iterator[bytes]:
        """Yield the file in pieces."""
        count = len(self.codes)
        self._fill(count)
        header = msgspec.json.encode(self.kinds())
        yield _HEAD.pack(MAGIC, len(header), count)
        yield header
        yield self._outcomes()
        # Written as the machine has them; all that we run on are little-endian, as `_HEAD` is.
        yield self.codes.tobytes()
        yield bytes(self._flags)
        yield bytes(self._rounds)
        yield from self._places()
        yield self.tokens.tobytes()

    def _outcomes(self) -> bytes:
        outcomes = bytes(_NUMBERS[kind.outcome] for kind in self._kinds)
        if len(outcomes) <= _BYTE_VALUES:
            return self.codes.tobytes()[::2].translate(outcomes.ljust(_BYTE_VALUES, b"\0"))
        return bytes(map(outcomes.__getitem__, self.codes))

    def _places(self) -> Iterator[bytes]:
        offset = 0
        for start in range(0, len(self.lengths), _PLACES_AT_ONCE):
            lengths = self.lengths[start : start + _PLACES_AT_ONCE]
            offsets = array("Q", accumulate(lengths, initial=offset))
            offset = offsets.pop()
            yield _interleaved((offsets, lengths))

    def _fill(self, count: int) -> None:
        """Say of the lines up to here what holds where nothing else is said."""
        missing = count - len(self._flags)
        self._flags += bytes(missing)
        self._rounds += bytes((self._round,)) * missing


def _interleaved(columns: Sequence["array[int]"]) -> bytes:
    """Return rows of these columns; slices are copied in C, a fifth of what `pack` takes."""
    size = sum(column.itemsize for column in columns)
    rows = bytearray(size * len(columns[0]))
    at = 0
    for column in columns:
        data = column.tobytes()
        for byte in range(column.itemsize):
            rows[at::size] = data[byte :: column.itemsize]
            at += 1
    return bytes(rows)


class LineIndex:
    """Looks things up in a row index; reads no more of the file than a question needs."""

    def __init__(self, read: Read) -> None:
        """Raise `BlobCorrupt` if it is no row index."""
        self._read = read
        header_bytes, self.line_count = _head(read(0, _HEAD.size))
        try:
            self.kinds: Sequence[Kind] = msgspec.json.decode(
                read(_HEAD.size, header_bytes), type=list[Kind]
            )
        except msgspec.DecodeError as error:
            raise _corrupt() from error
        count = self.line_count
        self._outcomes_at = _HEAD.size + header_bytes
        self._codes_at = self._outcomes_at + count
        self._flags_at = self._codes_at + 2 * count
        self._rounds_at = self._flags_at + count
        self._places_at = self._rounds_at + count
        self._tokens_at = self._places_at + _PLACE.size * count

    def numbers(
        self, outcomes: Sequence[LineOutcome], *, code: str | None = None, after: int = 0
    ) -> Iterator[int]:
        """Yield the numbers of the lines with one of the outcomes, in order, behind line `after`.

        No outcomes means all. With `code`, only those of that code.
        """
        wanted = {
            number
            for number, kind in enumerate(self.kinds)
            if (not outcomes or kind.outcome in outcomes) and (code is None or kind.code == code)
        }
        return self.of_kinds(wanted, after=after)

    def of_kinds(
        self, wanted: AbstractSet[int], *, after: int = 0, until: int | None = None
    ) -> Iterator[int]:
        """Yield the numbers of the lines of these kinds, in order, behind line `after`.

        `wanted` are places in `kinds`. With `until`, no further than that line.
        """
        last = self.line_count if until is None else min(until, self.line_count)
        size = last - after
        if not wanted or size <= 0:
            return
        outcomes = {kind.outcome for number, kind in enumerate(self.kinds) if number in wanted}
        if all(kind.outcome not in outcomes or n in wanted for n, kind in enumerate(self.kinds)):
            # Whole outcomes, so the narrow column says it, and C searches that.
            column = self._piece(self._outcomes_at + after, size)
            some = re.compile(
                b"[" + b"".join(re.escape(bytes((_NUMBERS[one],))) for one in outcomes) + b"]",
                re.DOTALL,
            )
            for match in some.finditer(column):
                yield after + match.start() + 1
            return
        codes = array("H", self._piece(self._codes_at + 2 * after, 2 * size))
        for number, code in enumerate(codes, start=after + 1):
            if code in wanted:
                yield number

    def searched(self, *, is_by_code: bool) -> range:
        """Return where in the file lies what `numbers` may read."""
        return range(self._outcomes_at, self._flags_at if is_by_code else self._codes_at)

    def spans(self, numbers: Sequence[int]) -> list[range]:
        """Return where in the file lies what `entry` reads for these lines."""
        columns = (
            (self._codes_at, 2),
            (self._flags_at, 1),
            (self._rounds_at, 1),
            (self._places_at, _PLACE.size),
            (self._tokens_at, _TOKENS.size),
        )
        return [
            range(at + each * (number - 1), at + each * number)
            for at, each in columns
            for number in numbers
        ]

    def columns(self, first: int, last: int) -> Columns:
        """Return all that is said of the lines between two, both included; 25 bytes a line."""
        at, count = first - 1, last - first + 1
        codes, tokens = array("H"), array("Q")
        codes.frombytes(self._piece(self._codes_at + 2 * at, 2 * count))
        tokens.frombytes(self._piece(self._tokens_at + _TOKENS.size * at, _TOKENS.size * count))
        return Columns(
            kinds=self.kinds,
            codes=codes,
            flags=self._piece(self._flags_at + at, count),
            rounds=self._piece(self._rounds_at + at, count),
            places=self._piece(self._places_at + _PLACE.size * at, _PLACE.size * count),
            tokens=tokens,
        )

    def entry(self, number: int) -> Entry:
        """Return what the index says of the line, counted from 1; raise `IndexError` if none."""
        if not 1 <= number <= self.line_count:
            raise IndexError(number)
        at = number - 1
        (code,) = array("H", self._piece(self._codes_at + 2 * at, 2))
        if code >= len(self.kinds):
            raise _corrupt()
        flags = self._piece(self._flags_at + at, 1)[0]
        offset, length = _PLACE.unpack(self._piece(self._places_at + _PLACE.size * at, _PLACE.size))
        prompt, output = _TOKENS.unpack(
            self._piece(self._tokens_at + _TOKENS.size * at, _TOKENS.size)
        )
        return Entry(
            number=number,
            outcome=self.kinds[code].outcome,
            code=self.kinds[code].code,
            is_retryable=self.kinds[code].retryable,
            is_twin=bool(flags & TWIN),
            round=self._piece(self._rounds_at + at, 1)[0],
            offset=offset,
            length=length,
            prompt_tokens=prompt,
            output_tokens=output,
        )

    def _piece(self, offset: int, size: int) -> bytes:
        found = self._read(offset, size)
        if len(found) < size:
            raise _corrupt()
        return found


def header_span(head: bytes) -> range:
    """Return where in the file the header lies, by its first `HEAD_BYTES`."""
    header_bytes, _ = _head(head)
    return range(_HEAD.size, _HEAD.size + header_bytes)


def _head(head: bytes) -> tuple[int, int]:
    if len(head) < _HEAD.size:
        raise _corrupt()
    magic, header_bytes, line_count = _HEAD.unpack(head)
    if magic != MAGIC or header_bytes > HEADER_BYTES_MAX:
        raise _corrupt()
    return header_bytes, line_count


def _corrupt() -> BlobCorrupt:
    return BlobCorrupt("The row index of this output is damaged.")
