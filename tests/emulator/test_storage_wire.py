"""The storage APIs at the wire, where the clients of others do not look."""

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import google_crc32c
import httpx2
import pytest
from tests.emulator.driver import Emulator

UPLOAD = "/upload/storage/v1/b/penstock/o"
CHUNK = 256 * 1024


def reason(answer: httpx2.Response) -> str:
    """The reason of a JSON refusal."""
    word = answer.json()["error"]["errors"][0]["reason"]
    assert isinstance(word, str)
    return word


def begin(emulator: Emulator, name: str, **more: str) -> str:
    """Start a resumable session and give its address."""
    answer = emulator.http.post(UPLOAD, params={"uploadType": "resumable", "name": name, **more})
    assert answer.status_code == 200
    return str(answer.headers["location"])


def send(emulator: Emulator, session: str, body: bytes, span: str) -> httpx2.Response:
    """One PUT of a session."""
    return emulator.http.put(session, content=body, headers={"Content-Range": f"bytes {span}"})


def test_media_upload_and_resource(shared: Emulator) -> None:
    """Numbers are text, the CRC32C is base64 of four bytes, the MD5 is there."""
    params = {"uploadType": "media", "name": "m/a"}
    made = shared.http.post(UPLOAD, params=params, content=b"hello").json()
    assert (made["size"], made["metageneration"], made["name"]) == ("5", "1", "m/a")
    assert made["generation"].isdigit()
    crc = google_crc32c.Checksum(b"hello").digest()
    assert base64.b64decode(made["crc32c"]) == crc
    assert made["md5Hash"] == "XUFAKrxLKna5cZ2REBfFkg=="
    head = shared.http.head("/penstock/m%2Fa")
    assert head.headers["x-goog-hash"] == f"crc32c={made['crc32c']},md5={made['md5Hash']}"
    assert head.headers["content-length"] == "5"


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_multipart_upload_with_either_line_end(shared: Emulator, end: bytes) -> None:
    """CRLF or bare LF; data that looks like line ends and delimiters stays whole."""
    data = b"\r\n--\r\n--x\n\r\n\xff\x00\r\n"
    body = end.join(
        [
            b"--xyz",
            b"Content-Type: application/json",
            b"",
            b'{"name": "mp", "metadata": {"a": "b"}}',
            b"--xyz",
            b"Content-Type: text/plain",
            b"",
            data,
            b"--xyz--",
            b"",
        ]
    )
    headers = {"Content-Type": 'multipart/related; boundary="xyz"'}
    answer = shared.http.post(
        UPLOAD, params={"uploadType": "multipart"}, content=body, headers=headers
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["contentType"] == "text/plain"
    assert shared.read("mp") == data


def test_a_cut_multipart_body_is_refused(shared: Emulator) -> None:
    """Without the closing boundary nothing is stored."""
    headers = {"Content-Type": "multipart/related; boundary=xyz"}
    body = b'--xyz\r\n\r\n{"name": "cut"}\r\n--xyz\r\n\r\ndata'
    answer = shared.http.post(
        UPLOAD, params={"uploadType": "multipart"}, content=body, headers=headers
    )
    assert answer.status_code == 400
    assert "cut" not in shared.names()


def test_resumable_semantics(shared: Emulator) -> None:
    """308 with what is kept, repeated chunks, status queries, the same answer after the end."""
    session = begin(shared, "r1")
    first = send(shared, session, b"a" * CHUNK, f"0-{CHUNK - 1}/*")
    assert (first.status_code, first.headers["range"]) == (308, f"bytes=0-{CHUNK - 1}")
    assert "location" not in first.headers
    again = send(shared, session, b"a" * CHUNK, f"0-{CHUNK - 1}/*")
    assert again.headers["range"] == f"bytes=0-{CHUNK - 1}"
    assert send(shared, session, b"", "*/*").status_code == 308
    assert send(shared, session, b"z", f"{CHUNK + 7}-{CHUNK + 7}/*").status_code == 400
    last = send(shared, session, b"bc", f"{CHUNK}-{CHUNK + 1}/{CHUNK + 2}")
    assert last.status_code == 200
    assert send(shared, session, b"", "*/*").json() == last.json()
    assert shared.read("r1") == b"a" * CHUNK + b"bc"


def test_resumable_keeps_multiples_of_256_kib(shared: Emulator) -> None:
    """It may keep less than was sent; nothing kept means no Range header."""
    session = begin(shared, "r2")
    assert "range" not in send(shared, session, b"a" * 100, "0-99/*").headers
    assert send(shared, session, b"a" * 100, "0-99/100").status_code == 200


def test_a_cancelled_session_answers_499(shared: Emulator) -> None:
    """DELETE gives 499, and so does the session from then on; an unknown one is 404."""
    session = begin(shared, "r3")
    assert shared.http.delete(session).status_code == 499
    assert send(shared, session, b"", "*/*").status_code == 499
    assert shared.http.put(session + "x", content=b"").status_code == 404


def test_a_wrong_checksum_is_refused(shared: Emulator) -> None:
    """400 invalid in the finishing request, and no object."""
    session = begin(shared, "r4")
    headers = {"Content-Range": "bytes 0-2/3", "X-Goog-Hash": "crc32c=AAAAAA=="}
    answer = shared.http.put(session, content=b"abc", headers=headers)
    assert (answer.status_code, reason(answer)) == (400, "invalid")
    wrong = shared.http.put("/penstock/r4", content=b"x", headers={"Content-MD5": "AAAA"})
    assert "<Code>BadDigest</Code>" in wrong.text
    assert "r4" not in shared.names()


@pytest.mark.parametrize(
    ("header", "status", "body"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=-99", 206, b"0123456789"),
        ("bytes=5-99", 206, b"56789"),
        ("bytes=0-1,3-4", 200, b"0123456789"),
        ("items=1-2", 200, b"0123456789"),
        ("bytes=10-", 416, None),
        ("bytes=-0", 416, None),
    ],
)
@pytest.mark.parametrize("path", ["/penstock/ten", "/storage/v1/b/penstock/o/ten?alt=media"])
def test_ranges(shared: Emulator, header: str, status: int, body: bytes | None, path: str) -> None:
    """First, last, suffix and impossible ranges on both APIs."""
    shared.put("ten", b"0123456789")
    answer = shared.http.get(path, headers={"Range": header})
    assert answer.status_code == status
    if body is not None:
        assert answer.content == body
    if status == 206:
        assert answer.headers["content-range"].endswith("/10")


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"ifGenerationMatch": "0"}, 412),
        ({"ifGenerationMatch": "1"}, 412),
        ({"ifGenerationNotMatch": "0"}, 200),
        ({"ifMetagenerationMatch": "1"}, 200),
        ({"ifMetagenerationMatch": "2"}, 412),
        ({"ifMetagenerationNotMatch": "1"}, 412),
        ({"ifGenerationMatch": "x"}, 400),
    ],
)
def test_preconditions(shared: Emulator, params: dict[str, str], status: int) -> None:
    """On reading and on writing."""
    shared.put("pre", b"x")
    read = shared.http.get("/storage/v1/b/penstock/o/pre", params=params)
    assert read.status_code == status
    query = {"uploadType": "media", "name": "pre", **params}
    answer = shared.http.post(UPLOAD, params=query, content=b"y")
    assert answer.status_code == status
    if status == 412:
        assert reason(answer) == "conditionNotMet"


