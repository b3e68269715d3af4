r"""Lines like one that is known to be good -> a quick yes.

The lines of a file are nearly always written by one program: the same members in the same order,
with the same spaces. They differ in texts and numbers alone, and most of those nobody judges. So a
good line becomes a form: its bytes, with gaps where such a text or number stood. Whatever fills a
form is as good as the line that it was taken from.

This holds in blocks that are sound only, of which a parser and a decoder said that they are JSON
and UTF-8. In those a text ends at the first quote without a backslash before it, or before that at
a quote with two. Such a line fills no form: from there on it would be read inside out, texts as
what is between them, until its end; which then lies in a text, where no line feed can be.

Nothing here says no: a line that fills no form is judged by itself, and its form is remembered.
"""

import re
from typing import Any, Final

import msgspec

from penstock.core.ordinary import are_ordinary, is_ordinary_beside
from penstock.ingest.decode import first_bad_utf8
from penstock.ingest.named import FILE_URI
from penstock.ingest.spot import Keys, keys_of, values

FORMS_MAX: Final = 8
"""Forms remembered of one file; one that is needed anew takes the place of the one that was not
needed for longest."""

VALUES_MAX: Final = 1_024
"""Lines with more are not made into forms, which takes a step of Python for each value."""

GAPS_MAX: Final = 64
"""Nor are those with more gaps, which would take one for each gap of each line: numbers by the
thousand are parsed sooner."""

SOUND_BYTES_MAX: Final = 1_048_576
"""Blocks that are larger, for they end a long line, are judged line by line: the parser makes an
object of each value, and nobody knows yet that a line holds only one."""

SHORT_BYTES: Final = 1_024
"""Lines up to here are compared by one pattern, many in a call. It looks at each byte, so for
longer ones it is quicker to search for the quotes, with a few calls for each line."""

PATIENCE: Final = 2_000
"""Lines that may fill no form, beyond those that do, before the file is taken for one whose lines
are all different."""

FORM_COSTS: Final = 50
"""Lines that could be judged in the time that it takes to make a form."""

_TEXT: Final = rb'[^"]*+(?:(?<=\\)"[^"]*+)*+'
# What the parser took for a number is one, and so few characters without an exponent fit 64 bits or
# a double. One set of characters is half the price of the grammar.
_NUMBER: Final = rb"[0-9.-]{1,19}+"
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_FILLED_NUMBER: Final = re.compile(_NUMBER)
_WHOLE_NUMBER: Final = re.compile(_NUMBER + rb"(?![0-9.eE+-])")
_BACKSLASH: Final = ord("\\")


_VALUES: Final = msgspec.json.Decoder(msgspec.Raw)
"""Skips values, which checks their grammar, and tells where they are."""


class Form:
    """The bytes of a line around its gaps."""

    __slots__ = ("_gaps", "_pattern", "_tail", "line_bytes")

    def __init__(self, line: bytes, gaps: list[tuple[int, int]]) -> None:
        """Take a line and the ranges in it that may differ, in order; a text's without quotes."""
        self.line_bytes = len(line) + 1
        self._gaps: list[tuple[bytes, bool]] = []
        at = 0
        for start, end in gaps:
            literal = line[at:start]
            self._gaps.append((literal, literal.endswith(b'"')))
            at = end
        self._tail = line[at:] + b"\n"
        self._pattern = self._compiled() if len(line) <= SHORT_BYTES else None

    def _compiled(self) -> re.Pattern[bytes]:
        # What is between the gaps is compared with the pattern in the first line alone. In those
        # that follow it is compared with the first line, which takes half the time a byte.
        literals = [literal for literal, _ in self._gaps] + [self._tail]
        gaps = [_TEXT if is_text else _NUMBER for _, is_text in self._gaps] + [b""]
        first, others = b"", b""
        for number, (literal, gap) in enumerate(zip(literals, gaps, strict=True)):
            first += b"(?P<g%d>%b)%b" % (number, re.escape(literal), gap)
            others += b"(?P=g%d)%b" % (number, gap)
        return re.compile(b"%b(?:%b)*+" % (first, others))

    def reach(self, block: bytes, at: int) -> int:
        """Return where the lines from `at` on that fill the form end, after their line feed."""
        if self._pattern is not None:
            found = self._pattern.match(block, at)
            return found.end() if found else at
        while (end := self._end(block, at)) >= 0:
            at = end
        return at

    def _end(self, block: bytes, at: int) -> int:
        """Return the index after one line that fills the form, -1 if it does not."""
        for literal, is_text in self._gaps:
            if not block.startswith(literal, at):
                return -1
            at += len(literal)
            if is_text:
                at = block.find(b'"', at)
                while at >= 0 and block[at - 1] == _BACKSLASH:
                    at = block.find(b'"', at + 1)
                if at < 0:
                    return -1
            elif number := _FILLED_NUMBER.match(block, at):
                at = number.end()
            else:
                return -1
        return at + len(self._tail) if block.startswith(self._tail, at) else -1


