"""The import of a job's input, with the rules of a BigQuery-style loader.

Vertex loads the JSON lines into a table before any inference: one column type per key path across
the whole file. One bad line fails the whole job, with code 3, and nothing is paid. This module
walks every line once, keeps the inferred schema as a tree (bounded by the number of columns) and an
index of the lines, but never the lines.
"""

import re
from array import array
from pathlib import Path
from typing import IO, Final

import orjson

from penstock.emulator.directives import delay_seconds, may_hold_directive

LINES_MAX: Final = 200_000
INPUT_BYTES_MAX: Final = 1_073_741_824
STRUCT_DEPTH_MAX: Final = 15
COLUMNS_MAX: Final = 10_000
_READ_BUFFER_BYTES: Final = 1 << 20

# What BigQuery refuses in a column name, plus the blank (seen live: `$ref`, blanks, `/`).
_BAD_IN_KEY = re.compile(r"[\s!\"$()*,./;?@\[\\\]^`{}~]")

_PREPARE = (
    "Failed to import data. Please check 'Prepare input' section in the batch prediction "
    "documentation for the input format. Error: "
)


class ImportRefusal(Exception):
    """The job fails before inference; `code` and `message` become `job.error`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def import_failure(problem: str) -> ImportRefusal:
    """A code 3 failure with the beginning that Google's messages have."""
    return ImportRefusal(3, _PREPARE + problem)


class Column:
    """What one key path has held so far, over all lines."""

    __slots__ = ("has_array", "has_null", "has_scalar", "has_struct", "members")

    def __init__(self) -> None:
        self.has_array = False
        self.has_null = False
        self.has_scalar = False
        self.has_struct = False
        self.members: dict[str, Column] = {}


class LineIndex:
    """Where each line lies; 18 bytes per line, whatever the line weighs."""

    def __init__(self) -> None:
        self._files = array("H")
        self._offsets = array("Q")
        self._lengths = array("Q")

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, file: int, offset: int, length: int) -> None:
        """Append a line."""
        self._files.append(file)
        self._offsets.append(offset)
        self._lengths.append(length)

    def locate(self, row: int) -> tuple[int, int, int]:
        """File number, offset and length of a line."""
        return self._files[row], self._offsets[row], self._lengths[row]


class Importer:
    """Feed it the files in order, then call `finish` for what only the whole input can show."""

    def __init__(self) -> None:
        self.lines = LineIndex()
        self.delay_seconds = 0.0
        self._root = Column()
        self._columns = 0
        self._files = 0
        self._bytes = 0

    def read_file(self, path: Path) -> IO[bytes]:
        """Check a file and index its lines; gives the open file, which the caller closes.

        The file stays open because the input may be deleted while the job runs. ImportRefusal for
        the first line that breaks a rule; OSError if the file is not there.
        """
        file = path.open("rb", buffering=_READ_BUFFER_BYTES)
        try:
            self._bytes += path.stat().st_size
            self._read_lines(file)
        except BaseException:
            file.close()
            raise
        self._files += 1
        return file

    def _read_lines(self, file: IO[bytes]) -> None:
        if self._bytes > INPUT_BYTES_MAX:
            raise import_failure(f"The input has more than {INPUT_BYTES_MAX} bytes.")
        offset = 0
        for line in file:
            if not line.isspace():
                self._line(line, offset)
                self.lines.add(self._files, offset, len(line))
                if len(self.lines) > LINES_MAX:
                    raise import_failure(f"The input has more than {LINES_MAX} requests.")
            offset += len(line)

    def _line(self, line: bytes, offset: int) -> None:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise import_failure(
                f"JSON parsing error in row starting at position {offset}: {error}"
            ) from error
        if not isinstance(row, dict):
            raise import_failure(
                f"JSON parsing error in row starting at position {offset}: "
                "Only JSON objects are allowed at the root of a row."
            )
        # The row itself is the table; its members are the first structs that count as nesting.
        self._struct(row, self._root, "", 0)
        if may_hold_directive(line):
            self.delay_seconds += delay_seconds(row.get("request"))

    def _struct(self, value: dict[str, object], column: Column, path: str, depth: int) -> None:
        if depth > STRUCT_DEPTH_MAX:
            raise import_failure(f"Schema nested too deeply: {path}")
        if not value:
            raise import_failure(f"Cannot store struct '{path}' with no fields")
        members = column.members
        for key, member in value.items():
            known = members.get(key)
            if known is None:
                known = members[key] = self._new_column(key, path)
            self._value(member, known, path, key, depth)

    def _new_column(self, key: str, path: str) -> Column:
        if not key or _BAD_IN_KEY.search(key):
            place = f" in '{path}'" if path else ""
            raise import_failure(
                f'Invalid field name "{key}"{place}. Fields must contain '
                "only letters, numbers, and underscores."
            )
        self._columns += 1
        if self._columns > COLUMNS_MAX:
            raise import_failure(
                f"Too many total leaf fields: {self._columns}, maximum allowed: {COLUMNS_MAX}"
            )
        return Column()

    def _value(self, value: object, column: Column, path: str, key: str, depth: int) -> None:
        if isinstance(value, str | int | float):
            if not column.has_scalar:
                column.has_scalar = True
                _check_kinds(column, f"{path}.{key}")
        elif isinstance(value, dict):
            column.has_struct = True
            here = f"{path}.{key}" if path else key
            _check_kinds(column, here)
            self._struct(value, column, here, depth + 1)
        elif isinstance(value, list):
            column.has_array = True
            here = f"{path}.{key}" if path else key
            _check_kinds(column, here)
            self._array(value, column, here, depth)
        elif not column.has_null:
            column.has_null = True
            _check_kinds(column, f"{path}.{key}")

    def _array(self, value: list[object], column: Column, path: str, depth: int) -> None:
        # The elements have a column of their own, under a key that no object member can have.
        elements = column.members.get("[]")
        if elements is None:
            elements = column.members["[]"] = Column()
        for element in value:
            if element is None:
                raise import_failure(
                    f"Only optional fields can be set to NULL. Field: {path}; Value: NULL"
                )
            if isinstance(element, list):
                self._array(element, elements, path, depth)
            else:
                self._value(element, elements, path, "[]", depth)

    def finish(self) -> None:
        """ImportRefusal for an input without lines or without any `request`."""
        if not len(self.lines):
            raise import_failure("The input has no requests.")
        if "request" not in self._root.members:
            raise import_failure('The input has no column "request".')


def _check_kinds(column: Column, path: str) -> None:
    """One column is an array or it is not, a struct or a scalar, over the whole file."""
    if column.has_array and column.has_null:
        raise import_failure(f"Only optional fields can be set to NULL. Field: {path}; Value: NULL")
    if column.has_array and (column.has_scalar or column.has_struct):
        raise import_failure(
            f"Field {path.lstrip('.')} has changed mode from NULLABLE to REPEATED: "
            "Array specified for non-repeated field."
        )
    if column.has_struct and column.has_scalar:
        raise import_failure(f"Field {path.lstrip('.')} has changed type from STRING to RECORD.")
