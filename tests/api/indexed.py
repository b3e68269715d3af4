"""An output and its row index, as a collect would have left them."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from tests.api.driver import Api, ended

from penstock.core.job import Job, JobId
from penstock.core.line import LineOutcome
from penstock.core.line_index import TWIN, IndexWriter

INDEX = "lines.idx"
MESSAGES = {"429": "quota\x1b[2J exceeded\u202e"}


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """How one line ended."""

    outcome: LineOutcome = LineOutcome.OK
    code: str = ""
    is_retryable: bool = False
    is_twin: bool = False
    round: int = 1
    padding: int = 0
    """Characters in the line beside what it needs."""


OK = Made()
BUSY = Made(outcome=LineOutcome.ERROR, code="429", is_retryable=True)
BAD = Made(outcome=LineOutcome.ERROR, code="400")
BLOCKED = Made(outcome=LineOutcome.BLOCKED, code="SAFETY")


def output_line(number: int, one: Made) -> bytes:
    """A line of the output, which says its number."""
    failed = one.outcome in {LineOutcome.ERROR, LineOutcome.MISSING}
    line = {"status": one.code if failed else "", "key": number, "text": "ä" * one.padding}
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def files_of(made: Sequence[Made]) -> tuple[bytes, bytes]:
    """The output and the index of such lines."""
    writer, output = IndexWriter(), bytearray()
    for number, one in enumerate(made, start=1):
        line = output_line(number, one)
        message = MESSAGES.get(one.code, "")
        kind = writer.kind(one.outcome, one.code, message, retryable=one.is_retryable)
        flags = TWIN if one.is_twin else 0
        writer.add(kind, flags, one.round, len(line), (number, 2 * number))
        output += line
    return bytes(output), b"".join(bytes(piece) for piece in writer.pieces())


async def indexed(api: Api, job: Job, made: Sequence[Made], **more: Any) -> JobId:  # noqa: ANN401 - fields of a Finish
    """Store a job that has ended with such lines."""
    output, index = files_of(made)
    await put(api, job.id, INDEX, index)
    job = msgspec.structs.replace(job, line_count=len(made))
    return await ended(api, job, output=output, index_name=INDEX, **more)


async def put(api: Api, job_id: JobId, name: str, data: bytes) -> None:
    """Store a file of a job."""
    part = api.spool.begin(job_id, name)
    part.write(data)
    await api.blobs.commit(job_id, {name: part})