class AlikeLines:
    """The forms of one file."""

    def __init__(self) -> None:
        self._forms: list[Form] = []
        self._patience = PATIENCE

    def lengths(self, block: bytes) -> list[int] | None:
        """Return how many bytes each value of a sound block has, without the blanks around it.

        None if it is not sound, so that its lines cannot be compared with forms; or need not be.
        """
        if self._patience <= 0 or len(block) > SOUND_BYTES_MAX or first_bad_utf8(block) is not None:
            return None
        try:
            return list(map(len, _VALUES.decode_lines(block)))
        except (msgspec.DecodeError, RecursionError):
            return None

    def reach(self, block: bytes, at: int) -> int:
        """Return where the lines from `at` on that are alike end, `at` if the next one is new.

        Only for a block that has `lengths`, and only from the start of a line.
        """
        for place, form in enumerate(self._forms):
            end = form.reach(block, at)
            if end > at:
                if place:
                    self._forms.insert(0, self._forms.pop(place))
                self._patience = min(PATIENCE, self._patience + (end - at) // form.line_bytes)
                return end
        self._patience -= 1
        return at

    def may_learn(self) -> bool:
        """Tell whether it is worth the time to make a form of a line, which counts as tried."""
        self._patience -= FORM_COSTS
        return self._patience > 0

    def learn(self, line: bytes, request: dict[str, Any]) -> None:
        """Remember the form of a good line, which has that request."""
        gaps = _gaps(line, request)
        if gaps is not None:
            del self._forms[FORMS_MAX - 1 :]
            self._forms.insert(0, Form(line, gaps))


def _gaps(line: bytes, request: dict[str, Any]) -> list[tuple[int, int]] | None:
    """Return where in a good line texts and numbers stand that nobody judges.

    None if somebody judges such texts in it, the addresses of files, or if there are too many.
    """
    if not are_ordinary(request["contents"]):
        return None
    # Members that are not ordinary have columns of their own in the importer's table, so they must
    # be the same to the letter.
    is_ordinary = is_ordinary_beside(request)
    gaps: list[tuple[int, int]] = []
    for count, value in enumerate(values(line, len(line))):
        if count == VALUES_MAX:
            return None
        keys = keys_of(value.levels)
        if keys[-1:] and keys[-1] in FILE_URI:
            return None
        if keys[:1] == ("request",) and not _is_free(keys, is_ordinary=is_ordinary):
            continue
        if value.opens == b'"':
            gaps.append((value.at + 1, next(_STRING.finditer(line, value.at)).end() - 1))
        elif number := _WHOLE_NUMBER.match(line, value.at):
            gaps.append(number.span())
    return gaps if len(gaps) <= GAPS_MAX else None


def _is_free(keys: Keys, *, is_ordinary: bool) -> bool:
    """Tell that a plain value in a request whose contents are ordinary may be any of its kind."""
    return keys[-1] != "role" and (is_ordinary or keys[1:2] == ("contents",))
