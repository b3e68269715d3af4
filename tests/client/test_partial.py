"""download(partial=True): what a running job has so far, and what is said if that is nothing."""

import hashlib
from pathlib import Path

import pytest
from tests.client.kinds import Connect
from tests.client.stub import Reply, Stub, job

from penstock.client import OutputNotReady, Partial
from penstock.client.partial import LOOKS_MAX

CONTENT = b'{"status": ""}\n' * 9
TAG = f'"sha256-{hashlib.sha256(CONTENT).hexdigest()}"'
OUTPUT = "/requests/req_7/output"
LOOKED = {"lines": 5, "total": 9, "at": 1795363200, "url": "/look?partial=true&signature=1"}
WAIT = Reply(202, b"", {"Retry-After": "7"})


def download(connect: Connect, stub: Stub, tmp_path: Path, pauses: list[float]) -> Partial | None:
    """Download what there is, and return how much of the job that is."""
    with connect(stub, pauses.append) as client:
        done = client.download("req_7", tmp_path / "out", partial=True)
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert done.verified
    return done.partial


def test_the_first_look_is_waited_for(connect: Connect, stub: Stub, tmp_path: Path) -> None:
    """The client comes again when the server says, and then fetches the link of the record."""
    stub.on("HEAD", OUTPUT, WAIT, Reply(202, b"", {"Retry-After": "soon"}), Reply(200, b""))
    stub.on("GET", "/requests/req_7", job("processing", partial=LOOKED))
    stub.serve("/look", Reply(content=CONTENT, headers={"ETag": TAG}))
    pauses: list[float] = []
    found = download(connect, stub, tmp_path, pauses)
    assert (found and found.lines, found and found.total) == (5, 9)
    assert pauses == [7.0, 1.0]
    asked = [seen.path for seen in stub.calls("HEAD")]
    assert all(path.endswith("/output?partial=true") for path in asked)
    assert "authorization" not in stub.calls("GET")[-1].headers


def test_a_job_that_ends_meanwhile_gives_all(connect: Connect, stub: Stub, tmp_path: Path) -> None:
    """The output is taken instead, and nothing says that it is a part."""
    stub.on("HEAD", OUTPUT, Reply(200, b""))
    done = job("success", url=f"{stub.url}/out")
    stub.on("GET", "/requests/req_7", job("processing", partial=LOOKED), done)
    stub.serve("/out", Reply(content=CONTENT, headers={"ETag": TAG}))
    assert download(connect, stub, tmp_path, []) is None


@pytest.mark.parametrize(
    ("status", "headers", "asked"),
    [
        ("processing", {"X-Penstock-Taken-At": "1795363200"}, 1),
        ("queued", {}, 1),
        ("processing", {}, LOOKS_MAX),
    ],
)
def test_nothing_so_far(
    connect: Connect, stub: Stub, tmp_path: Path, status: str, headers: dict[str, str], asked: int
) -> None:
    """Where the provider has offered nothing the client says 0 of N, and does not wait for ever."""
    stub.on("HEAD", OUTPUT, Reply(202, b"", {"Retry-After": "1", **headers}))
    stats = {"total_count": 1234}
    stub.on("GET", "/requests/req_7", job(status, batch_job_completion_stats=stats))
    with pytest.raises(OutputNotReady) as caught:
        download(connect, stub, tmp_path, [])
    assert caught.value.message.startswith("0 of 1,234 lines so far: req_7 is ")
    assert len(stub.calls("HEAD")) == asked
    assert list(tmp_path.iterdir()) == []
