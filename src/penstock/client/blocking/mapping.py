# Made from penstock/client/aio/mapping.py by tools/make_blocking.py; edit that one.

"""`client.map`: a frame goes in, the same frame with the answers as columns comes back."""

import time
from tempfile import NamedTemporaryFile
from typing import Any, Protocol, TypeVar, Unpack

from penstock.client.blocking.io import INTERRUPTS, call
from penstock.client.blocking.job import Job
from penstock.client.blocking.jobs import Jobs
from penstock.client.errors import APIError, ClientError
from penstock.client.frames import ArrowStream
from penstock.client.frames_plan import (
    JOBS_IN_VAIN_MAX,
    MapOptions,
    Plan,
    attached,
    ended_in_vain,
    idempotency_key,
    other_options,
    ran_before,
    tell_again,
    tell_end,
)
from penstock.client.handle import shown_by
from penstock.client.progress import Progress
from penstock.client.prompts import Prompt

FrameT = TypeVar("FrameT", bound=ArrowStream)

_SHOWN_ROWS = 1_000
"""After so many rows more it is shown how many have been read."""


class _Client(Protocol):
    @property
    def jobs(self) -> Jobs:
        """Where jobs are submitted."""


def map_frame(
    client: _Client,
    frame: FrameT,
    *,
    prompt: Prompt,
    model: str,
    schema: Any = None,  # noqa: ANN401  # a type or a JSON schema
    **options: Unpack[MapOptions],
) -> FrameT:
    """Ask for each row of a frame, and return the frame with the answers as columns.

    `frame` is one of pandas, polars or Arrow; what else has `__arrow_c_stream__` comes back as an
    Arrow table. Rows keep their order, and pandas its index. `prompt` is a text with the names of
    columns in braces, a list of such texts and of parts in the API's own form, or a function of a
    row (a dictionary) that gives one of them or a whole request.

    Added are `_text`, or with a `schema` (a pydantic model, a dataclass, a msgspec struct, a
    TypedDict or a JSON schema) a column for each of its fields, in which lists and objects are
    JSON; and `_outcome`, `_error` (null for `ok`), `_input_tokens` and `_output_tokens` (thoughts
    included). `options` are those of `MapOptions`, among them all of a job.

    The same rows, prompt, schema and model are the same job for a week: to run a cell again is to
    get what ran, also after Ctrl-C, and not another bill. Only a job that failed as a whole or was
    cancelled is followed by a new one, and `fresh=True` always runs the rows again. What is shown
    says so. Raises `ClientError` of its kind for what cannot be asked, before anything is sent,
    and `JobFailed` for a job without an output.
    """
    shown = shown_by(options.get("progress", "auto"))
    try:
        plan = Plan(frame, prompt=prompt, schema=schema, options=options)
        if not len(plan):
            shown.note("there are no rows, so nothing was sent")
            return plan.made()  # type: ignore[no-any-return]  # the frame as it was given
        job = _submitted(client.jobs, plan, model, shown)
        _waited(job, plan, shown)
        for result in job.results():
            plan.add(result)
            if result.line % _SHOWN_ROWS == 0:
                shown.count("rows read", result.line, len(plan))
        made: FrameT = call(plan.made)
        tell_end(shown, plan, job.record)
        return made
    finally:
        shown.close()


def _submitted(jobs: Jobs, plan: Plan, model: str, shown: Progress) -> Job:
    """Return the job of these rows: the one that there is already, or a new one."""
    with NamedTemporaryFile(prefix="penstock-map-", suffix=".jsonl") as file:
        digest = call(plan.write, file, model)
        for number in range(1, JOBS_IN_VAIN_MAX + 1):
            try:
                job = jobs.submit(
                    file.name,
                    model=model,
                    idempotency_key=idempotency_key(digest, number, is_fresh=plan.is_fresh),
                    on_progress=lambda done, total: shown.transfer("sent", done, total),
                    **plan.job_options,
                )
            except APIError as error:
                if error.code == "idempotency_mismatch":
                    raise other_options() from error
                raise
            if not ran_before(job.record, time.time()):
                return job
            if not ended_in_vain(job.record):
                shown.note(attached(job.record))
                return job
    raise ClientError(
        f"the last {JOBS_IN_VAIN_MAX} jobs with these rows failed or were cancelled",
        hint="look why: client.jobs.list(), or penstock list",
    )


def _waited(job: Job, plan: Plan, shown: Progress) -> None:
    """Wait for the job's end; who interrupts is told how to come back."""
    try:
        job.wait(progress=shown, check=plan.raises)
    except INTERRUPTS as error:
        tell_again(shown, error)
        raise
