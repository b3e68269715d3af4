import datetime as dt
import uuid
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # it has no types
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.prompts import Filler, Prompt, PromptInvalid, Template, text_of

NAMES = st.text(st.characters(exclude_characters="{}"), min_size=1, max_size=8)


def parts(prompt: Prompt, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parts that a prompt makes of a row."""
    made: list[dict[str, Any]] = Filler(prompt, list(row)).request(row, 1)["contents"][0]["parts"]
    return made


def filled(prompt: str, **row: object) -> str:
    """Return the text that a template makes of a row."""
    text: str = parts(prompt, row)[0]["text"]
    return text


@given(pieces=st.lists(st.one_of(NAMES.map(lambda name: ("column", name)), st.text(max_size=8))))
def test_any_text_and_any_columns_come_out_as_they_are(pieces: list[tuple[str, str] | str]) -> None:
    """Braces that are escaped are braces, and a value is put in whatever is in it."""
    row = {piece[1]: f"{{{piece[1]}}} {{0.x}} }}" for piece in pieces if isinstance(piece, tuple)}
    template, expected = "", ""
    for piece in pieces:
        if isinstance(piece, tuple):
            template += f"{{{piece[1]}}}"
            expected += row[piece[1]]
        else:
            template += piece.replace("{", "{{").replace("}", "}}")
            expected += piece
    made = Template(template)
    assert made.filled([row[name] for name in made.names]) == expected


@given(text=st.text("{}a.!:[0] ", max_size=12))
def test_a_template_is_read_or_refused(text: str) -> None:
    """No text makes anything but a template or a refusal that shows the place."""
    try:
        names, said = Template(text).names, "at character"
    except PromptInvalid as error:
        names, said = [], error.message
    assert "at character" in said
    assert all(name and "{" not in name for name in names)


@pytest.mark.parametrize(
    "prompt", ["{review.__class__}", "{review[0]}", "{review!r}", "{review:>10}", "{0}"]
)
def test_it_is_not_a_format_string(prompt: str) -> None:
    """Attributes, indexes, conversions and formats are names of columns, which there are not."""
    with pytest.raises(PromptInvalid) as refused:
        filled(prompt, review="secret")
    assert "there are: review" in str(refused.value.hint)


def test_an_unknown_column_is_refused_at_once() -> None:
    """The refusal names what was meant, what there is, and how to write a brace."""
    with pytest.raises(PromptInvalid, match=r"names \{reviw\}") as refused:
        Filler("Classify: {reviw}", ["id", "review"])
    assert refused.value.hint == (
        "did you mean {review}? there are: id, review; "
        "braces that are meant as such are written {{ and }}"
    )
    with pytest.raises(PromptInvalid) as refused:
        Filler("{zzz}", [f"column{number}" for number in range(30)])
    assert "column19 and 10 more;" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a } b", "a `}` has no `{` before it, at character 3"),
        ("a { b", "a `{` is never closed, at character 3"),
        ("a {} b", "there is no name of a column between the braces, at character 3"),
        ("a {b{c}", "there is no name of a column between the braces, at character 3"),
        ([], "the prompt is empty"),
        ({"text": "x"}, "the prompt is one object"),
    ],
)
def test_what_is_no_prompt(prompt: Any, said: str) -> None:  # noqa: ANN401  # whatever is given
    """It is refused before anything is read, with the place."""
    with pytest.raises(PromptInvalid) as refused:
        Filler(prompt, ["b"])
    assert said in refused.value.message


def test_parts_are_filled_too() -> None:
    """A list may mix texts with parts of the API's own form, whose texts are templates as well."""
    prompt: list[Any] = [
        "Describe {n}",
        {"fileData": {"fileUri": "{uri}", "n": [1, "{n}", True]}},
        "{{}}",
    ]
    assert parts(prompt, {"n": 2, "uri": "gs://a/{n}"}) == [
        {"text": "Describe 2"},
        {"fileData": {"fileUri": "gs://a/{n}", "n": [1, "2", True]}},
        {"text": "{}"},
    ]


def test_a_function_makes_what_it_likes() -> None:
    """A row may become text, parts or a whole request; anything else is refused with its row."""
    whole = {"contents": [{"parts": [{"text": "x"}]}], "labels": {"a": "b"}}
    assert Filler(lambda _: whole, ["a"]).request({"a": 1}, 1) == whole
    assert parts(lambda row: f"{{a}} {row['a']}", {"a": 1}) == [{"text": "{a} 1"}]
    assert parts(lambda _: ["x", {"text": "y"}], {}) == [{"text": "x"}, {"text": "y"}]
    assert Filler(lambda _: "x", ["a", "b"]).names == ["a", "b"]
    wrongs: list[Any] = [None, [], {"parts": []}, 7]
    for wrong in wrongs:
        function: Any = partial(lambda wrong, _: wrong, wrong)
        with pytest.raises(PromptInvalid, match=r"row 1,204: the prompt gave"):
            Filler(function, ["a"]).request({"a": 1}, 1204)


def test_nulls_are_counted_or_refused() -> None:
    """What has no value becomes empty text, which is counted, unless nulls are refused."""
    filler = Filler("{a}|{b}", ["a", "b"])
    nulls = (None, float("nan"), pd.NaT, pd.NA, np.float64("nan"), Decimal("NaN"))
    for null in nulls:
        assert filler.request({"a": null, "b": 1}, 1)["contents"][0]["parts"] == [{"text": "|1"}]
    assert filler.null_count == len(nulls)
    with pytest.raises(PromptInvalid, match="row 3: the column a has no value"):
        Filler("{a}", ["a"], nulls="refuse").request({"a": None}, 3)


class Colour(Enum):
    """A value of an enumeration."""

    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (True, "true"),
        (np.bool_(False), "false"),  # noqa: FBT003  # a value of numpy
        (np.int64(7), "7"),
        (1.5, "1.5"),
        (Decimal("1.10"), "1.10"),
        (dt.date(2026, 11, 23), "2026-11-23"),
        (pd.Timestamp("2026-11-23 10:00"), "2026-11-23T10:00:00"),
        (dt.time(10, 30), "10:30:00"),
        (dt.timedelta(hours=1), "1:00:00"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Colour.RED, "red"),
        (pa.scalar("ü"), "ü"),
        ({"a": [1, None, "ü"]}, '{"a":[1,null,"ü"]}'),
        (np.array([1, 2]), "[1,2]"),
        (pl.Series([1, None]), "[1,null]"),
        (
            [float("nan"), dt.date(2026, 1, 1), Decimal("1.5"), np.int64(3), Colour.RED, pd.NA],
            '[null,"2026-01-01","1.5",3,"red",null]',
        ),
    ],
)
def test_values_as_text(value: object, text: str) -> None:
    """Numbers, dates and nested values have one text each, whatever library they are of."""
    assert text_of(value) == text


@pytest.mark.parametrize("value", [b"x", memoryview(b"x"), object(), [object()]])
def test_what_is_no_text(value: object) -> None:
    """Bytes and objects are refused with their row and column, and not written as their name."""
    with pytest.raises(PromptInvalid, match=r"row 2: the column a has a \w+, which is no text"):
        Filler("{a}", ["a"]).request({"a": value}, 2)
