"""The receiver over real processes."""

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.ingest.naive import pieces
from tests.receive.driver import BODIES, JSONL, LINES, begin_files, in_process

from penstock.core.files import FileRule
from penstock.core.limits import Limits
from penstock.errors import BlobCorrupt, InvalidInput, Unavailable
from penstock.ingest.intake import Accepted
from penstock.ingest.upload import Upload
from penstock.receive.connection import Taken
from penstock.receive.receiver import Process, Receiver
from penstock.receive.stored import Stored
from penstock.receive.wire import Reply, packed

pytestmark = pytest.mark.slow

HALF = len(LINES) // 2
BAD = b'{"request":{"contents":[]}}\n'


class Lanes:
    """Begins processes, and remembers them."""

    def __init__(self) -> None:
        self.made: list[Process] = []

    def begin(self) -> Process:
        """Begin another one."""
        self.made.append(Process())
        return self.made[-1]

    def pids(self) -> list[int]:
        """All that were begun."""
        return [lane._child.pid for lane in self.made]

    def kill(self, number: int = -1) -> None:
        """Kill one and wait until it is dead."""
        self.made[number]._child.kill()
        self.made[number]._child.wait()


class Gone:
    """A lane that nobody listens to."""

    def hand(self, *descriptors: int) -> None:
        raise BrokenPipeError(len(descriptors))

    def end(self) -> None:
        """It has ended."""


Receive = Callable[..., "asyncio.Task[Accepted]"]


@pytest.fixture
def lanes() -> Lanes:
    """The processes of the test."""
    return Lanes()


@pytest.fixture
async def receiver(lanes: Lanes) -> AsyncIterator[Receiver]:
    """A receiver of at most two processes."""
    made = Receiver(Limits(), 2, lanes.begin)
    yield made
    await made.end()
    assert all(lane._child.poll() is not None for lane in lanes.made)


@pytest.fixture
def receive(receiver: Receiver, tmp_path: Path) -> Receive:
    """Begin an upload in a folder of its own."""
    numbers = iter(range(1_000))

    def begin(
        body: AsyncIterator[bytes] | Taken | Stored, upload: Upload = JSONL
    ) -> "asyncio.Task[Accepted]":
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return asyncio.create_task(receiver.receive(upload, body, *begin_files(folder)))

    return begin


