"""Inputs that lie in a bucket or on a web server, through a real server to their answers."""

import gzip
import json
from collections.abc import Iterator

import pytest
from tests.blobs.file_server import file_server, ok
from tests.journeys.service import BASE, Json, Service, prompt, running

pytestmark = pytest.mark.slow

LINES = [prompt(f"Number {number}.", mine=number) for number in range(5)]
DATA = "".join(json.dumps(line) + "\n" for line in LINES).encode()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A pair whose server may pull from a folder of the bucket and from a web server."""
    with file_server(lambda _head: ok(gzip.compress(DATA))) as files:
        web = f"http://127.0.0.1:{files.port}/in/"
        allowed = f"gs://penstock/inputs/,{web}"
        folder = tmp_path_factory.mktemp("sources")
        with running(folder, PENSTOCK_SOURCES_ALLOWED=allowed) as pair:
            yield pair


def put(service: Service, name: str, data: bytes) -> None:
    """Store an object."""
    assert service.http.put(f"{service.emulator_url}/penstock/{name}", content=data).is_success


def submit(service: Service, address: str) -> Json:
    """Submit an address; return the answer with its status."""
    payload = {"input_uri": address}
    answer = service.http.post(f"{service.url}{BASE}/requests", json={"payload": payload})
    return {"http": answer.status_code, **answer.json()}


def test_an_object_of_the_bucket_is_answered(service: Service) -> None:
    """Every line of an object gets its answer, in order, with the caller's own members."""
    put(service, "inputs/a.jsonl", DATA)
    job = submit(service, "gs://penstock/inputs/a.jsonl")
    assert job["http"] == 200
    record = service.wait(job["request_id"])
    assert record["status"] == "success"
    assert [line["mine"] for line in service.output(record)] == [0, 1, 2, 3, 4]
    assert record["payload"]["input_uri"] == "gs://penstock/inputs/a.jsonl"


def test_a_file_of_a_web_server_is_answered(service: Service) -> None:
    """The list may name a literal loopback address; a name that ends in .gz is decompressed."""
    allowed = service._settings["PENSTOCK_SOURCES_ALLOWED"].split(",")[1]
    job = submit(service, f"{allowed}a.jsonl.gz")
    assert job["http"] == 200
    assert service.wait(job["request_id"])["status"] == "success"


def test_bad_sources_leave_nothing(service: Service) -> None:
    """Bad lines, a missing object, our own folder, and what is not allowed: no job, no file."""
    put(service, "inputs/bad.jsonl", DATA + b"{'x'}\n" + DATA + b"{}\n")
    files = service.files()
    refusals = {
        "gs://penstock/inputs/bad.jsonl": 400,
        "gs://penstock/inputs/none.jsonl": 422,
        "gs://penstock/penstock/x": 403,
        "gs://other/x": 403,
        "https://example.com/x": 403,
        "file:///etc/passwd": 400,
    }
    found = {address: submit(service, address) for address in refusals}
    assert {address: answer["http"] for address, answer in found.items()} == refusals
    bad = found["gs://penstock/inputs/bad.jsonl"]
    assert [problem["line"] for problem in bad["details"]] == [6, 12]
    assert service.files() == files
