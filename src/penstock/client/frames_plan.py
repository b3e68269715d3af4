"""What `client.map` does without a server: rows to lines, results to columns.

A plan is checked as a whole when it is made, before anything is sent: the frame, the prompt and its
columns, the schema, the names of what will be added.
"""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any, Final, Literal, cast
from uuid import uuid4

import msgspec

from penstock.client.answered import Answered, Failed
from penstock.client.errors import ClientError
from penstock.client.frames import Frame
from penstock.client.handle import Shows
from penstock.client.models import JobRecord
from penstock.client.options import JobOptions
from penstock.client.progress import Progress, Silent
from penstock.client.progress_text import dollars
from penstock.client.prompts import Filler, Nulls, Prompt, PromptInvalid, text_of
from penstock.client.schemas import Asked, Column, asked

JOBS_IN_VAIN_MAX: Final = 100
"""Jobs that failed or were cancelled and are passed over when the same rows are run again."""
CLOCKS_DIFFER_SECONDS_MAX: Final = 60.0
"""What the clocks of here and of the server may differ by."""

ERROR_CHARACTERS_MAX: Final = 2_000
"""Of a provider's message in the column of errors; the results of the job have all of it."""

_VERSION: Final = b"penstock.map.1"
_DIGEST_LETTERS: Final = 48
_TEXT: Final = Column("_text", "text")
_ABOUT: Final = (
    Column("_outcome", "text"),
    Column("_error", "text"),
    Column("_input_tokens", "integer"),
    Column("_output_tokens", "integer"),
)
_JOB_OPTIONS: Final = frozenset(JobOptions.__annotations__)


class MapOptions(JobOptions, total=False):
    """What `client.map` may be told beside the frame, the prompt and the schema."""

    key: str | None
    """The column that names the rows; their number, from 1, if left out."""
    system: str | None
    """An instruction that stands before every prompt; braces are nothing special in it."""
    generation_config: Mapping[str, Any] | None
    """Such as `{"temperature": 0, "maxOutputTokens": 500}`."""
    prefix: str
    """What the names of all columns that are added begin with."""
    progress: Shows
    """Who shows how far it is: "auto" if left out."""
    on_error: Literal["column", "raise"]
    """Rows that failed have a column that says why, or the first of them raises `LinesFailed`."""
    nulls: Nulls
    """Values that are null become empty text, or are refused."""
    fresh: bool
    """Run the rows again, and pay for them again, although they ran before."""


class Plan:
    """The rows of a frame as lines of a job, and what the frame gets of it."""

    def __init__(
        self, frame: object, *, prompt: Prompt, schema: object, options: MapOptions
    ) -> None:
        self._frame = Frame(frame)
        self._asked: Asked | None = None if schema is None else asked(schema)
        nulls = options.get("nulls", "empty")
        self._filler = Filler(prompt, self._frame.columns, nulls=nulls)
        self._key = self._checked_key(options.get("key"))
        self._options = options
        prefix = options.get("prefix", "")
        answers = (_TEXT,) if self._asked is None else self._asked.columns
        self._columns = [
            Column(prefix + column.name, column.kind) for column in (*answers, *_ABOUT)
        ]
        self._frame.check_free([column.name for column in self._columns])
        self._builder = self._frame.builder(self._columns)
        self._nothing = (None,) * len(answers)
        self.bytes_total = 0
        self.not_ok = 0
        self.retryable = 0

    def __len__(self) -> int:
        return len(self._frame)

    @property
    def null_count(self) -> int:
        """Values that were null, and became empty text."""
        return self._filler.null_count

    @property
    def job_options(self) -> JobOptions:
        """What of the options is the job's."""
        own = {name: value for name, value in self._options.items() if name in _JOB_OPTIONS}
        return cast(JobOptions, own)

    @property
    def is_fresh(self) -> bool:
        """Whether the rows are run again although they ran before."""
        return self._options.get("fresh", False)

    @property
    def raises(self) -> bool:
        """Whether a row that failed is an error of the whole."""
        return self._options.get("on_error", "column") == "raise"

    def write(self, file: IO[bytes], model: str) -> str:
        """Write a line for each row, and return what tells these lines and this model apart.

        One row is in memory at a time. Raises `PromptInvalid` for one that cannot be put in.
        """
        digest = hashlib.sha256(b"\0".join((_VERSION, model.encode(), b"")))
        for line in self._lines():
            digest.update(line)
            self.bytes_total += file.write(line)
        file.seek(0)
        return digest.hexdigest()[:_DIGEST_LETTERS]

    def add(self, result: Answered) -> None:
        """Take a result; they come in the order of the rows."""
        if result.line != self._builder.rows + 1:
            raise ClientError(
                f"the result of line {self._builder.rows + 1:,} is missing: {result.line:,} came",
                hint="nothing was put into the frame; report this",
            )
        error, usage = result.error, result.usage
        said = None
        if error is not None or result.outcome != "ok":
            self.not_ok += 1
            said = _said(error, result.outcome)
            self.retryable += error is not None and error.retryable
        values = self._values(result)
        output = usage.output_tokens + usage.thoughts_tokens
        # A row that the provider never answered has no count, which is not a count of nothing.
        tokens = (usage.prompt_tokens, output) if usage.prompt_tokens or output else (None, None)
        self._builder.add((*values, result.outcome, said, *tokens))

    def made(self) -> Any:  # noqa: ANN401  # the frame as it was given
        """Return the frame with the columns; raises `ClientError` if results are missing."""
        if self._builder.rows != len(self._frame):
            raise ClientError(
                f"there are results for {self._builder.rows:,} of {len(self._frame):,} rows",
                hint="nothing was put into the frame; report this",
            )
        return self._frame.with_columns(self._builder.made())

    def _values(self, result: Answered) -> Sequence[Any]:
        """Return what the answer has for the columns; also of one that did not end well."""
        text = result.text
        if not text:
            return self._nothing
        if self._asked is None:
            return (text,)
        return self._asked.values(text) or self._nothing

    def _checked_key(self, key: str | None) -> str | None:
        if key is not None and key not in self._frame.columns:
            raise PromptInvalid(
                f"there is no column {key} that could be the key",
                hint=f"there are: {', '.join(self._frame.columns)}",
            )
        return key

    def _lines(self) -> Iterator[bytes]:
        encode = msgspec.json.Encoder().encode
        names = list(dict.fromkeys([*self._filler.names, *([self._key] if self._key else [])]))
        beside = self._beside()
        for number, values in enumerate(self._frame.rows(names), start=1):
            row = dict(zip(names, values, strict=True))
            request = self._filler.request(row, number)
            for name, value in beside.items():
                request[name] = _merged(value, request.get(name))
            key = str(number) if self._key is None else self._key_of(row[self._key], number)
            try:
                yield encode({"key": key, "request": request}) + b"\n"
            except (TypeError, ValueError, RecursionError) as error:
                raise PromptInvalid(
                    f"row {number:,}: the request is no JSON: {error}",
                    hint="half characters and objects of libraries cannot be sent",
                ) from error

    def _beside(self) -> dict[str, Any]:
        """Return what stands in each request beside its contents."""
        beside: dict[str, Any] = {}
        system = self._options.get("system")
        if system:
            beside["systemInstruction"] = {"parts": [{"text": system}]}
        config = dict(self._options.get("generation_config") or {})
        if self._asked is not None:
            config |= self._asked.config
        if config:
            beside["generationConfig"] = config
        return beside

    def _key_of(self, value: object, number: int) -> str:
        text = text_of(value)
        if not text:
            raise PromptInvalid(
                f"row {number:,}: the column {self._key} has no value, which cannot be a key",
                hint="fill it, or leave `key` out: rows are then named by their number",
            )
        return text


