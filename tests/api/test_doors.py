"""One job through every door: form of the body, compression, query and headers."""

import base64
import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from backports import zstd
from starlette.datastructures import Headers, QueryParams
from tests.api.driver import BASE, Api, files, job_ids, lines, submission

from penstock.api.doors import JSONL_TYPES, read_head
from penstock.blobs.spool import INPUT
from penstock.core.job import JobId
from penstock.core.limits import Limits
from penstock.core.models import DEFAULT_MODEL

URL = f"{BASE}/requests"
OTHER_MODEL = "gemini-3-pro-preview"
LIMITS = Limits(job_bytes_max=3_000_000, job_lines_max=20_000)
MEBIBYTE = 1_048_576
GOOD = lines(3)
Json = dict[str, Any]


@pytest.fixture
def limits() -> Limits:
    """Limits that a test can reach."""
    return LIMITS


def form(data: str, name: str = "file", **fields: str) -> tuple[str, bytes]:
    """The Content-Type and the bytes of a form."""
    parts = [f'name="{field}"\r\n\r\n{value}' for field, value in fields.items()]
    parts.append(f'name="{name}"; filename="x.jsonl"\r\n\r\n{data}')
    head = "--cut\r\nContent-Disposition: form-data; "
    body = "".join(f"{head}{part}\r\n" for part in parts) + "--cut--\r\n"
    return "multipart/form-data; boundary=cut", body.encode()


def in_json(data: str) -> tuple[str, bytes]:
    """The guide's form."""
    return "application/json", json.dumps(submission(data)).encode()


def in_base64(data: str) -> tuple[str, bytes]:
    """The guide's form with base64."""
    return in_json(base64.b64encode(data.encode()).decode())


def as_it_is(data: str) -> tuple[str, bytes]:
    """The JSONL itself."""
    return "application/jsonl", data.encode()


def in_base64_form(data: str) -> tuple[str, bytes]:
    """A form with base64."""
    return form(base64.b64encode(data.encode()).decode(), "input_data")


DOORS = [in_json, in_base64, as_it_is, form, in_base64_form]
ENCODERS: dict[str | None, Callable[[bytes], bytes]] = {
    None: bytes,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
}
every_door = pytest.mark.parametrize("door", DOORS)
every_encoding = pytest.mark.parametrize("encoding", ENCODERS)


async def send(
    client: httpx2.AsyncClient,
    sent: tuple[str, bytes],
    encoding: str | None = None,
    query: str = "",
    **headers: str,
) -> httpx2.Response:
    """Submit a body of a type, compressed or not."""
    named = {"Content-Type": sent[0]} | ({"Content-Encoding": encoding} if encoding else {})
    body = ENCODERS.get(encoding, bytes)(sent[1])
    return await client.post(URL + query, content=body, headers=named | headers)


async def nothing_stored(api: Api, tmp_path: Path) -> bool:
    """Whether there is neither a job nor a file."""
    return not await job_ids(api.store) and not files(tmp_path / "data")


@every_encoding
@every_door
async def test_a_job_is_the_same_through_every_door(
    acme: httpx2.AsyncClient,
    api: Api,
    door: Callable[[str], tuple[str, bytes]],
    encoding: str | None,
) -> None:
    """Whatever the form and the compression: the same bytes, lines, checksum and model."""
    answer = await send(acme, door(GOOD), encoding)
    assert answer.status_code == 200, answer.text
    assert answer.json()["payload"] == {"model": DEFAULT_MODEL}
    job = await api.store.jobs.load(JobId(answer.json()["request_id"]))
    assert job is not None
    digest = hashlib.sha256(GOOD.encode()).hexdigest()
    assert (job.input_sha256, job.input_bytes, job.line_count) == (digest, len(GOOD), 3)
    assert api.spool.path(job.id, INPUT).read_text() == GOOD


