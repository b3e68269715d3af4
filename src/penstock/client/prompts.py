"""Requests from rows: a template with the names of columns, or a function of the row.

A template knows `{column}`, and `{{` and `}}` for the braces themselves. It is not Python's format
language: no attribute, no index and no conversion can be asked for, and what a row holds is put in
as text, whatever braces are in it.
"""

import datetime as dt
import decimal
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Any, Final, Literal

import msgspec

from penstock.client.errors import ClientError

Json = dict[str, Any]
Row = dict[str, Any]
Parts = Sequence[str | Json]
Prompt = str | Parts | Callable[[Row], str | Json | Parts]
"""A template, parts of which each is a template or a part in the API's own form, or a function."""

Nulls = Literal["empty", "refuse"]

_COLUMNS_SHOWN_MAX: Final = 20
_WHERE: Final = 40


class PromptInvalid(ClientError):
    """The prompt is none, or a row cannot be put into it."""

    code = "invalid_prompt"


class Template:
    """A text with the names of columns in it."""

    def __init__(self, text: str) -> None:
        self._texts: list[str] = [""]
        self.names: list[str] = []
        place = 0
        while place < len(text):
            place = self._read(text, place)

    def _read(self, text: str, place: int) -> int:
        """Take what begins at the place, and return where it ends."""
        if text.startswith(("{{", "}}"), place):
            self._texts[-1] += text[place]
            return place + 2
        if text[place] == "}":
            raise _unbalanced(text, place, "a `}` has no `{` before it")
        if text[place] != "{":
            following = [found for brace in "{}" if (found := text.find(brace, place)) >= 0]
            end = min(following, default=len(text))
            self._texts[-1] += text[place:end]
            return end
        end = text.find("}", place)
        if end < 0:
            raise _unbalanced(text, place, "a `{` is never closed")
        name = text[place + 1 : end]
        if not name or "{" in name:
            raise _unbalanced(text, place, "there is no name of a column between the braces")
        self.names.append(name)
        self._texts.append("")
        return end + 1

    def filled(self, values: Sequence[str]) -> str:
        """Return the text with a value for each of `names`, in their order."""
        made = [self._texts[0]]
        for value, text in zip(values, self._texts[1:], strict=True):
            made += (value, text)
        return "".join(made)