def test_xml_preconditions_and_etags(shared: Emulator) -> None:
    """x-goog-if-generation-match on PUT, If-Match and If-None-Match on GET."""
    headers = {"x-goog-if-generation-match": "0"}
    assert shared.http.put("/penstock/once", content=b"1", headers=headers).status_code == 200
    answer = shared.http.put("/penstock/once", content=b"2", headers=headers)
    assert (answer.status_code, "<Code>PreconditionFailed</Code>" in answer.text) == (412, True)
    etag = shared.http.head("/penstock/once").headers["etag"]
    get = shared.http.get
    assert get("/penstock/once", headers={"If-None-Match": etag}).status_code == 304
    assert get("/penstock/once", headers={"If-Match": etag}).status_code == 200
    assert get("/penstock/once", headers={"If-Match": '"other"'}).status_code == 412


def test_json_list_pages_and_prefixes(emulator: Emulator) -> None:
    """Every object and every common prefix once, in order, whatever the page size."""
    for name in ("a/1", "a/2", "b", "c/d/1", "c/d/2", "c/e", "d"):
        emulator.put(name, b"x")
    seen: list[str] = []
    token = ""
    while True:
        params: dict[str, Any] = {"delimiter": "/", "maxResults": 1, "pageToken": token}
        page = emulator.http.get("/storage/v1/b/penstock/o", params=params).json()
        seen += [item["name"] for item in page.get("items", [])] + page.get("prefixes", [])
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert seen == ["a/", "b", "c/", "d"]
    inner = emulator.http.get(
        "/storage/v1/b/penstock/o", params={"prefix": "c/", "delimiter": "/"}
    ).json()
    assert (inner["prefixes"], [i["name"] for i in inner["items"]]) == (["c/d/"], ["c/e"])
    between = {"startOffset": "b", "endOffset": "c/e"}
    found = emulator.http.get("/storage/v1/b/penstock/o", params=between).json()
    assert [item["name"] for item in found["items"]] == ["b", "c/d/1", "c/d/2"]


