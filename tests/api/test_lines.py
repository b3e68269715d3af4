import json
from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import pytest
from tests.api.driver import BASE, Api, ended
from tests.api.indexed import BAD, BLOCKED, BUSY, INDEX, OK, Made, files_of, indexed, put
from tests.fake_clock import FakeClock

from penstock.api import line_source
from penstock.api.lines import LINE_PIECE_BYTES
from penstock.blobs.spool import OUTPUT, Spool
from penstock.core.job import Job
from penstock.core.limits import Limits
from penstock.core.line import LineOutcome
from penstock.core.look import PENDING, index_name, output_name
from penstock.core.state import JobState
from penstock.store.store import Store

MakeJob = Callable[..., Job]
Json = dict[str, Any]
NOT_YET = Made(outcome=LineOutcome.MISSING, code=PENDING, is_retryable=True)
TWIN = Made(is_twin=True, round=2)
MIXED = [OK, BUSY, BLOCKED, BAD, OK, BUSY, TWIN]
NAME = "projects/p/locations/global/batchPredictionJobs/7"


async def get(client: httpx2.AsyncClient, job_id: str, rest: str = "") -> Json:
    """The answer to a question about lines."""
    answer = await client.get(f"{BASE}/requests/{job_id}/lines{rest}")
    assert answer.status_code == 200, answer.text
    value: Json = answer.json()
    return value


async def refusal(client: httpx2.AsyncClient, job_id: str, rest: str = "") -> Json:
    """How such a question is refused."""
    answer = await client.get(f"{BASE}/requests/{job_id}/lines{rest}")
    value: Json = answer.json()
    return {"status": answer.status_code, **value}


def numbers(page: Json) -> list[int]:
    """The numbers of the lines of a page."""
    return [line["line"] for line in page["lines"]]


async def walked(client: httpx2.AsyncClient, job_id: str, query: str) -> list[Json]:
    """All pages of a list, one after the other."""
    pages = [await get(client, job_id, f"?{query}")]
    while "next_cursor" in pages[-1]:
        pages.append(await get(client, job_id, f"?{query}&cursor={pages[-1]['next_cursor']}"))
    return pages


# -- pages ---------------------------------------------------------------------------------------