class Filler:
    """Makes the `contents` of requests from rows."""

    def __init__(self, prompt: Prompt, columns: Sequence[str], *, nulls: Nulls = "empty") -> None:
        """Read the prompt; raises `PromptInvalid` where it names a column that there is not."""
        self._function = prompt if callable(prompt) else None
        self._nulls = nulls
        self._used: dict[str, None] = {}
        self._columns = list(columns)
        self._parts: list[Any] = []
        if not callable(prompt):
            if isinstance(prompt, Mapping):
                raise PromptInvalid(
                    "the prompt is one object",
                    hint='a list of parts looks like ["Describe:", {"fileData": {…}}]',
                )
            self._parts = self._compiled_parts(prompt)
            if not self._parts:
                raise PromptInvalid("the prompt is empty", hint='such as "Classify: {text}"')
        self.null_count = 0
        """Values that were null so far, and became empty text."""

    @property
    def names(self) -> list[str]:
        """The columns that are needed; all of them by a function."""
        return self._columns if self._function is not None else list(self._used)

    def request(self, row: Row, number: int) -> Json:
        """Return the request of a row; `number` is its place, from 1, for what is said of it."""
        try:
            if self._function is not None:
                return _given(self._function(row))
            values = {name: self._text(row[name], name) for name in self._used}
            return {"contents": [{"role": "user", "parts": _filled(self._parts, values)}]}
        except PromptInvalid as error:
            raise PromptInvalid(f"row {number:,}: {error.message}", hint=error.hint) from error

    def _compiled_parts(self, prompt: str | Parts) -> list[Any]:
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        return [
            {"text": self._compiled(part)} if isinstance(part, str) else self._compiled(part)
            for part in texts
        ]

    def _compiled(self, value: Any) -> Any:  # noqa: ANN401  # any JSON value
        if isinstance(value, str):
            template = Template(value)
            for name in template.names:
                self._check(name)
                self._used[name] = None
            return template if template.names else template.filled([])
        if isinstance(value, Mapping):
            return {str(name): self._compiled(child) for name, child in value.items()}
        if isinstance(value, list | tuple):
            return [self._compiled(child) for child in value]
        return value

    def _check(self, name: str) -> None:
        if name in self._columns:
            return
        close = get_close_matches(name, self._columns, n=1)
        shown = ", ".join(self._columns[:_COLUMNS_SHOWN_MAX])
        more = len(self._columns) - _COLUMNS_SHOWN_MAX
        meant = f"did you mean {{{close[0]}}}? " if close else ""
        raise PromptInvalid(
            f"the prompt names {{{name}}}, and there is no such column",
            hint=f"{meant}there are: {shown}{f' and {more:,} more' if more > 0 else ''}; "
            "braces that are meant as such are written {{ and }}",
        )

    def _text(self, value: object, name: str) -> str:
        if isinstance(value, str):
            return value
        try:
            text = text_of(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise PromptInvalid(
                f"the column {name} has a {type(value).__name__}, which is no text",
                hint="turn it into text before, or use a function as the prompt",
            ) from error
        if text is None:
            if self._nulls == "refuse":
                raise PromptInvalid(
                    f"the column {name} has no value",
                    hint='drop such rows, or let them be empty with nulls="empty"',
                )
            self.null_count += 1
            return ""
        return text


def text_of(value: Any) -> str | None:  # noqa: ANN401  # whatever is in a frame
    """Return a value of a frame as text; None where there is none (null, NaN, NaT).

    Lists and objects become JSON, dates and times ISO 8601.
    """
    plain = _plain(value)
    if plain is None or isinstance(plain, str):
        return plain
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, int | float | decimal.Decimal):
        return str(plain)
    if isinstance(plain, bytes | bytearray | memoryview):
        raise TypeError("bytes are no text")
    if isinstance(plain, dt.date | dt.time):
        return plain.isoformat()
    if isinstance(plain, dt.timedelta | uuid.UUID):
        return str(plain)
    return msgspec.json.encode(plain, enc_hook=_encodable).decode()


def _plain(value: Any) -> Any:  # noqa: ANN401  # whatever is in a frame
    """Return a value of Python for one of a library; None for each of their nulls."""
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "as_py"):
        value = value.as_py()
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float | decimal.Decimal):
        return None if math.isnan(value) else value
    # pandas has nulls of its own, which are not equal to themselves, or refuse to say.
    return None if type(value).__name__ in {"NaTType", "NAType"} else value


def _encodable(value: Any) -> Any:  # noqa: ANN401  # whatever is in a frame
    """Return what JSON has for a value within a list or an object."""
    plain = _plain(value)
    if plain is not value:
        return plain
    for name in ("tolist", "to_list", "to_dict"):
        if hasattr(value, name):
            return getattr(value, name)()
    raise TypeError(f"{type(value).__name__} is no JSON")


def _filled(value: Any, values: Mapping[str, str]) -> Any:  # noqa: ANN401  # any JSON value
    if isinstance(value, Template):
        return value.filled([values[name] for name in value.names])
    if isinstance(value, dict):
        return {name: _filled(child, values) for name, child in value.items()}
    if isinstance(value, list):
        return [_filled(child, values) for child in value]
    return value


def _given(made: object) -> Json:
    """Return the request for what a function gave."""
    if isinstance(made, str):
        return {"contents": [{"role": "user", "parts": [{"text": made}]}]}
    if isinstance(made, Mapping) and "contents" in made:
        return dict(made)
    if isinstance(made, list | tuple) and made:
        parts = [{"text": part} if isinstance(part, str) else part for part in made]
        return {"contents": [{"role": "user", "parts": parts}]}
    raise PromptInvalid(
        f"the prompt gave {type(made).__name__}",
        hint="give text, a list of parts, or a whole request with `contents`",
    )


def _unbalanced(text: str, place: int, what: str) -> PromptInvalid:
    around = text[max(place - _WHERE // 2, 0) : place + _WHERE // 2]
    return PromptInvalid(
        f"{what}, at character {place + 1}: …{around}…",
        hint="braces that are meant as such are written {{ and }}",
    )
