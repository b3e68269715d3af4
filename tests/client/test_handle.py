import asyncio
import base64
import errno
import json
from pathlib import Path

import pytest
from tests.client.kinds import Connect, Pauses
from tests.client.outputs import FILE, JOB, Output, answered, verdict
from tests.client.stub import KEY, Reply, Seen, Stub, error, job

from penstock.client import (
    AsyncClient,
    ClientError,
    DiskFull,
    ImagePlace,
    JobFailed,
    JobRecord,
    LinesFailed,
    StillRunning,
)
from penstock.client.handle import NAME_CHARACTERS_MAX, Places, safe_name, write_whole
from penstock.client.part import Part, room_for, write_all

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


def picture(data: bytes = PNG) -> dict[str, object]:
    """Return a part of an answer with a picture."""
    return {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(data).decode()}}


@pytest.fixture
def output(stub: Stub) -> Output:
    """A job of three lines with pictures, of which one did not end well."""
    lines = [
        answered("", "../../etc/passwd", more=[picture(), picture(PNG + b"2")]),
        answered("", "b", reason="MAX_TOKENS"),
        answered("", "b", more=[picture(PNG + b"3"), picture(b"<svg/>")]),
    ]
    return Output(stub, lines, [verdict(2, "truncated", code="MAX_TOKENS")])


def test_wait_tells_each_change(connect: Connect, stub: Stub, pauses: Pauses) -> None:
    """A function is told each change, and the handle knows the last of them."""
    stub.on("GET", f"/requests/{JOB}", job(), job(), job("processing"), job("success", url="x"))
    told: list[JobRecord] = []
    with connect.client(stub.url, sleep=pauses) as client:
        handle = client.jobs.get(JOB)
        assert not handle.ok
        assert handle.wait(progress=told.append).ok
        assert (handle.done, handle.succeeded, handle.status) == (True, True, "success")
    assert [each.status for each in told] == ["queued", "processing", "success"]