def test_xml_multipart_refusals_and_abort(shared: Emulator) -> None:
    """Small parts, missing parts, bad order, unknown uploads; an abort forgets all."""
    started = shared.http.post("/penstock/parts?uploads").text
    upload = started.partition("<UploadId>")[2].partition("</UploadId>")[0]
    for number in (1, 2):
        put = shared.http.put(
            f"/penstock/parts?partNumber={number}&uploadId={upload}", content=b"x"
        )
        assert put.headers["etag"]

    def complete(*numbers: int) -> str:
        parts = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>x</ETag></Part>" for n in numbers)
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
        return shared.http.post(f"/penstock/parts?uploadId={upload}", content=body).text

    assert "EntityTooSmall" in complete(1, 2)
    assert "InvalidPartOrder" in complete(2, 1)
    assert "InvalidPart<" in complete(1, 3)
    bad = shared.http.put(f"/penstock/parts?partNumber=0&uploadId={upload}", content=b"x")
    assert bad.status_code == 400
    assert shared.http.delete(f"/penstock/parts?uploadId={upload}").status_code == 204
    assert "NoSuchUpload" in complete(1)


MIB = 1 << 20


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ([(1, 5), (2, 5), (3, 5), (4, 1)], [1, 2, 3, 4]),
        ([(2, 5), (1, 5), (3, 5)], [1, 2, 3]),
        ([(3, 1), (2, 5), (1, 5)], [1, 2, 3]),
        ([(1, 5), (2, 5), (2, 5), (3, 6), (4, 5)], [1, 2, 3, 4]),
        ([(1, 5), (2, 5), (3, 5), (4, 5)], [1, 2]),
        ([(1, 5), (2, 5), (3, 5), (5, 5), (9, 2)], [1, 3, 5, 9]),
        ([(4, 5), (7, 5)], [4, 7]),
        ([(1, 7), (2, 6), (3, 0)], [1, 2, 3]),
        ([(10_000, 5), (9_999, 5)], [9_999, 10_000]),
    ],
)
def test_xml_parts_of_any_order_and_size_make_the_object(
    shared: Emulator, sent: list[tuple[int, int]], named: list[int]
) -> None:
    """Those that lie in their places, those that came again, and those of other sizes."""
    started = shared.http.post("/penstock/joined?uploads").text
    upload = started.partition("<UploadId>")[2].partition("</UploadId>")[0]
    parts: dict[int, bytes] = {}
    for turn, (number, mebibytes) in enumerate(sent):
        parts[number] = bytes([65 + turn]) * (mebibytes * MIB + (turn if mebibytes == 1 else 0))
        put = shared.http.put(
            f"/penstock/joined?partNumber={number}&uploadId={upload}", content=parts[number]
        )
        digest = hashlib.md5(parts[number], usedforsecurity=False).hexdigest()
        assert put.headers["etag"] == f'"{digest}"'
    listed = "".join(f"<Part><PartNumber>{number}</PartNumber></Part>" for number in named)
    done = shared.http.post(f"/penstock/joined?uploadId={upload}", content=listed)
    whole = b"".join(parts[number] for number in named)
    checksum = base64.b64encode(google_crc32c.Checksum(whole).digest()).decode()
    assert done.headers["x-goog-hash"] == f"crc32c={checksum}"
    assert shared.http.get("/penstock/joined").content == whole
    left = shared.http.post(f"/penstock/joined?uploadId={upload}", content=listed)
    assert "NoSuchUpload" in left.text


def test_a_part_that_was_cut_is_no_part(shared: Emulator) -> None:
    """What came of it to its place does not count; it can come again."""
    started = shared.http.post("/penstock/half-sent?uploads").text
    upload = started.partition("<UploadId>")[2].partition("</UploadId>")[0]
    path = f"/penstock/half-sent?partNumber=1&uploadId={upload}"
    with pytest.raises(httpx2.HTTPError):
        shared.http.put(path, content=_cut(), headers={"Content-Length": str(2 * MIB)})
    listed = "<Part><PartNumber>1</PartNumber></Part>"
    complete = f"/penstock/half-sent?uploadId={upload}"
    assert "InvalidPart<" in shared.http.post(complete, content=listed).text
    assert shared.http.put(path, content=b"y" * MIB).status_code == 200
    assert shared.http.post(complete, content=listed).status_code == 200
    assert shared.http.get("/penstock/half-sent").content == b"y" * MIB