async def sent(body: bytes) -> AsyncIterator[bytes]:
    """A body in pieces, some of them empty."""
    yield b""
    for piece in pieces(body, [100_000] * (len(body) // 100_000)):
        yield piece


class Held:
    """A body that stops in its middle until it may go on."""

    def __init__(self) -> None:
        self.half = asyncio.Event()
        self.go = asyncio.Event()

    async def body(self) -> AsyncIterator[bytes]:
        """The chunks."""
        yield LINES[:HALF]
        self.half.set()
        await self.go.wait()
        yield LINES[HALF:]


def descriptors() -> int:
    """How many files and sockets are open here."""
    return len(list(Path("/proc/self/fd").iterdir()))


def environment_of(pid: int) -> bytes:
    """What a process was given at its start."""
    return Path(f"/proc/{pid}/environ").read_bytes()


def taken_pair(head: bytes, rest_bytes: int) -> tuple[socket.socket, Taken]:
    """A client, and its connection as the protocol hands it over."""
    client, ours = socket.socketpair()
    client.settimeout(0)
    ours.settimeout(0)
    return client, Taken(client=ours, head=head, rest_bytes=rest_bytes)


@pytest.mark.parametrize("name", BODIES)
async def test_an_upload_is_stored(receiver: Receiver, name: str, tmp_path: Path) -> None:
    """Bytes, rows and hash of every form come out of the other process as they should."""
    upload, body = BODIES[name]
    paths = begin_files(tmp_path)
    accepted = await receiver.receive(upload, sent(body), *paths)
    assert (accepted, *(path.read_bytes() for path in paths)) == in_process(upload, body)


async def test_the_process_is_told_which_files_are_allowed(lanes: Lanes, tmp_path: Path) -> None:
    """The operator's list and the server's own folders reach the process that judges the lines."""
    rule = FileRule.of(["gs://media/"], ["gs://media/penstock/"])
    line = b'{"request":{"contents":[{"parts":[{"fileData":{"fileUri":"gs://%b/a"}}]}]}}\n'
    receiver = Receiver(Limits(), 1, lanes.begin, rule)
    try:
        good = sent(line % b"media")
        assert (await receiver.receive(JSONL, good, *begin_files(tmp_path))).line_count == 1
        bad = sent(line % b"media/penstock" + line % b"other" + line % b"media")
        with pytest.raises(InvalidInput) as caught:
            await receiver.receive(JSONL, bad, *begin_files(tmp_path))
    finally:
        await receiver.end()
    found = [(problem.line, problem.code) for problem in caught.value.problems]
    assert found == [(1, "file_uri_not_allowed"), (2, "file_uri_not_allowed")]


async def test_a_taken_upload_is_stored(receive: Receive) -> None:
    """A client's connection is read by the other process to the end of the body."""
    client, taken = taken_pair(LINES[:100], len(LINES) - 100)
    with client:
        upload = receive(taken)
        await asyncio.get_running_loop().sock_sendall(client, LINES[100:])
        accepted = await upload
        assert accepted == in_process(JSONL, LINES)[0]
        # Nobody holds our end any more.
        assert await asyncio.get_running_loop().sock_recv(client, 1) == b""


@pytest.mark.parametrize("name", BODIES)
async def test_a_stored_body_is_read_where_it_lies(
    receiver: Receiver, name: str, tmp_path: Path
) -> None:
    """The other process opens the file; what stands behind the end of the body does not count."""
    upload, body = BODIES[name]
    file = tmp_path / "stored"
    file.write_bytes(body + b"}{")
    paths = begin_files(tmp_path)
    accepted = await receiver.receive(upload, Stored(str(file), len(body)), *paths)
    assert (accepted, *(path.read_bytes() for path in paths)) == in_process(upload, body)
    assert file.read_bytes() == body + b"}{"


@pytest.mark.parametrize(
    ("written", "said"), [(LINES[:-7], "lacks its last 7 bytes"), (None, "is gone")]
)
async def test_a_stored_body_that_is_not_whole_is_no_upload(
    receive: Receive, tmp_path: Path, written: bytes | None, said: str
) -> None:
    """A file that somebody else has cut or removed must not become a job."""
    file = tmp_path / "stored"
    if written is not None:
        file.write_bytes(written)
    with pytest.raises(BlobCorrupt, match=said):
        await receive(Stored(str(file), len(LINES)))


async def test_a_refusal_ends_the_upload_at_once(receive: Receive) -> None:
    """It is raised while the body goes on, and the body is not read any more."""
    held = Held()

    async def wrong() -> AsyncIterator[bytes]:
        yield b"["
        async for chunk in held.body():
            yield chunk

    with pytest.raises(InvalidInput) as refusal:
        await receive(wrong())
    assert refusal.value.error_code == "json_array_file"
    assert refusal.value.problems[0].hint


async def test_bad_lines_come_through(receive: Receive) -> None:
    """All problems are in the error."""
    with pytest.raises(InvalidInput) as refusal:
        await receive(sent(LINES + BAD * 3))
    assert [problem.line for problem in refusal.value.problems] == [6_001, 6_002, 6_003]


async def test_uploads_share_the_lanes(receiver: Receiver, receive: Receive, lanes: Lanes) -> None:
    """Each upload has a process of its own as long as there may be more; then they share."""
    held = [Held() for _ in range(5)]
    uploads = []
    for number, one in enumerate(held):
        uploads.append(receive(one.body()))
        await one.half.wait()
        assert len(lanes.made) == min(2, number + 1)
    assert sorted(receiver._uploads.values()) == [2, 3]
    for one in held:
        one.go.set()
    accepted = await asyncio.gather(*uploads)
    assert accepted == [in_process(JSONL, LINES)[0]] * 5
    assert list(receiver._uploads.values()) == [0, 0]


async def test_one_process_serves_uploads_in_turn(
    receiver: Receiver, receive: Receive, lanes: Lanes
) -> None:
    """The process that was begun early takes them all while they do not overlap."""
    receiver.begin()
    receiver.begin()
    for _ in range(3):
        await receive(sent(LINES))
    assert len(lanes.made) == 1


async def test_a_process_that_dies_loses_only_its_uploads(receive: Receive, lanes: Lanes) -> None:
    """A kill in the middle of an upload is said as 503, and the next one has a new process."""
    held = Held()
    upload = receive(held.body())
    await held.half.wait()
    lanes.kill()
    with pytest.raises(Unavailable) as lost:
        await upload
    assert (lost.value.error_code, lost.value.retry_after_seconds) == ("receiver_lost", 1)
    assert await receive(sent(LINES)) == in_process(JSONL, LINES)[0]
    assert len(lanes.made) == 2


async def test_a_body_that_goes_on_after_the_death_is_left(receive: Receive, lanes: Lanes) -> None:
    """The error comes also when the body has never an end."""

    async def endless() -> AsyncIterator[bytes]:
        yield LINES
        lanes.kill()
        while True:
            yield LINES

    with pytest.raises(Unavailable):
        await receive(endless())


async def test_a_process_that_dies_with_a_taken_connection(receive: Receive, lanes: Lanes) -> None:
    """The client's connection is let go of, so that it can be answered and closed."""
    client, taken = taken_pair(b"", 9 * len(LINES))
    with client:
        upload = receive(taken)
        # More than the buffers between them hold: somebody reads.
        await asyncio.get_running_loop().sock_sendall(client, LINES * 8)
        lanes.kill()
        with pytest.raises(Unavailable):
            await upload
        assert taken.client.fileno() == -1


async def test_a_process_that_died_idle_is_replaced(receive: Receive, lanes: Lanes) -> None:
    """Nobody notices that a process died while it had nothing to do."""
    await receive(sent(LINES))
    lanes.kill()
    assert await receive(sent(LINES)) == in_process(JSONL, LINES)[0]
    assert len(lanes.made) == 2


async def test_all_processes_that_died_are_replaced(
    receiver: Receiver, receive: Receive, lanes: Lanes
) -> None:
    """The same when every process has died: one is begun, and no dead one is kept."""
    held = [Held(), Held()]
    uploads = [receive(one.body()) for one in held]
    await asyncio.gather(*(one.half.wait() for one in held))
    for one in held:
        one.go.set()
    await asyncio.gather(*uploads)
    lanes.kill(0)
    lanes.kill(1)
    assert await receive(sent(LINES)) == in_process(JSONL, LINES)[0]
    assert list(receiver._uploads) == [lanes.made[2]]


async def test_processes_that_cannot_be_reached_are_no_endless_loop(tmp_path: Path) -> None:
    """When not even a new process takes the upload, the caller is told to come again."""
    receiver = Receiver(Limits(), 2, Gone)
    with pytest.raises(Unavailable) as lost:
        await receiver.receive(JSONL, sent(LINES), *begin_files(tmp_path))
    assert lost.value.error_code == "receiver_lost"


class Mute:
    """A lane that replies nothing that could be understood."""

    def hand(self, *descriptors: int) -> None:
        with socket.socket(fileno=os.dup(descriptors[0])) as connection:
            connection.sendall(packed(Reply()))

    def end(self) -> None:
        """It has ended."""


async def test_a_reply_without_a_word_is_a_loss(tmp_path: Path) -> None:
    """Neither good nor refused is not taken for good."""
    with pytest.raises(Unavailable):
        await Receiver(Limits(), 1, Mute).receive(JSONL, sent(LINES), *begin_files(tmp_path))


class ClientGone(Exception):
    """What a body raises."""


async def cut(error: Exception) -> AsyncIterator[bytes]:
    """A body that breaks."""
    yield LINES[:HALF]
    raise error


@pytest.mark.parametrize("error", [ClientGone(), ConnectionResetError(), BrokenPipeError()])
async def test_what_the_body_raises_is_raised(receive: Receive, error: Exception) -> None:
    """A client that goes away ends the upload, by whatever name."""
    with pytest.raises(type(error)):
        await receive(cut(error))
    assert await receive(sent(LINES)) == in_process(JSONL, LINES)[0]


async def test_nothing_is_left_open(receiver: Receiver, receive: Receive) -> None:
    """Fifty uploads, good, refused and cut, leave no descriptor and no count behind."""
    await receive(sent(LINES))
    before = descriptors()
    for _ in range(10):
        client, taken = taken_pair(b"[", 1_000_000)
        uploads = [
            receive(sent(LINES)),
            receive(sent(BAD)),
            receive(cut(ClientGone())),
            receive(taken),
            receive(Held().body()),
        ]
        await asyncio.wait(uploads[:4])
        uploads[4].cancel()
        results = await asyncio.gather(*uploads, return_exceptions=True)
        client.close()
        assert [type(result).__name__ for result in results] == [
            "Accepted",
            "InvalidInput",
            "ClientGone",
            "InvalidInput",
            "CancelledError",
        ]
    # The second process came on the way, with the socket that controls it.
    assert len(receiver._uploads) == 2
    assert descriptors() == before + 1
    assert list(receiver._uploads.values()) == [0, 0]


async def test_the_end_ends_uploads_and_processes(
    receiver: Receiver, receive: Receive, lanes: Lanes
) -> None:
    """An upload in progress is lost, and the processes are gone, by their own will."""
    held = Held()
    upload = receive(held.body())
    await held.half.wait()
    await receiver.end()
    with pytest.raises(Unavailable):
        await upload
    assert [lane._child.returncode for lane in lanes.made] == [0]


async def test_a_process_that_does_not_end_is_killed(
    receiver: Receiver, receive: Receive, lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is stopped cannot listen, and does not hold the server's own end up."""
    monkeypatch.setattr("penstock.receive.receiver.END_SECONDS", 0.1)
    await receive(sent(LINES))
    os.kill(lanes.pids()[0], signal.SIGSTOP)
    await receiver.end()
    assert [lane._child.returncode for lane in lanes.made] == [-signal.SIGKILL]


async def test_signals_for_the_server_are_not_for_the_process(
    receive: Receive, lanes: Lanes
) -> None:
    """Ctrl-C and the stop of a service reach every process; this one goes on until told."""
    await receive(sent(LINES))
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(lanes.pids()[0], number)
    assert await receive(sent(LINES)) == in_process(JSONL, LINES)[0]
    assert len(lanes.made) == 1


async def test_the_process_knows_no_secret(
    receive: Receive, lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What configures the server and its accounts is not in the environment."""
    for name in ("PENSTOCK_SECRET", "GOOGLE_APPLICATION_CREDENTIALS", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "secret")
    await receive(sent(LINES))
    environment = environment_of(lanes.pids()[0])
    assert b"PATH=" in environment
    assert b"secret" not in environment
    names = {entry.partition(b"=")[0] for entry in environment.split(b"\0")}
    assert not [name for name in names if name.startswith((b"PENSTOCK", b"GOOGLE", b"AWS"))]


async def test_the_working_directory_is_not_imported(
    receive: Receive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file beside the server that is named like a library is not run."""
    (tmp_path / "msgspec.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    assert await receive(sent(LINES)) == in_process(JSONL, LINES)[0]


async def test_a_process_without_descriptors_turns_uploads_away(
    receive: Receive, lanes: Lanes
) -> None:
    """When it can open nothing more the caller is told to come again, and later all is well."""
    await receive(sent(LINES))
    client, taken = taken_pair(b"", len(LINES))
    (pid,) = lanes.pids()
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # Beside the three that every process has there is room for one of the two sockets.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, before[1]))
    with client, pytest.raises(Unavailable):
        await receive(taken)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert await receive(sent(LINES)) == in_process(JSONL, LINES)[0]
    assert len(lanes.made) == 1


ORPHANING = """
import sys
from penstock.receive.receiver import Process
process = Process()
print(process._child.pid, flush=True)
sys.stdin.read()
"""


def test_the_process_ends_with_its_server() -> None:
    """A server that is killed leaves no process behind."""
    with subprocess.Popen(
        [sys.executable, "-c", ORPHANING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as server:
        assert server.stdout is not None
        assert int(server.stdout.readline()) > 0
        server.kill()
        # Both have this pipe as their standard error: its end is the end of both.
        _, errors = server.communicate(timeout=20)
        assert errors == b""