def test_wait_without_anybody_to_tell(
    connect: Connect, output: Output, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `progress=False` nothing is written; else a log gets lines, on standard error."""
    with connect.client(output.stub.url) as client:
        client.jobs.get(JOB).wait(progress=False)
        assert capsys.readouterr() == ("", "")
        client.jobs.get(JOB).wait()
    out, err = capsys.readouterr()
    assert out == ""
    assert "success" in err


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_job_that_failed(connect: Connect, stub: Stub, status: str) -> None:
    """Only a job without an output raises, with the server's reason."""
    ended = job(status, message="", error={"message": "no rights"})
    stub.on("GET", f"/requests/{JOB}", ended)
    with connect.client(stub.url) as client:
        handle = client.jobs.get(JOB)
        with pytest.raises(JobFailed, match=f"req_7 is {status}: no rights") as caught:
            handle.wait(progress=False)
        assert (caught.value.code, caught.value.job.status) == ("job_failed", status)
        assert handle.status == status
        stub.on("GET", f"/requests/{JOB}", job(status, url="x"))
        assert handle.wait(progress=False).status == status


def test_lines_that_failed(connect: Connect, output: Output) -> None:
    """They are an answer unless one asks for the check."""
    with connect.client(output.stub.url) as client:
        handle = client.jobs.get(JOB).wait(progress=False)
        assert (handle.succeeded, handle.ok, handle.counts.truncated) == (True, False, 1)
        with pytest.raises(LinesFailed) as caught:
            handle.wait(progress=False, check=True)
    assert str(caught.value) == "1 of 3 lines of req_7 did not end well: 1 truncated"
    assert "job.groups()" in str(caught.value.hint)


def test_the_time_is_over(connect: Connect, stub: Stub, pauses: Pauses) -> None:
    """The error says that the job goes on, and how to come back to it."""
    stub.on("GET", f"/requests/{JOB}", job("processing"))
    with connect.client(stub.url, sleep=pauses) as client:
        handle = client.jobs.get(JOB)
        with pytest.raises(StillRunning, match="after 0 s; the job continues") as caught:
            handle.wait(0, progress=False)
    assert "client.jobs.get('req_7')" in str(caught.value.hint)


def test_ctrl_c(connect: Connect, stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends the wait and not the job, and standard error says so."""

    def interrupted(record: JobRecord) -> None:
        del record
        raise KeyboardInterrupt

    stub.on("GET", f"/requests/{JOB}", job("processing"))
    with connect.client(stub.url) as client:
        handle = client.jobs.get(JOB)
        with pytest.raises(KeyboardInterrupt):
            handle.wait(progress=interrupted)
    err = capsys.readouterr().err
    assert "The job goes on" in err
    assert "client.jobs.get('req_7').wait()" in err
    assert not stub.calls("POST")


async def test_a_wait_that_is_cancelled(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """A task that is cancelled is; without a terminal nothing is written of it."""
    stub.on("GET", f"/requests/{JOB}", job("processing"))
    async with AsyncClient(stub.url, KEY) as client:
        handle = await client.jobs.get(JOB)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await handle.wait(progress=False)
    assert capsys.readouterr().err == ""


async def test_a_handle_can_be_awaited(output: Output) -> None:
    """To await it is to wait for its end."""
    async with AsyncClient(output.stub.url, KEY) as client:
        handle = await client.jobs.get(JOB)
        assert await handle is handle


def test_what_a_handle_shows(connect: Connect, stub: Stub) -> None:
    """Its line and its HTML name the job; what others wrote is escaped."""
    named = json.loads(job("failed", message="<b>no</b>").content) | {"name": "<i>n</i>"}
    stub.on("GET", f"/requests/{JOB}", Reply(content=json.dumps(named).encode()))
    with connect.client(stub.url) as client:
        handle = client.jobs.get(JOB)
        assert repr(handle).endswith("Job(id='req_7', name='<i>n</i>', status='failed')")
        html = handle._repr_html_()
    assert "req_7" in html
    assert "<b>" not in html
    assert "<i>" not in html


def test_what_a_handle_knows(connect: Connect, stub: Stub) -> None:
    """Money and tokens come from the record; None is what nobody knows."""
    stub.on("GET", f"/requests/{JOB}", job())
    with connect.client(stub.url) as client:
        handle = client.jobs.get(JOB)
        assert (handle.cost, handle.estimate, handle.labels, handle.name) == (None, None, {}, None)
        tokens = {"total_prompt_tokens": 5}
        ended = job("success", cost={"batch_usd": "1.5"}, token_usage=tokens)
        stub.on("GET", f"/requests/{JOB}", ended)
        handle.refresh()
    assert handle.cost is not None
    assert (handle.cost.batch_usd, handle.usage.total_prompt_tokens) == ("1.5", 5)


def test_what_a_handle_does(connect: Connect, stub: Stub) -> None:
    """Cancel, retry, lines and groups are those of its id."""
    stub.on("GET", f"/requests/{JOB}", job("success"))
    stub.on("POST", f"/requests/{JOB}/cancel", job("cancelled"))
    stub.on("POST", f"/requests/{JOB}/retry", job("processing"))
    stub.on(
        "GET",
        f"/requests/{JOB}/lines",
        Reply(content=b'{"lines": [{"line": 3, "outcome": "error"}]}'),
    )
    stub.on("GET", f"/requests/{JOB}/lines/groups", Reply(content=b'{"groups": []}'))
    with connect.client(stub.url) as client:
        handle = client.jobs.get(JOB)
        assert handle.retry(["error"]).status == "processing"
        assert handle.cancel().status == "cancelled"
        assert [line.line for line in handle.lines("error", code="429")] == [3]
        assert handle.groups().groups == []
    assert stub.calls("POST")[0].path.endswith("/retry?outcomes=error")
    assert "outcome=error&code=429" in stub.seen[-2].path


def test_download(connect: Connect, output: Output, tmp_path: Path) -> None:
    """The file is there, whole and checked, and a progress of one's own is told."""
    with connect.client(output.stub.url) as client:
        done = client.jobs.get(JOB).download(tmp_path / "out.jsonl", progress=False)
    assert done.verified
    assert (tmp_path / "out.jsonl").read_bytes() == output.content


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk(connect: Connect, output: Output, tmp_path: Path) -> None:
    """It is said in a sentence with what to do, and it is an error of ours."""
    (tmp_path / "out.jsonl.part").symlink_to("/dev/full")
    with connect.client(output.stub.url) as client:
        handle = client.jobs.get(JOB)
        with pytest.raises(DiskFull, match="there is no room for more than 0 bytes") as caught:
            handle.download(tmp_path / "out.jsonl", progress=False)
    assert "goes on from there" in str(caught.value.hint)
    assert not (tmp_path / "out.jsonl").exists()


def test_what_came_before_the_disk_was_full_is_kept(
    connect: Connect, output: Output, tmp_path: Path
) -> None:
    """With room again the download goes on where it stopped."""
    part = Part(tmp_path / "out.jsonl")
    part.begin(output.tag)

    def fill() -> None:
        with room_for(part), part.append() as file:
            write_all(file, output.content[:100])
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFull) as caught:
        fill()
    assert caught.value.part == part.path
    with connect.client(output.stub.url) as client:
        client.jobs.get(JOB).download(tmp_path / "out.jsonl", progress=False)
    assert output.fetches()[-1].headers["range"] == "bytes=100-"
    assert (tmp_path / "out.jsonl").read_bytes() == output.content


def test_other_errors_of_a_disk_are_the_systems(tmp_path: Path) -> None:
    """Only a lack of room is ours to explain."""
    with pytest.raises(PermissionError), room_for(Part(tmp_path / "x")):
        raise PermissionError(errno.EACCES, "no")


def test_pictures(connect: Connect, stub: Stub) -> None:
    """Where they are and the bytes of each can be had one by one."""
    link = {"fileData": {"fileUri": f"http://x/requests/{JOB}/lines/1/parts/1"}}
    linked = Output(stub, [answered("", more=[link])], [])
    stub.on("GET", f"/requests/{JOB}/lines/1/parts/1", Reply(content=PNG))
    stub.serve(
        FILE,
        Reply(content=b"[]\n" * 2 + b"\n" + linked.content),
        Reply(content=linked.content[:-1]),
    )
    with connect.client(stub.url) as client:
        handle = client.jobs.get(JOB)
        assert handle.images() == []
        (place,) = handle.images()
        assert place == ImagePlace(line=1, part=1)
        assert handle.image(place) == PNG


def test_pictures_are_written(connect: Connect, output: Output, tmp_path: Path) -> None:
    """Each picture has a file of its own below the folder, whatever its key says."""
    (tmp_path / "out").mkdir()
    with connect.client(output.stub.url) as client:
        handle = client.jobs.get(JOB)
        paths = handle.save_images(tmp_path / "out" / "{key}_{n}.{ext}")
    assert [path.parent for path in paths] == [tmp_path / "out"] * 3
    assert [path.read_bytes() for path in paths] == [PNG, PNG + b"2", PNG + b"3"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        path.name for path in paths
    )
    assert paths[2].name == "b_1.png"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_keys_as_names() -> None:
    """Names stay in their folder, are short, and differ as keys do."""
    keys = [
        "a",
        "A b",
        "A_b",
        "..",
        ".",
        "a/b",
        "a\\b",
        "x" * 300,
        "x" * 301,
        "\x00",
        "ü",
        "\ud800",
    ]
    names = [safe_name(key) for key in keys]
    assert len(set(names)) == len(keys)
    assert names[0] == "a"
    for name in names:
        assert len(name) <= NAME_CHARACTERS_MAX + 9
        assert not name.startswith(".")
        assert not set(name) & set("/\\\x00 ")


def test_places() -> None:
    """The same name twice is made another one; fields that pictures do not have are refused."""
    places = Places("out/{key}.{ext}")
    assert places.place("k", 1, 1, "png") == Path("out/k.png")
    assert places.place("k", 2, 1, "png") == Path("out/k-2-1.png")
    assert places.place(None, 3, 1, "png") == Path("out/3.png")
    with pytest.raises(ClientError, match=r"has a field 'key\.__class__'"):
        Places("{key.__class__}")


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    """What cannot be put in its place leaves nothing behind."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").write_bytes(b"")
    with pytest.raises(OSError, match="taken"):
        write_whole(tmp_path / "taken", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_errors_have_the_id_of_their_request(connect: Connect, stub: Stub) -> None:
    """Whoever runs the server can find them in its log."""
    answer = error(404, "not_found", "no such job")
    answer.headers["X-Request-ID"] = "r-1"
    stub.on("GET", f"/requests/{JOB}", answer)
    with connect.client(stub.url) as client, pytest.raises(ClientError) as caught:
        client.jobs.get(JOB)
    assert caught.value.request_id == "r-1"


def test_the_progress_of_a_download(connect: Connect, output: Output, tmp_path: Path) -> None:
    """A cut download is resumed, and who shows it is told of bytes."""
    told: list[tuple[str, int, int | None]] = []

    class Told:
        def job(self, record: JobRecord) -> None:
            del record

        def transfer(self, verb: str, done: int, total: int | None) -> None:
            told.append((verb, done, total))

        def count(self, what: str, done: int, total: int) -> None:
            del what, done, total

        def note(self, text: str) -> None:
            del text

        def close(self) -> None:
            told.append(("closed", 0, None))

    def answer(seen: Seen) -> Reply:
        assert "authorization" not in seen.headers
        return Reply(200, output.content, {"ETag": output.tag})

    output.stub.serve(FILE, answer)
    with connect.client(output.stub.url) as client:
        client.jobs.get(JOB).download(tmp_path / "out", progress=Told())
    size = len(output.content)
    assert told[-2:] == [("fetched", size, size), ("closed", 0, None)]
