"""Asks for what a job has so far: has the server look, and waits for the first of it."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from penstock.client.aio.wire import Wire
from penstock.client.models import JobRecord
from penstock.client.partial import ACCEPTED, LOOKS_MAX, TAKEN_AT, nothing_yet, pause_seconds


async def await_look(
    wire: Wire, get: Callable[[str], Awaitable[JobRecord]], request_id: str
) -> JobRecord:
    """Return a job that has a look or an output; raise `OutputNotReady` if there is neither.

    A newer look is asked for by the same call; whoever wants that comes again a little later.
    """
    path = f"/requests/{quote(request_id, safe='')}/output"
    for _ in range(LOOKS_MAX):
        answer = await wire.exchange("HEAD", path, params={"partial": "true"})
        job = await get(request_id)
        if answer.status_code != ACCEPTED:
            return job
        if TAKEN_AT in answer.headers or job.status != "processing":
            break
        await wire.sleep(pause_seconds(answer))
    raise nothing_yet(job)
