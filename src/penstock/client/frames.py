"""Frames of pandas, polars and Arrow: read row by row, and given back with columns more.

narwhals knows which library a frame is of and reads its rows; the columns are made and added in the
library's own words, so that an index, names that are no text and attributes stay as they are. What
else has `__arrow_c_stream__` is read through the capsule, and comes back as an Arrow table.
"""

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

from penstock.client.errors import ClientError
from penstock.client.schemas import Column, Kind

BATCH_ROWS: Final = 1_000
"""Rows that are turned into values of Python at a time."""
CHUNK_ROWS: Final = 8_192
"""Values that a column holds as objects of Python before they become the library's own."""
CHUNK_CHARACTERS_MAX: Final = 32_000_000
"""The same of the characters in all columns together."""

_READERS: Final = ("pyarrow", "polars", "pandas")
_PANDAS_TYPES: Final = {"integer": "Int64", "number": "Float64", "boolean": "boolean"}
_PANDAS_WITH_STR: Final = 3
_POLARS_TYPES: Final[dict[Kind, str]] = {
    "integer": "Int64",
    "number": "Float64",
    "boolean": "Boolean",
    "text": "String",
    "json": "String",
}
_ARROW_TYPES: Final[dict[Kind, str]] = {
    "integer": "int64",
    "number": "float64",
    "boolean": "bool_",
    "text": "string",
    "json": "string",
}
_EXPECTED: Final = "give a frame of pandas or polars, an Arrow table, or what has one inside"


class ArrowStream(Protocol):
    """What can be read through Arrow's capsule interface, as all frames can."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


class FrameInvalid(ClientError):
    """The frame is none that can be worked on, or has columns that are in the way."""

    code = "invalid_frame"


class Frame:
    """A frame of any of the libraries; only read, never changed."""

    def __init__(self, native: Any) -> None:  # noqa: ANN401  # a class of an optional dependency
        """Recognise it; raises `FrameInvalid`."""
        self._given = native
        self._data = _recognised(native)
        self._names: dict[str, Any] = {}
        for name in self._data.columns:
            self._names.setdefault(str(name), name)
        if len(self._names) < len(self._data.columns):
            raise FrameInvalid(
                "two columns have names that are the same as text",
                hint="rename one of them",
            )

    def __len__(self) -> int:
        return len(self._data)

    @property
    def columns(self) -> list[str]:
        """The names of the columns, as text."""
        return list(self._names)

    def rows(self, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the values of these columns row by row, a batch in memory at a time."""
        if not names:
            yield from (() for _ in range(len(self)))
            return
        nw = _narwhals()
        chosen = self._data.select(*(nw.col(self._names[name]) for name in names))
        yield from chosen.iter_rows(named=False, buffer_size=BATCH_ROWS)

    def check_free(self, names: Sequence[str]) -> None:
        """Raise `FrameInvalid` if a column that shall be added is there already."""
        taken = [name for name in names if name in self._names]
        if taken:
            raise FrameInvalid(
                f"the frame has a column {taken[0]} already, which would be overwritten",
                hint='say what the new ones begin with, such as prefix="answer_", or drop it',
            )
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise FrameInvalid(
                f"the schema has a field {twice[0]}, which is the name of a column of its own",
                hint="rename the field",
            )

    def builder(self, columns: Sequence[Column]) -> "Builder":
        """Return what takes the values of the columns that will be added."""
        return Builder(_library(self._data), columns)

    def with_columns(self, made: Sequence[tuple[str, Any]]) -> Any:  # noqa: ANN401  # as given
        """Return the frame as it was given, with what a builder has made."""
        return _library(self._data).added(self._data.to_native(), made, self._given)


class _Library(Protocol):
    def chunk(self, values: list[Any], kind: Kind) -> Any: ...  # noqa: ANN401  # a series

    def joined(self, name: str, chunks: list[Any], kind: Kind) -> Any: ...  # noqa: ANN401

    def added(self, native: Any, made: Sequence[tuple[str, Any]], given: Any) -> Any: ...  # noqa: ANN401


class Builder:
    """Columns that grow by a row at a time, as the library's own typed arrays."""

    def __init__(self, library: _Library, columns: Sequence[Column]) -> None:
        self._library = library
        self._columns = columns
        self._chunks: list[list[Any]] = [[] for _ in columns]
        self._open: list[list[Any]] = [[] for _ in columns]
        self._characters = 0
        self.rows = 0

    def add(self, values: Sequence[Any]) -> None:
        """Add a row: a value or None for each column."""
        for value, column in zip(values, self._open, strict=True):
            column.append(value)
            if isinstance(value, str):
                self._characters += len(value)
        self.rows += 1
        if len(self._open[0]) >= CHUNK_ROWS or self._characters >= CHUNK_CHARACTERS_MAX:
            self._close_chunk()

    def made(self) -> list[tuple[str, Any]]:
        """Return the columns with their names; nothing can be added any more."""
        self._close_chunk()
        made = []
        for number, column in enumerate(self._columns):
            chunks, self._chunks[number] = self._chunks[number], []
            made.append((column.name, self._library.joined(column.name, chunks, column.kind)))
        return made

    def _close_chunk(self) -> None:
        for number, column in enumerate(self._columns):
            self._chunks[number].append(self._library.chunk(self._open[number], column.kind))
            self._open[number] = []
        self._characters = 0


