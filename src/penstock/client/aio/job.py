"""A handle on one job: an id, a client, and what the server said last."""

import builtins
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar, overload

from penstock.client.aio.api import AsyncApi
from penstock.client.aio.io import INTERRUPTS, Awaited, call
from penstock.client.aio.lines import AsyncLineList
from penstock.client.aio.results import AsyncResults
from penstock.client.handle import Places, Shows, check_end, shown_by, tell_interrupted, write_whole
from penstock.client.images import ImagePlace
from penstock.client.lines import LineGroups
from penstock.client.models import Download, JobRecord, Stats, TokenUsage
from penstock.client.money import Cost, Estimate
from penstock.client.notebook import job_html

T = TypeVar("T")


class AsyncJob(Awaited):
    """A job; `client.jobs.get(id)` makes the same handle again in any process on any day.

    What it knows is what the server said last: `refresh` and `wait` ask again.
    """

    def __init__(self, api: AsyncApi, record: JobRecord) -> None:
        self._api = api
        self.record = record
        """All that the server says of it."""

    @property
    def id(self) -> str:
        """The name that the server gave it."""
        return self.record.request_id

    @property
    def name(self) -> str | None:
        """The name that it was submitted under."""
        return self.record.name

    @property
    def labels(self) -> dict[str, str]:
        """The labels that it was submitted with."""
        return dict(self.record.labels or {})

    @property
    def status(self) -> str:
        """`queued`, `processing`, `success`, `failed` or `cancelled`."""
        return self.record.status

    @property
    def model(self) -> str:
        """The model that answers."""
        return self.record.target_model

    @property
    def done(self) -> bool:
        """Whether it has ended, however it did."""
        return self.record.done

    @property
    def succeeded(self) -> bool:
        """Whether it has an output; single lines may have failed."""
        return self.record.succeeded

    @property
    def ok(self) -> bool:
        """Whether it has an output in which each line ended well."""
        return self.record.succeeded and not self.record.stats.not_ok

    @property
    def counts(self) -> Stats:
        """How its lines ended."""
        return self.record.stats

    @property
    def usage(self) -> TokenUsage:
        """Its tokens."""
        return self.record.usage

    @property
    def estimate(self) -> Estimate | None:
        """What it was expected to cost, before anything was spent."""
        return self.record.estimate

    @property
    def cost(self) -> Cost | None:
        """What it did cost, once it has ended."""
        return self.record.outcome.cost if self.record.outcome else None

    async def refresh(self) -> Self:
        """Ask the server how it is, and return the handle."""
        self.record = await self._api.get(self.id)
        return self

    async def wait(
        self,
        timeout_seconds: float | None = None,
        *,
        progress: Shows = "auto",
        check: bool = False,
    ) -> Self:
        """Wait until it has ended, and return the handle.

        `progress` shows how far it is: "auto" a bar on a terminal, HTML in a notebook, a line now
        and then in a log; False nothing; a function is called with each new record. Raises
        `JobFailed` if it ends without an output, with `check` also `LinesFailed` if lines did not
        end well, and `StillRunning` when the time is over: the job itself goes on.
        """
        shown = shown_by(progress)
        try:
            self.record = await self._api.wait(
                self.id, timeout_seconds=timeout_seconds, on_poll=shown.job
            )
        except INTERRUPTS as error:
            tell_interrupted(shown, self.id, error)
            raise
        finally:
            shown.close()
        check_end(self.record, lines=check)
        return self

    @overload
    def results(self, outcome: str | Sequence[str] = ()) -> AsyncResults[str]: ...

    @overload
    def results(
        self,
        outcome: str | Sequence[str] = (),
        *,
        type: builtins.type[T],
    ) -> AsyncResults[T]: ...

    def results(
        self,
        outcome: str | Sequence[str] = (),
        *,
        type: builtins.type[Any] = str,  # noqa: A002  # the word that a reader expects
    ) -> AsyncResults[Any]:
        """Return the lines of the output in the order of the input, to be iterated over.

        They are read as they come, with one in memory; a cut is resumed, and the hash of all bytes
        compared before the last line is given. `outcome` is a word or several, such as `error`;
        only lines that ended so are given, and without `ok` among them the others are not read.
        `value` of a result is its answer as the `type`. Raises `OutputNotReady` while there is
        none, and `DigestMismatch` for wrong bytes.
        """
        outcomes = [outcome] if isinstance(outcome, str) else outcome
        return AsyncResults(self._api, self.id, outcomes, type)

    def lines(
        self,
        outcome: str | Sequence[str] = (),
        *,
        code: str | None = None,
        with_output: bool = False,
        partial: bool = False,
    ) -> AsyncLineList:
        """Return what became of each line, without reading the output; by outcome and code."""
        return self._api.lines(
            self.id, outcome=outcome, code=code, with_output=with_output, partial=partial
        )

    async def groups(self, *, partial: bool = False) -> LineGroups:
        """Return in which ways lines ended, with an example of each."""
        return await self._api.groups(self.id, partial=partial)

    async def retry(self, outcomes: Sequence[str] | None = None) -> Self:
        """Send lines that did not end well again, into the same output, and return the handle.

        `outcomes` says which, such as `["error", "missing"]`; else those of the job's own policy.
        """
        self.record = await self._api.retry(self.id, outcomes)
        return self

    async def cancel(self) -> Self:
        """Ask for its end and return the handle; it may take a while until it is cancelled."""
        self.record = await self._api.cancel(self.id)
        return self

    async def download(
        self,
        path: str | os.PathLike[str],
        *,
        progress: Shows = "auto",
        partial: bool = False,
    ) -> Download:
        """Fetch the output to a file, which appears complete and checked, or not at all.

        A cut is resumed, also by a later call. Raises `OutputNotReady`, `DigestMismatch`, and
        `DiskFull`, after which what has come is kept.
        """
        shown = shown_by(progress)
        try:
            return await self._api.download(
                self.id,
                path,
                on_progress=lambda done, total: shown.transfer("fetched", done, total),
                partial=partial,
            )
        finally:
            shown.close()

    async def images(self) -> list[ImagePlace]:
        """Return where its pictures are, in order; `image` has the bytes of each."""
        return await self._api.images(self.id)

    async def image(self, place: ImagePlace) -> bytes:
        """Return the bytes of a picture."""
        return await self._api.part(self.id, place.line, place.part)

    async def save_images(self, template: str | os.PathLike[str] = "{key}_{n}.{ext}") -> list[Path]:
        """Write its pictures to files and return their paths, in order.

        `{key}`, `{line}`, `{n}` (the picture in its line, from 1) and `{ext}` are filled in. A key
        can name no other folder, and what is no picture by its bytes is left out. Files that are
        there are replaced.
        """
        places = Places(template)
        written: list[Path] = []
        async for result in self.results():
            pictures = [one for one in result.images if one.extension is not None]
            for number, picture in enumerate(pictures, start=1):
                ext = picture.extension or ""
                path = places.place(result.key, result.line, number, ext)
                await call(write_whole, path, picture.data)
                written.append(path)
        return written

    def __repr__(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"{type(self).__name__}(id={self.id!r}{name}, status={self.status!r})"

    def _repr_html_(self) -> str:
        return job_html(self.record)