@every_encoding
@every_door
async def test_bad_lines_are_the_same_through_every_door(
    acme: httpx2.AsyncClient,
    api: Api,
    tmp_path: Path,
    door: Callable[[str], tuple[str, bytes]],
    encoding: str | None,
) -> None:
    """Bad lines have their number in the input, and nothing is stored."""
    one = lines(1)
    answer = await send(acme, door(f'{one}\n{{"key": 1}}\r\n{one}nonsense\n{one}'), encoding)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    assert [(bad["line"], bad["code"]) for bad in answer.json()["details"]] == [
        (3, "missing_request"),
        (5, "invalid_json"),
    ]
    assert await nothing_stored(api, tmp_path)


@every_encoding
@every_door
async def test_too_much_is_refused_through_every_door(
    acme: httpx2.AsyncClient,
    api: Api,
    tmp_path: Path,
    door: Callable[[str], tuple[str, bytes]],
    encoding: str | None,
) -> None:
    """The limits are those of the decoded input."""
    answer = await send(acme, door(lines(20_001)), encoding)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_lines")
    padded = lines(1) + " " * (LIMITS.job_bytes_max - len(lines(1))) + "\n"
    answer = await send(acme, door(padded), encoding)
    codes = {"input_too_large", "compression_bomb"} if encoding else {"input_too_large"}
    assert answer.status_code == 413
    assert answer.json()["code"] in codes
    assert await nothing_stored(api, tmp_path)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@every_door
async def test_a_bomb_stores_nothing(
    acme: httpx2.AsyncClient,
    api: Api,
    tmp_path: Path,
    door: Callable[[str], tuple[str, bytes]],
    encoding: str,
) -> None:
    """Three megabytes of blanks in three kilobytes are refused by what they would become."""
    blanks = lines(1) + " " * (LIMITS.job_bytes_max - 10_000)
    answer = await send(acme, door(blanks), encoding)
    assert (answer.status_code, answer.json()["code"]) == (413, "compression_bomb")
    assert "compression_ratio_max" in answer.json()["hint"]
    assert await nothing_stored(api, tmp_path)


@pytest.mark.slow
@every_encoding
@every_door
async def test_a_byte_too_many_stores_nothing(
    acme: httpx2.AsyncClient,
    api: Api,
    tmp_path: Path,
    door: Callable[[str], tuple[str, bytes]],
    encoding: str | None,
) -> None:
    """What compresses too little to be a bomb is refused by its decoded size, to the byte."""
    line = '{"request":{"contents":[{"parts":[{"text":"%s"}]}]}}\n'
    noise = [hashlib.shake_256(b"%d" % number).hexdigest(4_096) for number in range(400)]
    data = "".join(line % text for text in noise)[: LIMITS.job_bytes_max].rpartition("\n")[0] + "\n"
    exact = data + "\n" * (LIMITS.job_bytes_max - len(data))
    answer = await send(acme, door(exact + "\n"), encoding)
    assert (answer.status_code, answer.json()["code"]) == (413, "input_too_large")
    assert await nothing_stored(api, tmp_path)
    assert (await send(acme, door(exact), encoding)).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@every_door
async def test_a_cut_stream_stores_nothing(
    acme: httpx2.AsyncClient,
    api: Api,
    tmp_path: Path,
    door: Callable[[str], tuple[str, bytes]],
    encoding: str,
) -> None:
    """A compressed file that was cut is refused, although all of its lines came out."""
    kind, body = door(GOOD)
    headers = {"Content-Type": kind, "Content-Encoding": encoding}
    for cut in (1, 4, len(body) // 4):
        content = ENCODERS[encoding](body)[:-cut]
        answer = await acme.post(URL, content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "truncated_body")
    assert await nothing_stored(api, tmp_path)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "gzip, zstd", "x" * 3_000])
async def test_other_encodings_are_refused(
    acme: httpx2.AsyncClient, api: Api, tmp_path: Path, encoding: str
) -> None:
    """415 names the encodings that are read, before any byte of the body."""
    answer = await send(acme, as_it_is(GOOD), encoding)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert "gzip, zstd" in answer.json()["message"]
    assert await nothing_stored(api, tmp_path)


