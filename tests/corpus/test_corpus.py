"""Each case of the corpus gets its verdict, through every door that can carry it."""

import hashlib
from collections import Counter

import pytest
from tests.corpus import (
    b1_base64,
    c1_compression,
    j1_grammar,
    j2_semantics,
    j3_framing,
    j4_contract,
    m1_multipart,
)
from tests.corpus.case import GOOD, Case, verdict_of
from tests.corpus.doors import said_of_body, said_of_lines, said_of_text
from tests.corpus.g1_names import NAMES, Name, said_of
from tests.corpus.r1_ranges import ASKS
from tests.ingest.naive import GRAMMAR, Taken, Turned, judge_jsonl

from penstock.core.limits import Limits
from penstock.errors import TooLarge
from penstock.ingest.jsonl import JsonlIntake
from penstock.ingest.spot import EXCERPT_CHARACTERS

LINES = [*j1_grammar.CASES, *j2_semantics.CASES, *j3_framing.CASES, *j4_contract.CASES]
BODIES = [*c1_compression.CASES, *m1_multipart.CASES]
TEXTS = b1_base64.CASES

COUNTS = {
    "J1": 954,
    "J2": 199,
    "J3": 115,
    "J4": 293,
    "B1": 82,
    "M1": 133,
    "G1": 87,
    "C1": 57,
    "R1": 55,
}
"""How many cases each class has; one that vanishes is a change of this table."""

SUITE_SHA256 = "90fdec8d92d1c134874f47fd35dd1e2b78ba0f0c7aafff5bc596460a8df3b975"
"""Of the names and bytes of the documents of JSONTestSuite as they are published."""

WORDS_CHARACTERS_MAX = 400
"""A message: ours but for a short name that was sent."""

UNREAD = {"J2/5000 digits", "J2/4301 digits, where Python's int gives up"}
"""Python refuses to convert so many digits, before anybody can say that they are too many."""

WITNESSED = [
    case
    for case in LINES
    if case.limits == Limits() and not case.is_streamed and case.id not in UNREAD
]


def judge(case: Case, how: str, said: Taken | Turned) -> None:
    """Hold what a door said to the verdict, and what it repeats of the input to its bounds."""
    assert verdict_of(said) == case.verdict, how
    if isinstance(said, Turned):
        assert len(said.message) <= WORDS_CHARACTERS_MAX
        assert said.message.isprintable()
        for problem in said.problems:
            assert len(problem.excerpt or "") <= EXCERPT_CHARACTERS
            assert (problem.excerpt or "").isprintable()
            assert len(problem.message) <= WORDS_CHARACTERS_MAX


@pytest.mark.parametrize("case", LINES, ids=lambda case: case.id)
def test_a_file_of_lines_gets_its_verdict(case: Case) -> None:
    """Plain, in JSON, as base64, in a form and compressed, however it is cut, it is the same."""
    for how, said in said_of_lines(case):
        judge(case, how, said)


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: case.id)
def test_a_text_gets_its_verdict(case: Case) -> None:
    """What stands in `input_data` is judged alike in JSON and in a form."""
    for how, said in said_of_text(case):
        judge(case, how, said)


@pytest.mark.parametrize("case", BODIES, ids=lambda case: case.id)
def test_a_body_gets_its_verdict(case: Case) -> None:
    """A form or a compressed body is judged with its header fields, however it is cut."""
    for how, said in said_of_body(case):
        judge(case, how, said)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name.id))
def test_an_address_gets_its_verdict(name: Name) -> None:
    """An address is pulled, not listed or none."""
    assert said_of(name) == name.verdict


@pytest.mark.parametrize("case", WITNESSED, ids=lambda case: case.id)
def test_another_parser_agrees(case: Case) -> None:
    """Python's own json, with the rules written the obvious way, finds the same bad lines."""
    if "@" not in case.verdict and not case.verdict.startswith("ok"):
        # Refused as a whole, before its lines are looked at.
        assert case.verdict in {"empty_input", "too_many_lines"}
        return
    data = case.data.removeprefix(b"\xef\xbb\xbf")
    try:
        bad, rows = judge_jsonl(data, case.limits)
    except RecursionError:
        # The other parser follows no more levels than its own stack has.
        assert "nesting_too_deep" in case.verdict
        return
    said = case.verdict.partition("+")[0].split(",")
    if case.verdict.startswith("ok"):
        assert (bad, f"ok:{len(rows)}") == ([], case.verdict)
    elif said[0].partition("@")[0] not in {"json_array_file", "utf16", "compressed_input"}:
        found = [f"{'not_json' if code == 'grammar' else code}@{line}" for line, _, code in bad]
        ours = [one.replace("lone_surrogate", "not_json") for one in said]
        assert ours == found[: len(ours)]


def test_another_parser_means_grammar_by_the_same() -> None:
    """The codes that the witness cannot tell apart are those that it counts as grammar."""
    assert {"invalid_json", "lone_surrogate"} <= GRAMMAR


def test_no_case_has_vanished() -> None:
    """Each class has its number of cases, and no two of them have one name."""
    ids = [case.id for case in (*LINES, *TEXTS, *BODIES)]
    ids += [name.id for name in NAMES] + [ask.id for ask in ASKS]
    assert Counter(one.partition("/")[0] for one in ids) == COUNTS
    named = Counter(ids)
    assert [name for name, times in named.items() if times > 1] == []


def test_the_suite_is_whole() -> None:
    """The documents of JSONTestSuite are there byte for byte: 95 good, 188 bad, 35 open."""
    documents = j1_grammar.documents()
    assert Counter(name[0] for name in documents) == {"y": 95, "n": 188, "i": 35}
    digest = hashlib.sha256()
    for name in sorted(f"{name}.json" for name in documents):
        document = documents[name.removesuffix(".json")]
        digest.update(name.removesuffix(".json").encode() + b"\0" + document + b"\0")
    assert digest.hexdigest() == SUITE_SHA256
    opened = {name for name in documents if name.startswith("i_")}
    assert opened == j1_grammar.OPEN.keys()
    assert documents.keys() >= j1_grammar.REFUSED.keys() | j1_grammar.HALVES | j1_grammar.DEEP
    with_line_feed = {name for name, document in documents.items() if b"\n" in document}
    assert with_line_feed == {name for name, _ in j1_grammar.CUT}


GIBIBYTE = 1_073_741_824
LINE = GOOD.replace(b"hi", b"x" * (65_537 - len(GOOD))) + b"\n"
PIECE = LINE * 16
"""A MiB of lines that are right."""


class Nowhere:
    """A sink that keeps nothing and hashes nothing."""

    def write(self, block: bytes) -> None:
        """Forget it."""

    def write_index(self, rows: bytes) -> None:
        """Forget them."""

    def write_problem(self, row: bytes) -> None:
        """Forget it."""

    def sha256(self) -> str:
        """Nobody asks."""
        return ""


@pytest.mark.slow
@pytest.mark.parametrize(("end", "verdict"), [(-1, "ok"), (0, "ok"), (1, "input_too_large")])
def test_a_gibibyte_is_the_limit_to_the_byte(end: int, verdict: str) -> None:
    """With the limit as it is delivered, 1 GiB is taken and a byte more is too large."""
    intake = JsonlIntake(Limits(), Nowhere())
    code = "ok"
    try:
        for _ in range(GIBIBYTE // len(PIECE) - 1):
            intake.feed(PIECE)
        intake.feed((PIECE + b"\n")[: len(PIECE) + end])
        assert intake.finish().input_bytes == GIBIBYTE + end
    except TooLarge as refusal:
        code = refusal.error_code
    assert code == verdict
