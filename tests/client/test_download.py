import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.kinds import Connect
from tests.client.stub import Reply, Stub, error, in_ranges, job, running

from penstock.client import (
    ConnectionFailed,
    DigestMismatch,
    NotFound,
    OutputNotReady,
    ServerFailed,
)

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
TAG = f'"sha256-{DIGEST}"'
FILE = "/files/out"


class Fixture:
    """A job with an output, and where it is to go."""

    def __init__(self, connect: Connect, stub: Stub, folder: Path) -> None:
        self.stub = stub
        self.target = folder / "out.jsonl"
        self.part = folder / "out.jsonl.part"
        self.tag = folder / "out.jsonl.part.etag"
        self.folder = folder
        self.pauses: list[float] = []
        stub.on("GET", "/requests/req_7", job("success", url=f"{stub.url}{FILE}?sig=1"))
        self.client = connect(stub, self.pauses.append)

    def download(self) -> bool:
        """Download, and return whether the digest was proven."""
        done = self.client.download("req_7", self.target)
        assert done.bytes_total == self.target.stat().st_size
        return done.verified

    def fetches(self) -> list[dict[str, str]]:
        """Return the headers of each request for the file."""
        return [seen.headers for seen in self.stub.seen if seen.path.startswith(FILE)]


@pytest.fixture
def output(connect: Connect, stub: Stub, tmp_path: Path) -> Iterator[Fixture]:
    """A finished job on the stub."""
    fixture = Fixture(connect, stub, tmp_path)
    with fixture.client:
        yield fixture


def ranged(tag: str = TAG, *, cut: int | None = None, content: bytes = CONTENT) -> object:
    """Answer with the file, in ranges."""
    return in_ranges(content, tag, cut=cut)


def serve(output: Fixture, *answers: object) -> None:
    """Let the file answer in this order."""
    output.stub.serve(FILE, *answers)  # type: ignore[arg-type]  # `ranged` is one, said as object


def test_whole(output: Fixture) -> None:
    """A download without trouble is checked, complete, and leaves nothing beside it."""
    serve(output, ranged())
    assert output.download() is True
    assert output.target.read_bytes() == CONTENT
    assert list(output.folder.iterdir()) == [output.target]


def test_the_key_stays_at_home(output: Fixture) -> None:
    """The signed address is fetched from any host without the key."""
    with running() as other:
        other.serve("/bucket/out", Reply(content=CONTENT))
        serve(output, Reply(302, headers={"Location": f"{other.url}/bucket/out"}))
        output.download()
        assert "authorization" not in other.seen[0].headers
    assert "authorization" not in output.fetches()[0]
    assert output.target.read_bytes() == CONTENT


def test_a_cut_is_resumed(output: Fixture) -> None:
    """After a cut only the missing bytes are fetched, if they are still the same file's."""
    serve(output, ranged(cut=300_000), ranged())
    assert output.download() is True
    assert output.target.read_bytes() == CONTENT
    first, second = output.fetches()
    assert "range" not in first
    assert (second["range"], second["if-range"]) == ("bytes=300000-", TAG)
    assert output.pauses == [0.5]


def test_a_later_run_resumes(output: Fixture) -> None:
    """What an interrupted run left is built upon by the next."""
    output.part.write_bytes(CONTENT[:1000])
    output.tag.write_text(TAG, "ascii")
    serve(output, ranged())
    assert output.download() is True
    assert output.fetches()[0]["range"] == "bytes=1000-"


def test_bytes_without_a_tag_are_not_built_upon(output: Fixture) -> None:
    """A part of unknown origin is fetched anew."""
    output.part.write_bytes(b"something else")
    serve(output, ranged())
    output.download()
    assert "range" not in output.fetches()[0]
    assert output.target.read_bytes() == CONTENT


def test_another_file_is_not_continued(output: Fixture) -> None:
    """When the server has other bytes now, it sends all of them and the old part is dropped."""
    output.part.write_bytes(b"old")
    output.tag.write_text('"old"', "ascii")
    serve(output, ranged())
    assert output.download() is True
    assert output.target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 5-511999/512000", "ETag": TAG},
        {"Content-Range": "bytes 3-511999/512000", "ETag": '"other"'},
        {"ETag": TAG},
    ],
)
def test_a_wrong_range_is_not_appended(output: Fixture, headers: dict[str, str]) -> None:
    """A partial answer that does not continue the part starts the download anew."""
    output.part.write_bytes(b"abc")
    output.tag.write_text(TAG, "ascii")
    serve(output, Reply(206, b"wrong", headers), ranged())
    assert output.download() is True
    assert output.target.read_bytes() == CONTENT


def test_a_complete_part(output: Fixture) -> None:
    """A run that died between the last byte and the rename is finished without a byte more."""
    output.part.write_bytes(CONTENT)
    output.tag.write_text(TAG, "ascii")
    serve(output, ranged())
    assert output.download() is True
    assert output.target.read_bytes() == CONTENT


