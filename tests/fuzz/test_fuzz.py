"""A small run of the fuzzer, and that it sees what it is there to see. `make fuzz` plays more."""

import base64
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus.case import GOOD
from tests.fuzz.campaign import FINDINGS_MAX, TARGETS, WARM_UP_INPUTS, input_of, play, rss_kib
from tests.fuzz.ingest_targets import LineTarget
from tests.fuzz.mutate import Mutator
from tests.fuzz.target import Broken
from tests.ingest.test_properties import moderate

SEED = 5
INPUTS = {"rows": 300, "splitter": 2_000, "json": 2_000, "base64": 2_000, "multipart": 2_000}
INPUTS_ELSE = 3_000


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_a_promise(name: str) -> None:
    """Thousands of mutated inputs are accepted or refused, each the same in any chunks."""
    report = play(TARGETS[name](), SEED, INPUTS.get(name, INPUTS_ELSE))
    assert report.findings == []
    assert sum(report.verdicts.values()) == report.inputs
    # Mutations that are all refused for one reason would test nothing.
    assert len(report.verdicts) >= 2


class Scripted:
    """A target that fails as a test asks."""

    name = "scripted"
    seeds: Sequence[bytes] = (b"seed",)
    words: Sequence[bytes] = (b"word",)

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.is_closed = False

    def run(self, data: bytes, chance: random.Random) -> str:
        """Fail where the word is."""
        if b"word" in data:
            raise self._error
        return f"{chance.randrange(2)}"

    def close(self) -> None:
        """Remember that."""
        self.is_closed = True


@pytest.mark.parametrize("error", [ValueError("bug"), RecursionError(), Broken("promise")])
def test_what_is_no_refusal_is_found(error: Exception) -> None:
    """Any error is a finding with its input, which can be played again; a few are enough."""
    target = Scripted(error)
    report = play(target, SEED, 1_000)
    assert len(report.findings) == FINDINGS_MAX
    assert target.is_closed
    for finding in report.findings:
        assert type(error).__name__ in finding.error
        data, _ = input_of(target, SEED, finding.number)
        assert base64.b64decode(finding.input) == data
        assert b"word" in data


def test_a_run_can_be_begun_anywhere() -> None:
    """The inputs of a number do not depend on those before it."""
    target = Scripted(ValueError())
    assert input_of(target, SEED, 7)[0] == input_of(target, SEED, 7)[0]
    mutated = {input_of(target, SEED, number)[0] for number in range(100)}
    assert len(mutated) > 50
    report = play(target, SEED, 1, first=3)
    assert (report.first, report.inputs) == (3, 1)


def test_memory_is_looked_at_after_the_start() -> None:
    """Both figures are of this process, the first one not before it is warm."""
    report = play(LineTarget(), SEED, WARM_UP_INPUTS + 1)
    assert bool(report.rss_before_kib) == bool(rss_kib())
    assert bool(report.rss_after_kib) == bool(rss_kib())


def test_every_target_has_a_name_seeds_and_words() -> None:
    """The fuzzer covers what reads the bytes of strangers, each under its own name."""
    assert set(TARGETS) == {
        *("line", "splitter", "json", "base64", "multipart", "gzip"),
        *("uri", "key", "link", "page", "answer", "rows"),
    }
    for name, make in TARGETS.items():
        target = make()
        assert target.name == name
        assert target.seeds
        assert target.words
        target.close()


@moderate
@given(st.binary(max_size=40), st.lists(st.binary(max_size=5), max_size=4), st.integers(0, 2**40))
def test_a_mutation_is_one_of_its_seed(seed: bytes, words: list[bytes], number: int) -> None:
    """Mutations need nothing of their seed, not even a byte, and stay within their bound."""
    first, second = (
        Mutator([seed], words).make(random.Random(number))  # noqa: S311  # the same twice
        for _ in range(2)
    )
    assert first == second
    assert len(first) <= 32_768


DOORS = {name: TARGETS[name]() for name in ("splitter", "base64", "multipart")}


@moderate
@given(
    st.sampled_from(sorted(DOORS)),
    st.lists(st.sampled_from([GOOD, b"", b"{", b"[1]", b"\xff", b" "]), max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r", b""]),
    st.integers(0, 2**32),
)
def test_any_chunking_of_any_shape_is_the_same(
    name: str, lines: list[bytes], end: bytes, seed: int
) -> None:
    """Whole lines in any order and with any ends get one answer through each door."""
    DOORS[name].run(end.join(lines), random.Random(seed))  # noqa: S311  # to play it again
