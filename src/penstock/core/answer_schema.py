"""Whether an answer is what its line's own response schema asks for.

A line may ask for JSON (`responseMimeType`), for a schema in Google's dialect (`responseSchema`)
or for a JSON Schema (`responseJsonSchema`). Nobody checks that the model kept to it, so we do.

Both sides are hostile. A schema is compiled with nothing fetched, with regular expressions of
linear time and bounded size, and only if it is small enough; one that cannot be compiled judges
nobody. `format` is an annotation, as JSON Schema has it by default. A verdict is never a guess:
where the work would be too much, the answer stays what it was.
"""

import re
from typing import Any, Final

import jsonschema_rs
import msgspec

from penstock.core.schema_dialect import NotJudged, Weight, to_json_schema

NOT_JSON: Final = "not_json"
SCHEMA_MISMATCH: Final = "schema_mismatch"

SCHEMA_BYTES_MAX: Final = 256 * 1024

WORK_MAX: Final = 200_000_000
"""Values of the schema times characters of the answer: seconds at worst; more is not judged."""

COMPILED_NODES_MAX: Final = 20_000_000
"""Values in all schemas that are compiled for a job: a hundred for each line, if all lines differ.
Lines whose schema comes later and is new are not judged."""

CACHED_NODES_MAX: Final = 200_000
"""Values in the compiled schemas that are kept; the oldest goes first."""

REGEX_BYTES_MAX: Final = 64 * 1024
PATH_CHARACTERS: Final = 120
_STEP_CHARACTERS: Final = 40

_ASKS: Final = re.compile(rb"response(?:MimeType|_mime_type|(?:Json|_json)?(?:Schema|_schema))")
_JSON: Final = "application/json"
_ENUM: Final = "text/x.enum"
_JUDGED_REASONS: Final = frozenset({None, "STOP", "FINISH_REASON_UNSPECIFIED"})
_UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ABSENT: Final = frozenset({b"", b"null"})
_UNPRINTABLE: Final = re.compile(r"[^ -~]")

Bytes = bytes | bytearray | memoryview | msgspec.Raw
Problem = tuple[str, str]
"""A code and a message."""


class _Config(msgspec.Struct, gc=False):
    mime: Any = msgspec.field(name="responseMimeType", default=None)
    schema: msgspec.Raw = msgspec.field(name="responseSchema", default=msgspec.Raw(b""))
    json_schema: msgspec.Raw = msgspec.field(name="responseJsonSchema", default=msgspec.Raw(b""))
    snake_mime: Any = msgspec.field(name="response_mime_type", default=None)
    snake_schema: msgspec.Raw = msgspec.field(name="response_schema", default=msgspec.Raw(b""))
    snake_json_schema: msgspec.Raw = msgspec.field(
        name="response_json_schema", default=msgspec.Raw(b"")
    )


class _Request(msgspec.Struct, gc=False):
    config: _Config | None = msgspec.field(name="generationConfig", default=None)
    snake_config: _Config | None = msgspec.field(name="generation_config", default=None)


class _Part(msgspec.Struct, gc=False):
    text: Any = None
    thought: Any = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] = []


class _Candidate(msgspec.Struct, gc=False):
    content: _Content | None = None
    reason: Any = msgspec.field(name="finishReason", default=None)


class _Answer(msgspec.Struct, gc=False):
    candidates: list[_Candidate] = []


_REQUEST: Final = msgspec.json.Decoder(_Request)
_ANSWER: Final = msgspec.json.Decoder(_Answer)
_ANY: Final = msgspec.json.Decoder()


class _Asked(msgspec.Struct, frozen=True):
    """What a request asks of its answer."""

    mime: Any
    schema: bytes
    is_google: bool
    """Whether the schema is in Google's dialect."""


class _Judge(msgspec.Struct, frozen=True):
    """A compiled schema."""

    validator: "jsonschema_rs.Validator"
    nodes: int
    is_recursive: bool


def may_ask(line: bytes | bytearray) -> bool:
    """Return whether the caller's line may ask for JSON; a cheap look at its bytes.

    Names that are spelled with escapes are overlooked; such a line is not judged.
    """
    return b"response" in line and _ASKS.search(line) is not None


