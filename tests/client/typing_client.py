"""What types a caller gets; mypy reads this, nobody runs it."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_type

import httpx2

from penstock.client import (
    AsyncClient,
    AsyncJob,
    AsyncLineList,
    AsyncResults,
    Client,
    Cost,
    Download,
    Estimate,
    Image,
    ImagePlace,
    Job,
    JobRecord,
    Line,
    LineError,
    LineGroups,
    LineList,
    LineTokens,
    ModelPage,
    Result,
    Results,
    Retry,
    SpentReport,
    TokenUsage,
    Validation,
    Webhook,
)

MODEL = "gemini-3-flash-preview"


@dataclass
class Label:
    """What an answer is."""

    name: str


def blocks(client: Client, path: Path) -> None:
    """The client that blocks."""
    job = client.jobs.submit(
        path, model=MODEL, name="n", labels={"a": "b"}, max_cost="1.50", retry=Retry(attempts=2)
    )
    assert_type(job, Job)
    assert_type(client.jobs.submit(["a prompt"], model=MODEL, max_cost=1.5, retry=1), Job)
    assert_type(client.jobs.submit(iter([{"request": {}}]), model=MODEL), Job)
    with path.open("rb") as file:
        assert_type(client.jobs.submit(file, model=MODEL), Job)
    assert_type(client.jobs.get("req_1"), Job)
    assert_type(client.jobs.list(status="failed"), Iterator[Job])
    assert_type(client.jobs.as_completed([job]), Iterator[Job])
    assert_type(job.wait(10, progress=False, check=True), Job)
    assert_type(job.wait(progress=print), Job)
    assert_type(job.refresh(), Job)
    assert_type(job.retry(["error"]), Job)
    assert_type(job.cancel(), Job)
    assert_type(job.record, JobRecord)
    assert_type(job.name, str | None)
    assert_type(job.labels, dict[str, str])
    assert_type(job.usage, TokenUsage)
    assert_type(job.cost, Cost | None)
    assert_type(job.estimate, Estimate | None)
    assert_type(job.results(), Results[str])
    assert_type(job.results("error", type=Label), Results[Label])
    assert_type(list(job.results()), list[Result[str]])
    assert_type(job.lines(outcome=["error"]), LineList)
    assert_type([line.text for line in job.lines()], list[str])
    assert_type(job.groups(), LineGroups)
    assert_type(job.download(path), Download)
    assert_type(job.images(), list[ImagePlace])
    assert_type(job.save_images("out/{key}_{n}.{ext}"), list[Path])
    assert_type(client.validate(path, model=MODEL), Validation)
    assert_type(client.estimate(b"{}", model=MODEL, shards=2), Estimate)
    assert_type(client.models(), ModelPage)
    assert_type(client.spent(by=["day"]), SpentReport)
    assert_type(client.webhooks.list(), list[Webhook])
    assert_type(client.api.get("req_1"), JobRecord)


def of_a_line(result: Result[Label]) -> None:
    """What a result has."""
    assert_type(result.line, int)
    assert_type(result.key, str | None)
    assert_type(result.text, str)
    assert_type(result.value, Label)
    assert_type(result.parsed(int), int)
    assert_type(result.parsed(list[int]), list[int])
    assert_type(result.images, list[Image])
    assert_type(result.error, LineError | None)
    assert_type(result.usage, LineTokens)
    assert_type(result.raw, bytes)
    assert_type(result.request, dict[str, Any])


async def awaits(client: AsyncClient, path: Path) -> None:
    """The client that awaits."""
    job = await client.jobs.submit(path, model=MODEL, name="n", max_cost=1, retry=1)
    assert_type(job, AsyncJob)
    assert_type(await job, AsyncJob)
    assert_type(await job.wait(10, check=True), AsyncJob)
    assert_type(await client.jobs.get("req_1"), AsyncJob)
    assert_type(client.jobs.list(name="n"), AsyncIterator[AsyncJob])
    assert_type([each async for each in client.jobs.as_completed([job])], list[AsyncJob])
    assert_type(await job.retry(), AsyncJob)
    assert_type(job.results(), AsyncResults[str])
    assert_type([each.value async for each in job.results(type=Label)], list[Label])
    assert_type(job.lines(), AsyncLineList)
    assert_type([line async for line in job.lines()], list[Line])
    assert_type(await job.groups(), LineGroups)
    assert_type(await job.download(path, progress=False), Download)
    assert_type(await job.images(), list[ImagePlace])
    assert_type(await client.estimate(path, model=MODEL), Estimate)
    assert_type(await client.models(), ModelPage)
    assert_type(await client.api.get("req_1"), JobRecord)


async def made() -> None:
    """How clients are made."""
    with Client() as blocking:
        assert_type(blocking, Client)
    async with AsyncClient(profile="work", timeout=3) as awaiting:
        assert_type(awaiting, AsyncClient)
    Client("http://x", "k", organization="o", transport=httpx2.HTTPTransport(), sleep=print)
    AsyncClient("http://x", "k", transport=httpx2.AsyncHTTPTransport())
    Client(transport=httpx2.AsyncHTTPTransport())  # type: ignore[arg-type]  # it is of the other kind
    Client().jobs.submit("x", model=MODEL, max_cots=1)  # type: ignore[call-arg]  # it is misspelt
    Client().jobs.submit("x")  # type: ignore[call-arg]  # a model is needed
