"""The class R1 of the corpus of bad input, through the application (docs/bad-input.md)."""

from collections.abc import Callable

import httpx2
import pytest
from tests.api.driver import BASE, Api, ended
from tests.corpus.r1_ranges import ASKS, DATA, SIZE, TAG, Ask

from penstock.core.job import Job


@pytest.mark.parametrize("ask", ASKS, ids=lambda ask: ask.id)
async def test_a_download_sends_at_most_one_range(
    api: Api,
    acme: httpx2.AsyncClient,
    nobody: httpx2.AsyncClient,
    new_job: Callable[..., Job],
    ask: Ask,
) -> None:
    """Status and bytes are those of the table, whatever the headers ask for."""
    job_id = await ended(api, new_job(), output=DATA)
    record = (await acme.get(f"{BASE}/requests/{job_id}")).json()
    url = str(record["outcome"]["output_url"])
    etag = (await nobody.head(url, headers={"Accept-Encoding": "identity"})).headers["etag"]
    headers = {name: value.replace(TAG, etag) for name, value in ask.headers.items()}
    answer = await nobody.get(url, headers={"Accept-Encoding": "identity", **headers})
    start, stop = ask.part
    assert answer.status_code == ask.status
    if ask.status == 416:
        assert answer.headers["content-range"] == f"bytes */{SIZE}"
        return
    assert answer.content == DATA[start:stop]
    if ask.status == 206:
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
