"""The client that people use; below it are the calls by id, `api`."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from penstock.client.aio.api import AsyncApi
from penstock.client.aio.io import call
from penstock.client.aio.jobs import AsyncJobs
from penstock.client.aio.mapping import FrameT, map_frame
from penstock.client.aio.wire import Connection
from penstock.client.frames_plan import MapOptions
from penstock.client.models import ModelPage
from penstock.client.money import Estimate, SpentReport
from penstock.client.options import JobOptions, submit_options
from penstock.client.profile import resolve
from penstock.client.prompts import Prompt
from penstock.client.sources import Source, readable
from penstock.client.validation import Validation, estimate_of


class AsyncClient:
    """A connection to one Penstock server; close it, or use it as a context manager.

    What is not given comes from the environment (`PENSTOCK_URL`, `PENSTOCK_API_KEY`,
    `PENSTOCK_ORGANIZATION`), else from the profile in use, else it is the server on this machine;
    see `penstock.client.profile`. Raises `KeyMissing`, which says what to do, if there is no key.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        profile: str | None = None,
        organization: str | None = None,
        **connection: Unpack[Connection],
    ) -> None:
        caller = resolve(url, key, organization, profile)
        self.api = AsyncApi(
            caller.url, caller.required_key(), organization=caller.organization, **connection
        )
        """The calls by id, one method each."""
        self.jobs = AsyncJobs(self.api)
        self.webhooks = self.api.webhooks
        self.url = caller.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self.api.close()

    async def validate(
        self, source: Source, *, model: str, **options: Unpack[JobOptions]
    ) -> Validation:
        """Have requests judged, and return what would become of them; nothing is kept or spent.

        What is wrong with lines is in the answer. Raises `InputInvalid` for what is no JSONL.
        """
        with await call(readable, source) as file:
            return await self.api.validate(file, model=model, **submit_options(options))

    async def estimate(
        self, source: Source, *, model: str, **options: Unpack[JobOptions]
    ) -> Estimate:
        """Return what a job with these requests is expected to cost; nothing is kept or spent.

        Raises `InputInvalid`, with their places, if lines are wrong.
        """
        return estimate_of(await self.validate(source, model=model, **options))

    async def map(
        self,
        frame: FrameT,
        *,
        prompt: Prompt,
        model: str,
        schema: Any = None,  # noqa: ANN401  # a type or a JSON schema
        **options: Unpack[MapOptions],
    ) -> FrameT:
        """Ask for each row of a frame, and return the frame with the answers as columns.

        `frame` is one of pandas, polars or Arrow; it needs `penstock[frames]`. `prompt` is a text
        with the names of columns in braces, a list of such texts and of parts in the API's own
        form, or a function of a row. Rows are neither dropped nor moved. Added are `_text`, or with
        a `schema` (a pydantic model, a dataclass, a msgspec struct, a TypedDict or a JSON schema) a
        column for each of its fields; and `_outcome`, `_error`, `_input_tokens` and
        `_output_tokens`. `options` are those of `MapOptions`, among them all of a job.

        The same rows, prompt, schema and model are the same job for a week: to run a cell again is
        to get what ran, and not another bill.
        """
        return await map_frame(self, frame, prompt=prompt, model=model, schema=schema, **options)

    async def models(self) -> ModelPage:
        """Return what the server offers."""
        return await self.api.models()

    async def spent(
        self, *, first: str | None = None, last: str | None = None, by: Sequence[str] = ()
    ) -> SpentReport:
        """Return what the organisation's jobs did cost, by day, model or key.

        Days are written as 2026-11-23, and both ends are included; without them it is the last
        thirty. A job counts on the day on which it was billed.
        """
        return await self.api.spent(first=first, last=last, by=by)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"
