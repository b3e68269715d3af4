import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.state import (
    SETTLED_FROM,
    STATUS_WORDS,
    TERMINAL,
    TRANSITIONS,
    JobState,
    sources_of,
    states_of,
)

WORDS = {"queued", "processing", "success", "failed", "cancelled"}


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_round_ends_only_in_a_terminal_state(data: st.DataObject) -> None:
    """Whatever allowed moves a job makes, a round can only stand still in a terminal state."""
    state = JobState.ACCEPTED
    for _ in range(50):
        further = TRANSITIONS[state] - {JobState.ACCEPTED}
        if not further:
            break
        state = data.draw(st.sampled_from(sorted(further)))
    assert (TRANSITIONS[state] <= {JobState.ACCEPTED}) == (state in TERMINAL)


def test_another_round_begins_only_after_an_output() -> None:
    """ACCEPTED comes again from the end of a round, and from nowhere else."""
    assert sources_of(JobState.ACCEPTED) == TERMINAL | {JobState.COLLECTING}


def test_a_later_round_can_come_to_nothing_wherever_it_is() -> None:
    """From each open state a round is over at once, or after what it brought was collected."""
    assert set(JobState) - TERMINAL - {JobState.RUNNING} == set(SETTLED_FROM)


def test_every_state_can_be_reached() -> None:
    """No state is dead: each can be reached from ACCEPTED."""
    reached = {JobState.ACCEPTED}
    while (
        more := {target for state in reached for target in TRANSITIONS[state]} - reached
    ) != set():
        reached |= more
    assert reached == set(JobState)


@pytest.mark.parametrize("state", sorted(set(JobState) - TERMINAL))
def test_every_open_job_can_still_end(state: JobState) -> None:
    """From each open state there is a way to a terminal one."""
    reached = {state}
    for _ in JobState:
        reached |= {target for each in reached for target in TRANSITIONS[each]}
    assert reached & TERMINAL


def test_the_table_names_every_state() -> None:
    """The tables are total: a new state without a row is noticed here."""
    assert set(TRANSITIONS) == set(JobState) == set(STATUS_WORDS)


def test_only_the_five_words_are_shown() -> None:
    """Clients' enums know five words, and each of them is used."""
    assert set(STATUS_WORDS.values()) == WORDS


@pytest.mark.parametrize("target", list(JobState))
def test_sources_are_the_inverse_of_the_table(target: JobState) -> None:
    """`sources_of` names exactly the states whose row holds the target."""
    assert sources_of(target) == {state for state in JobState if target in TRANSITIONS[state]}


@pytest.mark.parametrize("word", sorted(WORDS))
def test_states_of_a_word_show_that_word(word: str) -> None:
    """`states_of` is the inverse of STATUS_WORDS."""
    assert states_of(word) == {state for state in JobState if STATUS_WORDS[state] == word}


def test_an_unknown_word_has_no_states() -> None:
    """A status that no job shows selects nothing."""
    assert states_of("SUCCESS") == frozenset()


def test_a_running_job_leaves_only_by_collecting() -> None:
    """A job that the provider has is always collected, because finished lines were paid for."""
    assert TRANSITIONS[JobState.RUNNING] == {JobState.COLLECTING}
