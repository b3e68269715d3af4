"""Names and labels of jobs: what can be one, and what is said of what cannot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.limits import Limits
from penstock.core.naming import (
    UNNAMED,
    Naming,
    checked_labels,
    checked_name,
    joined,
    labels_of,
)
from penstock.errors import InvalidRequest

LIMITS = Limits(job_name_characters_max=12, job_labels_max=2, job_label_characters_max=5)


@pytest.mark.parametrize("name", ["a", "Nacht 3", "日本語", "🙂", "x" * 12, "req_1", "-", "ü"])
def test_a_printable_text_is_a_name(name: str) -> None:
    """Whatever people read as it was written, as long as the limit."""
    assert checked_name(name, LIMITS) == name


@pytest.mark.parametrize(
    "name",
    ["", "x" * 13, " a", "a ", "a\nb", "a\x00", "a\x1b[2J", "a\u202eb", "\u200b", 7, None, ["a"]],
)
def test_anything_else_is_none(name: object) -> None:
    """Not what hides, moves or ends other text on a terminal; the refusal says what is allowed."""
    with pytest.raises(InvalidRequest, match="`name` is") as caught:
        checked_name(name, LIMITS)
    assert caught.value.error_code == "invalid_name"
    assert caught.value.message.isprintable()
    assert "1 to 12 printable" in str(caught.value.hint)
    assert "job_name_characters_max" in str(caught.value.hint)


def test_a_long_name_is_shown_cut() -> None:
    """The refusal has its beginning and its length."""
    with pytest.raises(InvalidRequest, match=r"'x{40}' \(500 characters\)"):
        checked_name("x" * 500, LIMITS)


def test_labels_come_in_the_order_of_their_keys() -> None:
    """So the same labels are the same submission, however they were written."""
    labels = checked_labels({"b": "2", "a-_0": ""}, LIMITS)
    assert list(labels.items()) == [("a-_0", ""), ("b", "2")]
    assert labels_of(["b:2", "a-_0:"], LIMITS) == labels
    assert labels_of(["b:2:3"], LIMITS) == {"b": "2:3"}


@pytest.mark.parametrize(
    ("labels", "says", "allowed"),
    [
        (["a"], "`labels` is '[\"a\"]'", '{"team": "ads"}'),
        ("a:b", "`labels` is 'a:b'", '{"team": "ads"}'),
        ({"": "x"}, "`label` is ''", "1 to 5 of a-z"),
        ({"Team": "x"}, "`label` is 'Team'", "1 to 5 of a-z"),
        ({"te am": "x"}, "`label` is 'te am'", "1 to 5 of a-z"),
        ({"sixsix": "x"}, "`label` is 'sixsix'", "1 to 5 of a-z"),
        ({"a": "sixsix"}, "`label a` is 'sixsix'", "up to 5 printable"),
        ({"a": 7}, "`label a` is '7'", "up to 5 printable"),
        ({"a": None}, "`label a` is 'null'", "up to 5 printable"),
        ({"a": " x"}, "`label a` is ' x'", "up to 5 printable"),
        ({"a": "x\t"}, r"`label a` is 'x\t'", "up to 5 printable"),
    ],
)
def test_labels_that_are_none_are_refused(labels: object, says: str, allowed: str) -> None:
    """The refusal says which one it is, what was there and what may be."""
    with pytest.raises(InvalidRequest) as caught:
        checked_labels(labels, LIMITS)
    assert caught.value.error_code == "invalid_label"
    assert says in caught.value.message
    assert allowed in str(caught.value.hint)


def test_too_many_labels_are_refused() -> None:
    """In one object, in many texts, and in two places together."""
    many = {"a": "1", "b": "2", "c": "3"}
    with pytest.raises(InvalidRequest, match="3 labels") as caught:
        checked_labels(many, LIMITS)
    assert caught.value.error_code == "too_many_labels"
    assert "job_labels_max" in str(caught.value.hint)
    with pytest.raises(InvalidRequest, match="3 labels"):
        labels_of(["a:1", "b:2", "c:3"], LIMITS)
    with pytest.raises(InvalidRequest, match="3 labels"):
        joined(Naming(labels={"a": "1"}), Naming(labels={"b": "2", "c": "3"}), LIMITS)


@pytest.mark.parametrize("text", ["team", "", "Team:x", ":x"])
def test_a_text_that_is_no_label_is_refused(text: str) -> None:
    """A label is a key, a colon and a value."""
    with pytest.raises(InvalidRequest) as caught:
        labels_of([text], LIMITS)
    assert caught.value.error_code == "invalid_label"


def test_what_is_said_twice_is_refused() -> None:
    """Which one counts would be a guess, also where both are the same."""
    a = Naming(name="a", labels={"k": "1"})
    for call in (
        lambda: labels_of(["k:1", "k:1"], LIMITS),
        lambda: joined(a, Naming(name="a"), LIMITS),
        lambda: joined(Naming(labels={"k": "1"}), a, LIMITS),
    ):
        with pytest.raises(InvalidRequest) as caught:
            call()
        assert caught.value.error_code == "duplicate_member"


def test_two_places_are_one() -> None:
    """A name from either, and the labels of both."""
    both = joined(Naming(name="a", labels={"k": "1"}), Naming(labels={"b": "2"}), LIMITS)
    assert both == Naming(name="a", labels={"b": "2", "k": "1"})
    assert joined(UNNAMED, both, LIMITS) == both
    assert joined(UNNAMED, UNNAMED, LIMITS) == UNNAMED


@given(text=st.text(max_size=300))
def test_no_text_breaks_a_refusal(text: str) -> None:
    """A text is a name as it stands, or its refusal can be shown."""
    said = _refusal(text)
    assert said is None or said.isprintable()


def _refusal(text: str) -> str | None:
    try:
        assert checked_name(text, Limits()) == text
    except InvalidRequest as error:
        return error.message
    return None