@pytest.mark.parametrize("encoding", ["identity", "", "identity, identity"])
async def test_no_encoding_may_be_said(acme: httpx2.AsyncClient, encoding: str) -> None:
    """`identity` is what a plain body has."""
    headers = {"Content-Type": "application/jsonl", "Content-Encoding": encoding}
    assert (await acme.post(URL, content=GOOD.encode(), headers=headers)).status_code == 200


@pytest.mark.parametrize("encoding", ["GZIP", "x-gzip", "identity, gzip"])
async def test_an_encoding_has_other_spellings(acme: httpx2.AsyncClient, encoding: str) -> None:
    """Names of encodings have no case, and RFC 9110 asks to take `x-gzip`."""
    headers = {"Content-Type": "application/jsonl", "Content-Encoding": encoding}
    content = gzip.compress(GOOD.encode())
    assert (await acme.post(URL, content=content, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "kind", [*(kind.decode() for kind in JSONL_TYPES), "Application/JSONL; charset=utf-8"]
)
async def test_jsonl_has_several_names(acme: httpx2.AsyncClient, kind: str) -> None:
    """No registry knows JSONL, so every common name of it is taken."""
    answer = await send(acme, (kind, GOOD.encode()))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/octet-stream", "é;=", ";"],
)
async def test_a_type_that_is_not_known_is_json(acme: httpx2.AsyncClient, kind: str) -> None:
    """Existing clients send all kinds of types with their JSON, and queries that mean nothing."""
    headers = httpx2.Headers([(b"Content-Type", kind.encode())])
    body = in_json(GOOD)[1]
    answer = await acme.post(f"{URL}?a=1&a=2&input_data=x", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["payload"] == {"model": DEFAULT_MODEL}


@pytest.mark.parametrize("door", [as_it_is, form])
async def test_a_query_names_model_and_options(
    acme: httpx2.AsyncClient, door: Callable[[str], tuple[str, bytes]]
) -> None:
    """What the body cannot say stands in the query, and is echoed."""
    answer = await send(acme, door(GOOD), None, f"?model={OTHER_MODEL}&note=a%20b&empty=")
    assert answer.status_code == 200, answer.text
    assert answer.json()["payload"] == {"note": "a b", "empty": "", "model": OTHER_MODEL}


@pytest.mark.parametrize("query", ["", f"?model={OTHER_MODEL}"])
@pytest.mark.parametrize("door", [as_it_is, form])
async def test_a_header_names_the_model(
    acme: httpx2.AsyncClient, door: Callable[[str], tuple[str, bytes]], query: str
) -> None:
    """The header is for those who may not write the query; saying it twice alike is fine."""
    answer = await send(acme, door(GOOD), None, query, **{"X-Penstock-Model": OTHER_MODEL})
    assert answer.status_code == 200, answer.text
    assert answer.json()["payload"] == {"model": OTHER_MODEL}


async def test_a_form_names_model_and_options(acme: httpx2.AsyncClient) -> None:
    """Fields of the form are echoed like members of the flat JSON."""
    answer = await send(acme, form(GOOD, model=OTHER_MODEL, note="é"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["payload"] == {"note": "é", "model": OTHER_MODEL}


async def test_a_form_of_an_http_library_is_taken(acme: httpx2.AsyncClient, api: Api) -> None:
    """What a usual client makes of a file is what we read."""
    answer = await acme.post(
        URL, data={"model": OTHER_MODEL}, files={"file": ("x.jsonl", GOOD.encode())}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["payload"] == {"model": OTHER_MODEL}
    assert api.spool.path(JobId(answer.json()["request_id"]), INPUT).read_text() == GOOD


@pytest.mark.parametrize(
    ("query", "header", "code"),
    [
        ("?model=gemini-0", None, "unknown_model"),
        ("?model=", None, "unknown_model"),
        (f"?model={OTHER_MODEL}", DEFAULT_MODEL, "ambiguous_model"),
        (f"?model={OTHER_MODEL}&model={OTHER_MODEL}", None, "duplicate_member"),
        ("?a=1&a=2", None, "duplicate_member"),
        ("?input_data=x", None, "ambiguous_input"),
    ],
)
@pytest.mark.parametrize("door", [as_it_is, form])
async def test_a_bad_query_stores_nothing(
    acme: httpx2.AsyncClient,
    api: Api,
    tmp_path: Path,
    door: Callable[[str], tuple[str, bytes]],
    query: str,
    header: str | None,
    code: str,
) -> None:
    """An unknown model, and whatever would be a guess, is refused."""
    headers = {} if header is None else {"X-Penstock-Model": header}
    answer = await send(acme, door(GOOD), None, query, **headers)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.json()["hint"]
    assert await nothing_stored(api, tmp_path)


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data;;=;"]
)
async def test_a_form_without_a_boundary_is_refused(
    acme: httpx2.AsyncClient, api: Api, tmp_path: Path, kind: str
) -> None:
    """Without a boundary there is no telling where anything ends."""
    answer = await send(acme, (kind, form(GOOD)[1]))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_multipart")
    assert await nothing_stored(api, tmp_path)


async def test_a_body_without_end_is_refused(
    acme: httpx2.AsyncClient, api: Api, tmp_path: Path
) -> None:
    """Line breaks in base64 are no input, but a body has a limit of its own."""
    breaks = rb"\n" * (LIMITS.body_bytes_max // 2 + 1)
    body = b'{"input_data": "QUJD' + breaks + b'"}'

    async def chunks() -> Any:  # noqa: ANN401  # an async generator of bytes
        for start in range(0, len(body), MEBIBYTE):
            yield body[start : start + MEBIBYTE]

    answer = await acme.post(URL, content=chunks())
    assert (answer.status_code, answer.json()["code"]) == (413, "input_too_large")
    assert await nothing_stored(api, tmp_path)


def upload(kind: str, encoding: str, length: int | None) -> Any:  # noqa: ANN401  # an Upload
    """What a head announces."""
    headers = {"content-type": kind, "content-encoding": encoding}
    if length is not None:
        headers["content-length"] = str(length)
    return read_head(Headers(headers), QueryParams())


@pytest.mark.parametrize(
    ("kind", "encoding", "most"),
    [
        ("application/json", "", LIMITS.body_bytes_max),
        ("multipart/form-data", "", LIMITS.body_bytes_max),
        ("application/jsonl", "", LIMITS.job_bytes_max + 3),
        ("application/jsonl", "gzip", LIMITS.body_bytes_max),
        ("application/json", "zstd", LIMITS.body_bytes_max),
    ],
)
async def test_a_declared_length_is_refused_early(
    acme: httpx2.AsyncClient, kind: str, encoding: str, most: int
) -> None:
    """What no good input needs is refused by the head; one byte less is not."""
    headers = {"Content-Type": kind, "Content-Encoding": encoding}
    headers["Content-Length"] = str(most + 1)
    answer = await acme.post(URL, content=b"", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "input_too_large")
    upload(kind, encoding, most).check_length(LIMITS)


@pytest.mark.parametrize(
    ("encoding", "length", "room"),
    [
        ("", None, None),
        ("", 0, 0),
        ("", 1_000, 1_000),
        ("", LIMITS.job_bytes_max + 1, LIMITS.job_bytes_max),
        ("gzip", None, None),
        ("gzip", 1_000, None),
    ],
)
def test_room_is_asked_for_what_a_body_becomes(
    encoding: str, length: int | None, room: int | None
) -> None:
    """A plain body reserves its length, up to a job's limit; of others only the end will tell."""
    assert upload("application/jsonl", encoding, length).room(LIMITS) == room
