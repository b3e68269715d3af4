import datetime as dt
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd  # type: ignore[import-untyped]  # it has no types
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client import frames
from penstock.client.frames import Frame, FrameInvalid
from penstock.client.schemas import Column

COLUMNS = (
    Column("_text", "text"),
    Column("_n", "integer"),
    Column("_x", "number"),
    Column("_b", "boolean"),
    Column("_j", "json"),
)
NOTHING = (None,) * len(COLUMNS)
ROW = ("ü", 2**53 + 1, 0.5, True, "[1]")

VALUES = st.tuples(
    st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
    st.none() | st.floats(allow_nan=False),
    st.none() | st.booleans(),
    st.none() | st.just("{}"),
)


def added(native: Any, rows: Sequence[tuple[Any, ...]]) -> Any:  # noqa: ANN401  # any frame
    """Return a frame with these values in the columns that are added."""
    frame = Frame(native)
    frame.check_free([column.name for column in COLUMNS])
    builder = frame.builder(COLUMNS)
    for row in rows:
        builder.add(row)
    return frame.with_columns(builder.made())


def plain(value: Any) -> Any:  # noqa: ANN401  # a value of any library
    """Return a value of pandas as Python's own."""
    return None if pd.isna(value) else value


@given(rows=st.lists(VALUES, max_size=8))
def test_what_goes_in_comes_out(rows: list[tuple[Any, ...]]) -> None:
    """Each library gets the same values back, in order, with nulls and large numbers unharmed."""
    own = list(range(len(rows)))
    of_pandas = added(pd.DataFrame({"a": own}), rows)
    values = [of_pandas[column.name].tolist() for column in COLUMNS]
    found = [tuple(map(plain, row)) for row in zip(*values, strict=True)]
    assert found == rows
    assert added(pl.DataFrame({"a": own}), rows).select(pl.exclude("a")).rows() == rows
    table = added(pa.table({"a": pa.array(own, pa.int64())}), rows).drop_columns(["a"])
    assert [tuple(row.values()) for row in table.to_pylist()] == rows


def test_types_of_the_columns() -> None:
    """Columns are typed as the library does it, also where no row has a value."""
    of_pandas = added(pd.DataFrame({"a": [1]}), [NOTHING])
    assert [str(kind) for kind in of_pandas.dtypes[1:]] == [
        "str",
        "Int64",
        "Float64",
        "boolean",
        "str",
    ]
    assert added(pl.DataFrame({"a": [1]}), [NOTHING]).dtypes[1:] == [
        pl.String,
        pl.Int64,
        pl.Float64,
        pl.Boolean,
        pl.String,
    ]
    table = added(pa.table({"a": [1]}), [NOTHING])
    assert table.schema.types[1:] == [
        pa.string(),
        pa.int64(),
        pa.float64(),
        pa.bool_(),
        pa.string(),
    ]


INDEXES = [
    pd.Index([7, 7]),
    pd.Index(["b", "a"], name="i"),
    pd.MultiIndex.from_tuples([(1, "x"), (1, "x")], names=["p", "q"]),
    pd.DatetimeIndex(["2026-01-02", "2026-01-01"]),
]


@pytest.mark.parametrize("index", INDEXES)
def test_an_index_is_kept(index: pd.Index) -> None:
    """Whatever the index is, doubles included, rows keep it and their order."""
    frame = pd.DataFrame({"a": [1, 2]}, index=index)
    frame.attrs["source"] = "x"
    made = added(frame, [ROW, NOTHING])
    assert made.index.equals(index)
    assert made.index.names == index.names
    assert made["_text"].tolist()[0] == "ü"
    assert made.attrs == {"source": "x"}
    assert list(frame.columns) == ["a"]


def test_names_that_are_no_text() -> None:
    """Numbers, dates or tuples as names are read as text, and given back as they were."""
    frame = pd.DataFrame({0: [1], ("a", "b"): [2], dt.date(2026, 1, 1): [3]})
    assert Frame(frame).columns == ["0", "('a', 'b')", "2026-01-01"]
    assert list(Frame(frame).rows(["2026-01-01", "0"])) == [(3, 1)]
    assert list(added(frame, [ROW]).columns)[:3] == list(frame.columns)
    nested = pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")]))
    assert list(added(nested, [ROW]).columns)[:2] == [("a", "b"), ("_text", "")]
    assert list(nested.columns) == [("a", "b")]