async def test_a_page_says_what_became_of_each_line(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Outcome, code, round, twin and tokens are those of the index, in the order of the input."""
    page = await get(acme, await indexed(api, new_job(), MIXED))
    assert (page["line_count"], page["total"], page["partial"]) == (7, 7, False)
    assert numbers(page) == [1, 2, 3, 4, 5, 6, 7]
    assert "next_cursor" not in page
    output, _ = files_of(MIXED)
    assert page["lines"][1] == {
        "line": 2,
        "outcome": "error",
        "code": "429",
        "retryable": True,
        "round": 1,
        "twin": False,
        "prompt_tokens": 2,
        "output_tokens": 4,
        "output_bytes": len(output.splitlines(keepends=True)[1]),
    }
    assert (page["lines"][6]["twin"], page["lines"][6]["round"]) == (True, 2)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("outcome=error", [2, 4, 6]),
        ("outcome=error,blocked", [2, 3, 4, 6]),
        ("outcome=error&outcome=blocked", [2, 3, 4, 6]),
        ("code=429", [2, 6]),
        ("outcome=error&code=400", [4]),
        ("outcome=blocked&code=400", []),
        ("outcome=missing", []),
        ("outcome=", [1, 2, 3, 4, 5, 6, 7]),
    ],
)
async def test_lines_are_filtered(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob, query: str, expected: list[int]
) -> None:
    """A filter gives its lines, all of them and no others, and says how many there are."""
    page = await get(acme, await indexed(api, new_job(), MIXED), f"?{query}")
    assert (numbers(page), page["total"]) == (expected, len(expected))


@pytest.mark.parametrize("query", ["", "outcome=error", "code=429", "outcome=ok,blocked"])
@pytest.mark.parametrize("limit", [1, 2, 7, 500])
async def test_pages_put_together_are_the_list(
    acme: httpx2.AsyncClient,
    api: Api,
    new_job: MakeJob,
    monkeypatch: pytest.MonkeyPatch,
    query: str,
    limit: int,
) -> None:
    """Whatever the size of pages, each line comes once and in order, over the borders of blocks."""
    monkeypatch.setattr(line_source, "BLOCK_BYTES", 64)
    made = [(OK, BUSY, BLOCKED, BAD)[number * 7 % 13 % 4] for number in range(60)]
    job_id = await indexed(api, new_job(), made)
    whole = await get(acme, job_id, f"?{query}&limit=500")
    pages = await walked(acme, job_id, f"{query}&limit={limit}&include=output")
    assert [number for page in pages for number in numbers(page)] == numbers(whole)
    assert all(len(page["lines"]) <= limit for page in pages)
    for line in (line for page in pages for line in page["lines"]):
        one = made[line["line"] - 1]
        assert (line["outcome"], line["code"]) == (one.outcome, one.code)
        assert line["output"]["key"] == line["line"]


async def test_a_job_without_lines_of_any_kind_has_an_empty_page(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """An index of nothing is no error."""
    page = await get(acme, await indexed(api, new_job(), []))
    assert (page["lines"], page["total"], page["line_count"]) == ([], 0, 0)


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "message", "hint"),
    [
        ("outcome=bad", "'bad'", "ok, truncated, blocked"),
        ("code=777", "'777'", "400, 429, SAFETY."),
        ("limit=0", "limit", None),
        ("limit=x", "limit", None),
        ("include=all", "'all'", "output"),
        ("partial=maybe", "partial", None),
        ("outcomes=error", "'outcomes'", "outcome, code, cursor"),
        ("cursor=x", "cursor", "Begin again"),
        ("cursor=%C3%A4", "cursor", "Begin again"),
        ("cursor=eCB5", "cursor", "Begin again"),
    ],
)
async def test_what_does_not_exist_is_refused(
    acme: httpx2.AsyncClient,
    api: Api,
    new_job: MakeJob,
    query: str,
    message: str,
    hint: str | None,
) -> None:
    """A filter that is misspelt never gives all lines: the refusal lists what there is."""
    refused = await refusal(acme, await indexed(api, new_job(), MIXED), f"?{query}")
    assert (refused["status"], refused["code"]) == (400, "invalid_parameter")
    assert message in refused["message"]
    assert hint is None or hint in refused["hint"]


async def test_a_refused_code_names_some_of_many(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """A job with many codes does not list them all in a refusal."""
    made = [Made(outcome=LineOutcome.ERROR, code=f"c{number:02}") for number in range(30)]
    refused = await refusal(acme, await indexed(api, new_job(), made), "?code=x")
    assert "c19, and 10 more" in refused["hint"]
    refused = await refusal(acme, await indexed(api, new_job(), [OK]), "?code=x")
    assert "none" in refused["hint"]


async def test_a_cursor_is_bound_to_its_list(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Another filter, another request and another output of the same one refuse it."""
    first, second = [await indexed(api, new_job(), MIXED) for _ in range(2)]
    cursor = (await get(acme, first, "?outcome=error&limit=1"))["next_cursor"]
    assert numbers(await get(acme, first, f"?outcome=error&cursor={cursor}")) == [4, 6]
    for job_id, query in ((first, ""), (first, "outcome=ok"), (second, "outcome=error")):
        refused = await refusal(acme, job_id, f"?{query}&cursor={cursor}")
        assert (refused["status"], refused["code"]) == (400, "invalid_parameter")


@pytest.mark.parametrize("rest", ["", "/groups", "/1"])
async def test_lines_that_nobody_knows_yet_are_a_conflict(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob, rest: str
) -> None:
    """Of a job that runs the caller hears what to do."""
    job = new_job(state=JobState.RUNNING, provider_job=NAME)
    await api.store.jobs.add(job)
    refused = await refusal(acme, job.id, rest)
    assert (refused["status"], refused["code"]) == (409, "lines_not_ready")
    assert "partial=true" in refused["hint"]
    refused = await refusal(acme, job.id, f"{rest}?partial=true")
    assert (refused["status"], refused["code"]) == (409, "lines_not_ready")
    assert "partial=true" not in refused["hint"]


async def test_a_job_from_before_has_no_lines(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """An output without an index is said to be one, and a job without an output, too."""
    refused = await refusal(acme, await ended(api, new_job(), output=b"{}\n"))
    assert (refused["status"], refused["code"]) == (404, "no_row_index")
    refused = await refusal(acme, await ended(api, new_job(), JobState.FAILED))
    assert (refused["status"], refused["code"]) == (404, "no_output")


async def test_a_foreign_request_has_no_lines(
    acme: httpx2.AsyncClient, rival: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Another tenant hears what he hears of a request that never was."""
    job_id = await indexed(api, new_job(), MIXED)
    foreign = await refusal(rival, job_id)
    assert foreign["status"] == 404
    assert foreign == await refusal(rival, "req_nobody")
    assert (await get(acme, job_id))["total"] == 7


# -- partial -------------------------------------------------------------------------------------


async def test_what_a_running_job_has_so_far_is_read_when_asked_for(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """With `partial` the lines come from what was looked at, and the answer says so."""
    output, index = files_of([OK, BUSY, NOT_YET])
    job = new_job(
        state=JobState.RUNNING,
        provider_job=NAME,
        partial_name=output_name("0" * 8, len(output), "0" * 64),
        partial_index_name=index_name("0" * 8),
        partial_lines=2,
    )
    await api.store.jobs.add(job)
    await put(api, job.id, job.partial_name or "", output)
    await put(api, job.id, job.partial_index_name or "", index)
    page = await get(acme, job.id, "?partial=true&outcome=error&include=output")
    assert (page["partial"], numbers(page)) == (True, [2])
    assert page["lines"][0]["output"]["key"] == 2
    assert (await refusal(acme, job.id))["code"] == "lines_not_ready"


# -- output --------------------------------------------------------------------------------------


@pytest.fixture
def tight(store: Store, spool: Spool, clock: FakeClock) -> Api:
    """A server whose pages hold 1,000 bytes of output and two lines."""
    limits = Limits(lines_page_bytes_max=1_000, lines_page_max=3, lines_cache_bytes_max=100)
    return Api(store, spool, clock, limits)


async def test_a_page_has_so_many_bytes_and_lines_at_most(
    acme: httpx2.AsyncClient, tight: Api, new_job: MakeJob
) -> None:
    """What does not fit comes on the next page; a line larger than any page comes without it."""
    some, huge = Made(padding=200), Made(padding=600)
    job_id = await indexed(tight, new_job(), [some, some, some, huge, some, huge, OK])
    async with tight.client() as client:
        client.headers = acme.headers
        pages = await walked(client, job_id, "include=output&limit=5")
        assert [numbers(page) for page in pages] == [[1, 2], [3, 4, 5], [6, 7]]
        outputs = [line["output"] for page in pages for line in page["lines"]]
        assert [one and one["key"] for one in outputs] == [1, 2, 3, None, 5, None, 7]
        assert [numbers(page) for page in await walked(client, job_id, "limit=5")] == [
            [1, 2, 3],
            [4, 5, 6],
            [7],
        ]


async def test_what_is_kept_of_indexes_is_bounded(
    acme: httpx2.AsyncClient, tight: Api, new_job: MakeJob
) -> None:
    """Old blocks make room for new ones, and a block that is asked for again is read again."""
    first, second = [await indexed(tight, new_job(), [OK, BUSY]) for _ in range(2)]
    async with tight.client() as client:
        client.headers = acme.headers
        for job_id in (first, second, first):
            assert (await get(client, job_id))["total"] == 2
            assert tight.line_source.kept_bytes <= 100


async def test_a_kept_index_is_not_read_again(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """The next page needs no file: what was read of the index is at hand."""
    job_id = await indexed(api, new_job(), MIXED)
    page = await get(acme, job_id)
    await api.blobs.remove(job_id, INDEX)
    assert await get(acme, job_id) == page
    assert (await get(acme, job_id, "?outcome=error"))["total"] == 3


@pytest.mark.parametrize("padding", [0, LINE_PIECE_BYTES])
async def test_a_line_is_read_whole(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob, padding: int
) -> None:
    """What the index says, and the line as it stands in the output, however large it is."""
    job_id = await indexed(api, new_job(), [OK, Made(padding=padding), BUSY])
    answer = await acme.get(f"{BASE}/requests/{job_id}/lines/2")
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["content-type"] == "application/json"
    line = answer.json()
    assert (line["request_id"], line["line"], line["outcome"]) == (job_id, 2, "ok")
    assert line["output"] == {"status": "", "key": 2, "text": "ä" * padding}
    assert (await get(acme, job_id, "/3"))["hint"]


@pytest.mark.parametrize("number", ["0", "4", "x", "-1", "²", "1" * 40])
async def test_a_line_that_is_not_there_is_not_found(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob, number: str
) -> None:
    """The refusal says which numbers there are."""
    refused = await refusal(acme, await indexed(api, new_job(), [OK] * 3), f"/{number}")
    assert (refused["status"], refused["code"]) == (404, "line_not_found")
    assert "1 to 3" in refused["hint"]


@pytest.mark.parametrize("rest", ["/2", "?include=output"])
@pytest.mark.parametrize("harm", ["shifted", "cut"])
async def test_an_output_that_is_not_the_indexs_is_an_error(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob, rest: str, harm: str
) -> None:
    """Nothing is spliced into an answer that is not a line of its own."""
    job_id = await indexed(api, new_job(), [OK, Made(padding=9)])
    output, _ = files_of([OK, Made(padding=9)])
    await put(api, job_id, OUTPUT, b"x" + output if harm == "shifted" else output[:10])
    refused = await refusal(acme, job_id, rest)
    assert (refused["status"], refused["code"]) == (500, "blob_corrupt")


async def test_a_large_line_is_where_its_index_says_or_an_error(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """What passes through block by block is refused before its first byte."""
    made = [OK, Made(padding=LINE_PIECE_BYTES)]
    job_id = await indexed(api, new_job(), made)
    await put(api, job_id, OUTPUT, b"x" + files_of(made)[0])
    refused = await refusal(acme, job_id, "/2")
    assert (refused["status"], refused["code"]) == (500, "blob_corrupt")


async def test_an_index_that_is_none_is_an_error(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Garbage in the place of an index is not shown as lines."""
    job_id = await indexed(api, new_job(), [OK])
    await put(api, job_id, INDEX, b"garbage that is long enough")
    refused = await refusal(acme, job_id)
    assert (refused["status"], refused["code"]) == (500, "blob_corrupt")


# -- groups --------------------------------------------------------------------------------------


async def test_groups_say_how_lines_ended(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """What went wrong comes first, with count, example, hint and a message without controls."""
    answer = await get(acme, await indexed(api, new_job(), [*MIXED, BLOCKED, BUSY]), "/groups")
    groups = answer["groups"]
    assert [(one["outcome"], one["code"], one["count"]) for one in groups] == [
        ("error", "429", 3),
        ("blocked", "SAFETY", 2),
        ("error", "400", 1),
        ("ok", "", 3),
    ]
    assert [one["example_line"] for one in groups] == [2, 3, 4, 1]
    assert groups[0]["message"] == "quota\\x1b[2J exceeded\\u202e"
    assert [one["retryable"] for one in groups] == [True, False, False, False]
    assert all(one["hint"] for one in groups[:3])
    assert sum(one["count"] for one in groups) == answer["line_count"] == 9


async def test_the_answers_have_the_described_members(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Real answers hold what their schemas in the document require, and nothing else."""
    job_id = await indexed(api, new_job(), MIXED)
    schemas = (await acme.get("/openapi.json")).json()["components"]["schemas"]
    page = await get(acme, job_id, "?limit=1&include=output")
    groups = await get(acme, job_id, "/groups")
    for name, value in (
        ("LinePage", page),
        ("Line", page["lines"][0]),
        ("LineGroups", groups),
        ("WholeLine", await get(acme, job_id, "/1")),
    ):
        schema = schemas[name]
        assert set(schema["required"]) <= set(value) <= set(schema["properties"]), name
    group = schemas["LineGroups"]["properties"]["groups"]["items"]
    assert set(groups["groups"][0]) == set(group["properties"])


# -- the rounds ----------------------------------------------------------------------------------


async def test_a_later_round_shows_the_lines_of_the_one_before(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """While lines are sent again the output of before stays readable, line by line."""
    output, index = files_of(MIXED)
    job = new_job(
        state=JobState.RUNNING,
        provider_job=NAME,
        round=2,
        index_name=INDEX,
        output_name=OUTPUT,
        output_bytes=len(output),
        output_sha256="0" * 64,
    )
    await put(api, job.id, INDEX, index)
    await put(api, job.id, OUTPUT, output)
    await api.store.jobs.add(msgspec.structs.replace(job, line_count=7))
    page = await get(acme, job.id, "?outcome=error&include=output")
    assert [line["output"]["key"] for line in page["lines"]] == [2, 4, 6]


def test_the_default_limits_hold_a_page() -> None:
    """A page of the most lines fits the cache, so that the next one needs no file."""
    limits = Limits()
    assert limits.lines_cache_bytes_max > 25 * limits.job_lines_max
    assert json.dumps(limits.lines_page_max)