def test_a_part_that_is_too_long(output: Fixture) -> None:
    """A part with more bytes than the file has is fetched anew."""
    output.part.write_bytes(CONTENT + b"more")
    output.tag.write_text(TAG, "ascii")
    serve(output, ranged())
    assert output.download() is True
    assert output.target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": f'"sha256-{"0" * 64}"'},
        {"Repr-Digest": f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"},
        {"ETag": TAG, "Repr-Digest": "md5=:AAAA:, sha-256=:AAAA:"},
        {"Repr-Digest": "sha-256=:AAAAA:"},
    ],
)
def test_other_bytes_are_refused(output: Fixture, headers: dict[str, str]) -> None:
    """Bytes that are not those that the server states never become the file; they are kept."""
    serve(output, Reply(content=CONTENT, headers=headers), ranged())
    with pytest.raises(DigestMismatch) as caught:
        output.download()
    assert caught.value.part == output.part
    assert output.part.read_bytes() == CONTENT
    assert not output.target.exists()
    assert output.download() is True
    assert "range" not in output.fetches()[-1]


def test_a_bad_resume_is_noticed(output: Fixture) -> None:
    """A part whose bytes went wrong on this disk is found by the digest of the whole."""
    output.part.write_bytes(b"?" * 1000)
    output.tag.write_text(TAG, "ascii")
    serve(output, ranged())
    with pytest.raises(DigestMismatch):
        output.download()


def test_a_digest_in_its_own_header(output: Fixture) -> None:
    """Repr-Digest proves the bytes as well as a tag does."""
    digest = base64.b64encode(bytes.fromhex(DIGEST)).decode()
    serve(output, Reply(content=CONTENT, headers={"Repr-Digest": f"sha-256=:{digest}:"}))
    assert output.download() is True


def test_no_digest(output: Fixture) -> None:
    """A server that states nothing gives a file that is said not to be verified."""
    serve(output, Reply(content=b""))
    assert output.download() is False
    assert output.target.read_bytes() == b""


def test_a_weak_tag_promises_nothing(output: Fixture) -> None:
    """After a cut a file with a weak tag is fetched from its start."""
    weak = 'W/"1"'
    serve(output, ranged(weak, cut=10), ranged(weak))
    assert output.download() is False
    assert "range" not in output.fetches()[1]
    assert output.target.read_bytes() == CONTENT


def test_no_progress_gives_up(output: Fixture) -> None:
    """Cuts without a new byte end the download, and the part stays for the next one."""
    serve(output, ranged(cut=100), ranged(cut=0))
    with pytest.raises(ConnectionFailed):
        output.download()
    assert output.pauses == [0.5, 1.0, 2.0, 4.0]
    assert output.part.read_bytes() == CONTENT[:100]


def test_progress_renews_patience(output: Fixture) -> None:
    """A line that is cut again and again is no reason to give up while bytes come."""
    serve(output, ranged(cut=70_000))
    assert output.download() is True
    assert len(output.fetches()) == 8


def test_wrong_ranges_for_ever(output: Fixture) -> None:
    """Something that always answers with a wrong range is named as the reason."""
    serve(output, Reply(206, b"wrong", {"Content-Range": "bytes 9-13/14"}))
    with pytest.raises(ConnectionFailed, match="ranges that do not continue"):
        output.download()


def test_an_expired_address_is_asked_for_again(output: Fixture) -> None:
    """The address is taken from the job before each attempt, since signatures expire."""
    fresh = job("success", url=f"{output.stub.url}/files/fresh")
    old = job("success", url=f"{output.stub.url}{FILE}")
    output.stub.on("GET", "/requests/req_7", old, fresh)
    serve(output, ranged(cut=10))
    output.stub.serve("/files/fresh", ranged())  # type: ignore[arg-type]  # as in `serve`
    assert output.download() is True


def test_a_relative_address(output: Fixture) -> None:
    """A relative address is one of the server's."""
    output.stub.on("GET", "/requests/req_7", job("success", url=FILE))
    serve(output, ranged())
    assert output.download() is True


def test_only_the_list_of_addresses(output: Fixture) -> None:
    """The first of `output_download_urls` serves when `output_url` is absent."""
    urls = [output.stub.url + FILE]
    output.stub.on(
        "GET", "/requests/req_7", job("success", batch_job_state="x", output_download_urls=urls)
    )
    serve(output, ranged())
    assert output.download() is True


@pytest.mark.parametrize(
    ("status", "reason", "says"),
    [
        ("queued", "", "req_7 is queued: its output is not ready"),
        ("failed", "no quota", "req_7 is failed and has no output: no quota"),
    ],
)
def test_nothing_to_download(output: Fixture, status: str, reason: str, says: str) -> None:
    """Without an output the error says why, and has the job."""
    output.stub.on("GET", "/requests/req_7", job(status, message=reason))
    with pytest.raises(OutputNotReady) as caught:
        output.download()
    assert str(caught.value) == says
    assert caught.value.job.status == status
    assert list(output.folder.iterdir()) == []


def test_errors_of_the_file_server(output: Fixture) -> None:
    """A busy file server is asked again, a definite no is the answer."""
    serve(output, error(503, "unavailable", "busy"))
    with pytest.raises(ServerFailed, match="busy"):
        output.download()
    assert len(output.fetches()) == 5
    serve(output, error(404, "not_found", "expired"))
    with pytest.raises(NotFound, match="expired"):
        output.download()


def test_progress_is_told(output: Fixture) -> None:
    """The bytes on disk and the size of the whole are told, from where a resume starts."""
    output.part.write_bytes(CONTENT[:500_000])
    output.tag.write_text(TAG, "ascii")
    serve(output, ranged())
    told: list[tuple[int, int | None]] = []
    output.client.download("req_7", output.target, on_progress=lambda *now: told.append(now))
    assert told[-1] == (512_000, 512_000)
    assert all(done > 500_000 for done, _ in told)