class Capsule:
    """What is no frame of any library, but has Arrow's capsule."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def test_each_kind_comes_back_as_it_was() -> None:
    """The kind that is given is the kind that is returned; a capsule comes back as a table."""
    data = {"a": [1, 2]}
    for native in (
        pd.DataFrame(data),
        pl.DataFrame(data),
        pa.table(data),
        pa.RecordBatch.from_pydict(data),
    ):
        assert type(added(native, [ROW, NOTHING])) is type(native)
    empty = pa.RecordBatch.from_pydict({"a": pa.array([], pa.int64())})
    assert added(empty, []).num_rows == 0
    made = added(Capsule(pa.table(data)), [ROW, NOTHING])
    assert made.column_names == ["a", *(column.name for column in COLUMNS)]
    reader = pa.RecordBatchReader.from_batches(pa.schema({"a": pa.int64()}), [])
    assert added(reader, []).num_rows == 0


def test_many_rows_are_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A column is built of chunks of bounded size, by rows and by characters."""
    monkeypatch.setattr(frames, "CHUNK_ROWS", 3)
    rows = [(str(number), number, None, None, None) for number in range(10)]
    table = added(pa.table({"a": list(range(10))}), rows)
    assert [len(chunk) for chunk in table["_n"].chunks] == [3, 3, 3, 1]
    assert table["_n"].to_pylist() == list(range(10))
    monkeypatch.setattr(frames, "CHUNK_CHARACTERS_MAX", 2)
    assert added(pa.table({"a": list(range(10))}), rows)["_n"].num_chunks == 6
    of_pandas = added(pd.DataFrame({"a": list(range(10))}), rows)
    assert of_pandas["_n"].tolist() == of_pandas["a"].tolist()


def test_rows_without_columns() -> None:
    """A prompt without columns still has a row for each row."""
    assert list(Frame(pl.DataFrame({"a": [1, 2]})).rows([])) == [(), ()]
    assert len(Frame(pl.DataFrame({"a": [1, 2]}))) == 2


@pytest.mark.parametrize(
    ("native", "said", "hint"),
    [
        (pl.LazyFrame({"a": [1]}), "is lazy", "collect it first"),
        ([{"a": 1}], "builtins.list is no frame", "give a frame"),
        (pl.Series([1]), "is no frame", "give a frame"),
        (pd.Series([1]), "is no frame", "give a frame"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "unique column names", "give a frame"),
        (pd.DataFrame([[1, 2]], columns=["1", 1]), "the same as text", "rename one of them"),
    ],
)
def test_what_is_no_frame(native: object, said: str, hint: str) -> None:
    """It is refused at once, with what to do."""
    with pytest.raises(FrameInvalid) as refused:
        Frame(native)
    assert said in refused.value.message
    assert hint in str(refused.value.hint)


def test_no_column_is_overwritten() -> None:
    """A column that is there is refused with `prefix`, and so is a field named like one of ours."""
    frame = Frame(pl.DataFrame({"_text": ["x"]}))
    with pytest.raises(FrameInvalid, match="has a column _text already") as refused:
        frame.check_free(["_text", "_outcome"])
    assert 'prefix="answer_"' in str(refused.value.hint)
    with pytest.raises(FrameInvalid, match="the schema has a field _outcome"):
        frame.check_free(["_outcome", "_outcome"])


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without narwhals, or without anything that could hold a capsule, pip's command is told."""
    table = pa.table({"a": [1]})
    with monkeypatch.context() as patch:
        patch.setattr(frames, "_READERS", ("no_such_library",))
        with pytest.raises(FrameInvalid) as refused:
            Frame(Capsule(table))
        assert refused.value.hint == "pip install pyarrow"
    monkeypatch.setitem(sys.modules, "narwhals", None)
    with pytest.raises(FrameInvalid, match="frames need narwhals") as refused:
        Frame(table)
    assert refused.value.hint == 'pip install "penstock[frames]"'