class Schemas:
    """Judges the answers of one job; not for several threads at once."""

    def __init__(self) -> None:
        self._judges: dict[tuple[bool, bytes], _Judge | None] = {}
        self._cached_nodes = 0
        self._compiled_nodes = 0

    @property
    def compiled_nodes(self) -> int:
        """Values in all schemas that were compiled so far."""
        return self._compiled_nodes

    def problem(self, request: Bytes, response: Bytes) -> Problem | None:
        """Return what is wrong with the answer, None if nothing is or nobody can say.

        Takes the line's `request` and the row's `response`, both as JSON. Judged is the text of the
        first candidate, without the model's thoughts, if the model came to its end.
        """
        try:
            asked = _asked(_REQUEST.decode(request))
            text = _text(_ANSWER.decode(response))
        except _UNDECODABLE:
            return None
        if asked is None or text is None:
            return None
        if asked.mime == _ENUM:
            return self._mismatch(asked, text, len(text))
        if asked.mime is not None and asked.mime != _JSON:
            return None
        try:
            value = _ANY.decode(text)
        except RecursionError:
            return NOT_JSON, "The answer is nested too deeply to be read as JSON."
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            return NOT_JSON, f"The answer does not parse as JSON: {_printable(str(error))}."
        return self._mismatch(asked, value, len(text))

    def _mismatch(self, asked: _Asked, value: object, characters: int) -> Problem | None:
        judge = self._judge(asked) if asked.schema else None
        if judge is None or judge.nodes * characters > WORK_MAX:
            return None
        if judge.validator.is_valid(value):
            return None
        where = _where(judge, value)
        return SCHEMA_MISMATCH, f"The answer does not fit the line's response schema{where}."

    def _judge(self, asked: _Asked) -> _Judge | None:
        key = asked.is_google, asked.schema
        if key in self._judges:
            return self._judges[key]
        if len(asked.schema) > SCHEMA_BYTES_MAX or self._compiled_nodes > COMPILED_NODES_MAX:
            return None
        judge = _compiled(asked)
        # One that is not judged by was looked at too.
        nodes = len(asked.schema) if judge is None else judge.nodes
        self._compiled_nodes += nodes
        self._cached_nodes += nodes
        self._judges[key] = judge
        while self._cached_nodes > CACHED_NODES_MAX:
            first = next(iter(self._judges))
            gone = self._judges.pop(first)
            self._cached_nodes -= len(first[1]) if gone is None else gone.nodes
        return judge


def _asked(request: _Request) -> _Asked | None:
    config = request.config or request.snake_config
    if config is None:
        return None
    mime = config.snake_mime if config.mime is None else config.mime
    json_schema = _given(config.json_schema) or _given(config.snake_json_schema)
    schema = _given(config.schema) or _given(config.snake_schema)
    if not json_schema and not schema and mime != _JSON:
        return None
    return _Asked(mime, schema or json_schema, is_google=bool(schema))


def _given(schema: msgspec.Raw) -> bytes:
    found = bytes(schema)
    return b"" if found in _ABSENT else found


def _text(answer: _Answer) -> str | None:
    """Return the text to judge; None if the answer has none or did not come to its end."""
    first = answer.candidates[0] if answer.candidates else None
    if first is None or first.content is None:
        return None
    if not isinstance(first.reason, str | None) or first.reason not in _JUDGED_REASONS:
        return None
    texts = [
        part.text
        for part in first.content.parts
        if isinstance(part.text, str) and part.thought is not True
    ]
    return "".join(texts) if texts else None


def _compiled(asked: _Asked) -> _Judge | None:
    """Return the schema ready to judge, None if it is none that we judge by."""
    try:
        given = _ANY.decode(asked.schema)
        schema = to_json_schema(given) if asked.is_google else given
        weight = Weight(schema)
        validator = jsonschema_rs.validator_for(
            schema,
            validate_formats=False,
            offline=True,
            pattern_options=jsonschema_rs.RegexOptions(
                size_limit=REGEX_BYTES_MAX, dfa_size_limit=REGEX_BYTES_MAX
            ),
        )
    except (
        *_UNDECODABLE,
        NotJudged,
        jsonschema_rs.ValidationError,
        jsonschema_rs.ReferencingError,
        ValueError,
    ):
        return None
    return _Judge(validator, weight.nodes, weight.is_recursive)


def _where(judge: _Judge, value: object) -> str:
    """Return the first rule that is broken, and where; of the answer only names of members."""
    where = ""
    # Only the verdict remembers what it found; the search for a place could take for ever.
    if not judge.is_recursive:
        try:
            judge.validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            steps = [_printable(str(step))[:_STEP_CHARACTERS] for step in error.instance_path]
            place = "/" + "/".join(steps)
            where = f": rule `{error.kind.name}` at {place[:PATH_CHARACTERS]}"
    return where


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub("?", text)[:PATH_CHARACTERS]