def _cut() -> Iterator[bytes]:
    yield b"x" * (MIB + 100)
    raise httpx2.ReadError("the sender has gone")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/penstock/none", "NoSuchKey"),
        ("GET", "/nowhere/none", "NoSuchBucket"),
        ("GET", "/", "NoSuchBucket"),
        ("DELETE", "/penstock/none", "NoSuchKey"),
        ("PUT", "/nowhere/none", "NoSuchBucket"),
        ("PATCH", "/penstock/none", "MethodNotAllowed"),
        ("POST", "/penstock", "MethodNotAllowed"),
    ],
)
def test_xml_refusals(shared: Emulator, method: str, path: str, code: str) -> None:
    """Google's codes in Google's XML."""
    answer = shared.http.request(method, path)
    assert f"<Error><Code>{code}</Code>" in answer.text


def test_json_refusals(shared: Emulator) -> None:
    """Absent objects, buckets and methods; bad bucket names; doubled buckets."""
    get = shared.http.get
    assert reason(get("/storage/v1/b/penstock/o/none")) == "notFound"
    assert reason(get("/storage/v1/b/nowhere/o/none")) == "notFound"
    assert get("/storage/v1/projects").status_code == 404
    assert shared.http.post("/storage/v1/b", json={"name": "UPPER"}).status_code == 400
    assert shared.http.post("/storage/v1/b", json={"name": "penstock"}).status_code == 409
    assert shared.http.post("/storage/v1/b", content=b"{").status_code == 400
    assert shared.http.delete("/storage/v1/b/penstock/o/none").status_code == 404
    shared.put("full", b"x")
    assert shared.http.delete("/storage/v1/b/penstock").status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        {"sourceObjects": "x"},
        {"sourceObjects": [{"name": 5}]},
        {"sourceObjects": []},
        {"sourceObjects": [{"name": "c1", "objectPreconditions": {"ifGenerationMatch": "x"}}]},
        {"sourceObjects": [{"name": "c1"}] * 33},
        {"sourceObjects": [{"name": "c1"}], "destination": {"metadata": {"a": [1]}}},
        [],
    ],
)
def test_bad_compose_bodies(shared: Emulator, body: Any) -> None:  # noqa: ANN401 - any JSON
    """400, and nothing is made."""
    shared.put("c1", b"1")
    assert shared.http.post("/storage/v1/b/penstock/o/c2/compose", json=body).status_code == 400
    assert "c2" not in shared.names()


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/penstock/odd", {"Range": f"bytes={'9' * 5000}-"}, 200),
        ("GET", "/storage/v1/b/penstock/o?maxResults=%C2%B2", {}, 200),
        ("GET", "/storage/v1/b/penstock/o?pageToken=%25%25%25", {}, 400),
        ("GET", "/penstock?max-keys=-1", {}, 200),
        ("GET", "/penstock/%ff%fe", {}, 404),
        ("PUT", f"/penstock/{'n' * 1025}", {}, 400),
        ("PUT", "/penstock/odd", {"x-goog-if-generation-match": "x"}, 400),
        ("POST", "/upload/storage/v1/b/penstock/o?uploadType=none", {}, 404),
        ("POST", "/upload/storage/v1/b/penstock/o?uploadType=multipart", {}, 400),
        ("POST", "/upload/storage/v1/b/penstock/o?uploadType=media", {}, 400),
    ],
)
def test_odd_requests_are_answered(
    shared: Emulator, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """Whatever comes, it is no 500."""
    shared.put("odd", b"x")
    assert shared.http.request(method, path, headers=headers).status_code == status


def test_patch_changes_the_metadata(shared: Emulator) -> None:
    """The metageneration grows, the bytes and the generation stay."""
    shared.put("patch", b"x")
    path = "/storage/v1/b/penstock/o/patch"
    before = shared.http.get(path).json()
    after = shared.http.patch(path, json={"metadata": {"a": "b"}}).json()
    assert (after["metadata"], after["metageneration"]) == ({"a": "b"}, "2")
    assert after["generation"] == before["generation"]


@pytest.mark.parametrize(
    "name", ["..%2F..%2Fetc%2Fpasswd", "%2Fabs", "a%00b", "~%2Fx", "%2E%2E%2Fy"]
)
def test_names_are_never_paths(shared: Emulator, name: str) -> None:
    """Names that would leave a directory are names like others."""
    assert shared.http.put(f"/penstock/{name}", content=b"odd").status_code == 200
    assert shared.http.get(f"/penstock/{name}").content == b"odd"


def test_a_reader_keeps_its_bytes(shared: Emulator) -> None:
    """Overwriting and deleting do not disturb a download that has begun."""
    body = b"q" * (8 << 20)
    shared.put("slow", body)
    with shared.http.stream("GET", "/penstock/slow") as answer:
        chunks = answer.iter_raw()
        got = next(chunks)
        with httpx2.Client(base_url=shared.url) as other:
            assert other.put("/penstock/slow", content=b"new").status_code == 200
            assert other.delete("/penstock/slow").status_code == 204
        got += b"".join(chunks)
    assert got == body