class _Pandas:
    def __init__(self, module: Any) -> None:  # noqa: ANN401  # an optional dependency
        self._pandas = module
        has_str = int(module.__version__.split(".")[0]) >= _PANDAS_WITH_STR
        self._text = "str" if has_str else "object"

    def chunk(self, values: list[Any], kind: Kind) -> Any:  # noqa: ANN401  # a series
        return self._pandas.Series(values, dtype=_PANDAS_TYPES.get(kind, self._text))

    def joined(self, name: str, chunks: list[Any], kind: Kind) -> Any:  # noqa: ANN401
        del name, kind
        return self._pandas.concat(chunks, ignore_index=True).array

    def added(self, native: Any, made: Sequence[tuple[str, Any]], given: Any) -> Any:  # noqa: ANN401
        del given
        # Arrays have no index that could be aligned with the frame's own, which may have doubles.
        levels = native.columns.nlevels
        if levels == 1:
            return native.assign(**dict(made))
        native = native.copy(deep=False)
        for name, array in made:
            native[name, *[""] * (levels - 1)] = array
        return native


class _Polars:
    def __init__(self, module: Any) -> None:  # noqa: ANN401  # an optional dependency
        self._polars = module

    def chunk(self, values: list[Any], kind: Kind) -> Any:  # noqa: ANN401  # a series
        return self._polars.Series("", values, dtype=getattr(self._polars, _POLARS_TYPES[kind]))

    def joined(self, name: str, chunks: list[Any], kind: Kind) -> Any:  # noqa: ANN401
        del kind
        return self._polars.concat(chunks, rechunk=False).alias(name)

    def added(self, native: Any, made: Sequence[tuple[str, Any]], given: Any) -> Any:  # noqa: ANN401
        del given
        return native.with_columns([series for _, series in made])


class _Arrow:
    def __init__(self, module: Any) -> None:  # noqa: ANN401  # an optional dependency
        self._arrow = module

    def chunk(self, values: list[Any], kind: Kind) -> Any:  # noqa: ANN401  # an array
        return self._arrow.array(values, type=self._type(kind))

    def joined(self, name: str, chunks: list[Any], kind: Kind) -> Any:  # noqa: ANN401
        del name
        return self._arrow.chunked_array(chunks, type=self._type(kind))

    def added(self, native: Any, made: Sequence[tuple[str, Any]], given: Any) -> Any:  # noqa: ANN401
        for name, column in made:
            native = native.append_column(name, column)
        if not isinstance(given, self._arrow.RecordBatch):
            return native
        arrays = [column.combine_chunks() for column in native.columns]
        return self._arrow.RecordBatch.from_arrays(arrays, schema=native.schema)

    def _type(self, kind: Kind) -> Any:  # noqa: ANN401  # a class of an optional dependency
        return getattr(self._arrow, _ARROW_TYPES[kind])()


def _library(data: Any) -> _Library:  # noqa: ANN401  # a frame of narwhals
    kind = data.implementation
    module = kind.to_native_namespace()
    if kind.is_pandas_like():
        return _Pandas(module)
    return _Polars(module) if kind.is_polars() else _Arrow(module)


def _recognised(native: Any) -> Any:  # noqa: ANN401  # a class of an optional dependency
    nw = _narwhals()
    name = f"{type(native).__module__}.{type(native).__qualname__}"
    try:
        found = nw.from_native(native, pass_through=True)
    except nw.exceptions.NarwhalsError as error:
        raise FrameInvalid(f"the frame cannot be read: {error}", hint=_EXPECTED) from error
    if isinstance(found, nw.LazyFrame):
        raise FrameInvalid(
            f"{name} is lazy: its rows are not there yet",
            hint="collect it first, such as frame.collect(); the answers would be asked for "
            "again with each run of the plan",
        )
    if isinstance(found, nw.DataFrame):
        return found
    if not hasattr(native, "__arrow_c_stream__") or name.endswith("Series"):
        raise FrameInvalid(f"{name} is no frame", hint=_EXPECTED)
    reader = next((one for one in _READERS if importlib.util.find_spec(one)), None)
    if reader is None:
        raise FrameInvalid(
            f"nothing is installed that could hold {name}", hint="pip install pyarrow"
        )
    return nw.from_arrow(native, backend=reader)


def _narwhals() -> Any:  # noqa: ANN401  # an optional dependency
    try:
        return importlib.import_module("narwhals")
    except ModuleNotFoundError as error:
        raise FrameInvalid(
            "frames need narwhals, which is not installed",
            hint='pip install "penstock[frames]"',
        ) from error