def idempotency_key(digest: str, number: int, *, is_fresh: bool = False) -> str:
    """Return the key of the first job for these lines, or of one after those that failed."""
    if is_fresh:
        return f"map-{uuid4().hex}"
    return f"map-{digest}" if number == 1 else f"map-{digest}-{number}"


def ran_before(record: JobRecord, now_seconds: float) -> bool:
    """Return whether the job that a submission gave is one that was there already."""
    age = now_seconds - record.created_at
    has_moved = record.done or record.updated_at > record.created_at
    return has_moved or age > CLOCKS_DIFFER_SECONDS_MAX


def ended_in_vain(record: JobRecord) -> bool:
    """Return whether the job has ended without an output, so that its rows may run again."""
    return record.done and not record.succeeded


def attached(record: JobRecord) -> str:
    """Return the sentence for rows that a job was made of before."""
    at = datetime.fromtimestamp(record.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    ran = "ran already" if record.done else "are running already"
    return (
        f"these rows {ran}: job {record.request_id} of {at}; nothing is asked or paid "
        "again (fresh=True does)"
    )


def other_options() -> ClientError:
    """Return the error for rows that ran with other options, so that no second bill is made."""
    return ClientError(
        "these rows ran before with other options (name, labels, max_cost, retry, priority, ...)",
        hint="give the same options to get what ran, or fresh=True to run and pay them again",
    )


def tell_again(shown: Progress, error: BaseException) -> None:
    """Say how to come back to a job that goes on."""
    if isinstance(error, KeyboardInterrupt) or sys.stderr.isatty():
        shown.note("Or run the same again: it goes on with this job, and costs nothing more.")


def tell_end(shown: Progress, plan: Plan, record: JobRecord) -> None:
    """Say what came of it; who wants to see nothing is told only what went wrong."""
    if plan.not_ok or plan.null_count or not isinstance(shown, Silent):
        shown.note(_summary(plan, record))


def _summary(plan: Plan, record: JobRecord) -> str:
    cost = record.outcome.actual_cost_usd if record.outcome else None
    said = f"{len(plan):,} rows, {plan.not_ok:,} not ok" if plan.not_ok else f"{len(plan):,} rows"
    if cost:
        said += f", {dollars(cost)}"
    if plan.null_count:
        said += f"; {plan.null_count:,} null values were sent as empty text"
    if plan.retryable:
        again = f"client.jobs.get({record.request_id!r}).retry()"
        said += f"; {plan.retryable:,} may be mended by another try: {again}, and run this again"
    return said


def _said(error: Failed | None, outcome: str) -> str:
    if error is None:
        return outcome
    text = f"{error.code or outcome}: {error.message}" if error.message else error.code or outcome
    return text[:ERROR_CHARACTERS_MAX]


def _merged(ours: Mapping[str, Any], theirs: object) -> Mapping[str, Any]:
    """Return settings of all rows with those of one, which a function gave and which count more."""
    return {**ours, **theirs} if isinstance(theirs, Mapping) else ours
