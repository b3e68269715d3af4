"""The checker itself, on traces that somebody wrote by hand: it finds what it is for."""

from pathlib import Path

import pytest
from tests.durability.acks import Answer, answers
from tests.durability.disk import Rules
from tests.durability.routes import Route, judge
from tests.durability.trace import read_calls

ROOT = Path("/d")
RULES = Rules(root=ROOT, apart=("engine.db*",), may_come_back=("*.part",))
THERE = (ROOT / "a", ROOT / "old", ROOT / "job")

COMES = (
    '1 recvfrom(7<socket:[1]>, "POST /x HTTP/1.1\\r\\nHost: h\\r\\nX-Request-ID: one\\r\\n", 9) = 9'
)
SENDS = '1 sendto(7<socket:[1]>, "HTTP/1.1 200 OK\\r\\n", 17, 0, NULL, 0) = 17'
WRITE = '2 write(5</d/a>, "x", 1) = 1'
SYNC = "2 fsync(5</d/a>) = 0"
MAKE = '2 openat(AT_FDCWD</d>, "/d/new", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 5</d/new>'
SYNC_ROOT = "2 fsync(6</d>) = 0"
MOVE = '2 rename("/d/a", "/d/b") = 0'
UNLINK = '2 unlink("/d/old") = 0'


def told(*between: str) -> Answer:
    """The one answer to a request with these calls in between."""
    (answer,) = answers([COMES, *between, SENDS], RULES, THERE)
    return answer


BYTES = "/d/a (bytes)"
TABLE: dict[str, tuple[list[str], list[str]]] = {
    "nothing was written": ([], []),
    "written and synced": ([WRITE, SYNC], []),
    "written and data-synced": ([WRITE, "2 fdatasync(5</d/a>) = 0"], []),
    "written and not synced": ([WRITE], [BYTES]),
    "synced before it was written": ([SYNC, WRITE], [BYTES]),
    "written again after the sync": ([WRITE, SYNC, WRITE], [BYTES]),
    "another file was synced": ([WRITE, "2 fsync(5</d/old>) = 0"], [BYTES]),
    "the sync failed": ([WRITE, "2 fsync(5</d/a>) = -1 EIO (Input/output error)"], [BYTES]),
    "the sync had not ended": ([WRITE, "2 fsync(5</d/a> <unfinished ...>"], [BYTES]),
    "the sync began before the write ended": (
        [
            '2 write(5</d/a>, "x", 1 <unfinished ...>',
            "3 fsync(5</d/a> <unfinished ...>",
            "2 <... write resumed>) = 1",
            "3 <... fsync resumed>) = 0",
        ],
        [BYTES],
    ),
    "the sync was interrupted in the trace": (
        [WRITE, "2 fsync(5</d/a> <unfinished ...>", "3 gettid() = 3", "2 <... fsync resumed>) = 0"],
        [],
    ),
    "a write was going on": (['2 write(5</d/a>, "x", 1 <unfinished ...>'], [BYTES]),
    "cut at another length": (["2 ftruncate(5</d/a>, 3) = 0"], [BYTES]),
    "cut by its name": (['2 truncate("/d/a", 3) = 0'], [BYTES]),
    "emptied by an open": (
        ['2 openat(AT_FDCWD</d>, "/d/a", O_WRONLY|O_TRUNC) = 5</d/a>'],
        [BYTES],
    ),
    "copied to by the kernel": (
        ["2 copy_file_range(4</d/old>, NULL, 5</d/a>, NULL, 9, 0) = 9"],
        [BYTES],
    ),
    "only read": (['2 read(5</d/a>, "x", 1) = 1'], []),
    "opened as it was": (['2 openat(AT_FDCWD</d>, "/d/a", O_RDWR|O_CREAT) = 5</d/a>'], []),
    "a new name": ([MAKE], ["/d/new (new name)"]),
    "a new name, synced": ([MAKE, SYNC_ROOT], []),
    "a new name, the file synced": (
        [MAKE, '2 write(5</d/new>, "x", 1) = 1', "2 fsync(5</d/new>) = 0"],
        ["/d/new (new name)"],
    ),
    "a new name by a relative path": (
        ['2 openat(8</d/job>, "x", O_WRONLY|O_CREAT|O_EXCL) = 9</d/job/x>'],
        ["/d/job/x (new name)"],
    ),
    "no new name, it failed": (
        ['2 openat(AT_FDCWD</d>, "/d/n", O_CREAT|O_EXCL) = -1 EACCES (Permission denied)'],
        [],
    ),
    "a new directory": (['2 mkdir("/d/job/x", 0777) = 0'], ["/d/job/x (new name)"]),
    "a new directory, its own sync": (
        ['2 mkdir("/d/x", 0777) = 0', "2 fsync(9</d/x>) = 0"],
        ["/d/x (new name)"],
    ),
    "the root itself is new": (['2 mkdir("/d", 0777) = 0'], ["/d (new name)"]),
    "moved": ([MOVE], ["/d/a (removed name)", "/d/b (new name)"]),
    "moved and synced": ([MOVE, SYNC_ROOT], []),
    "moved and only one side synced": (
        ['2 rename("/d/a", "/d/job/b") = 0', SYNC_ROOT],
        ["/d/job/b (new name)"],
    ),
    "moved before its bytes were synced": (
        [WRITE, MOVE, SYNC_ROOT],
        ["/d/b (bytes)"],
    ),
    "moved, then its bytes synced": ([WRITE, MOVE, SYNC_ROOT, "2 fsync(5</d/b>) = 0"], []),
    "made, moved and synced": (
        [MAKE, '2 rename("/d/new", "/d/job/new") = 0', "2 fsync(9</d/job>) = 0"],
        [],
    ),
    "removed": ([UNLINK], ["/d/old (removed name)"]),
    "removed and synced": ([UNLINK, SYNC_ROOT], []),
    "removed, and may come back": (
        [MAKE.replace("new", "n.part"), SYNC_ROOT, '2 unlink("/d/n.part") = 0'],
        [],
    ),
    "made and removed again": ([MAKE, '2 unlink("/d/new") = 0'], []),
    "written and removed again": ([WRITE, '2 unlink("/d/a") = 0', SYNC_ROOT], []),
    "written without a name": (['2 write(5</d/a (deleted)>, "x", 1) = 1'], []),
    "written without a name, as others say it": (['2 write(5</d/a>(deleted), "x", 1) = 1'], []),
    "apart": (['2 write(5</d/engine.db-journal>, "x", 1) = 1'], []),
    "elsewhere": (['2 write(5</tmp/x>, "x", 1) = 1'], []),
    "written to a pipe": (['2 write(1<pipe:[3]>, "x", 1) = 1'], []),
}


@pytest.mark.parametrize("name", TABLE)
def test_an_answer_is_told_what_was_dirty(name: str) -> None:
    """What a power cut at the first byte of the answer would undo, and nothing else."""
    calls, dirty = TABLE[name]
    assert sorted(told(*calls).unsynced) == dirty


ROLLBACK = [
    '2 openat(AT_FDCWD</d>, "/d/a-journal", O_RDWR|O_CREAT, 0644) = 6</d/a-journal>',
    '2 pwrite64(6</d/a-journal>, "x", 1, 0) = 1',
    "2 fdatasync(6</d/a-journal>) = 0",
    "2 fdatasync(9</d>) = 0",
    '2 pwrite64(5</d/a>, "x", 1, 0) = 1',
    "2 fdatasync(5</d/a>) = 0",
    '2 unlink("/d/a-journal") = 0',
]


def test_a_commit_of_sqlite_ends_with_its_directory() -> None:
    """A journal that a power cut brings back undoes the commit: `synchronous` has to be EXTRA."""
    assert told(*ROLLBACK).unsynced == ("/d/a-journal (removed name)",)
    assert told(*ROLLBACK, "2 fdatasync(9</d>) = 0").unsynced == ()


def test_what_comes_after_the_first_byte_is_too_late() -> None:
    """The answer is judged when its sending begins, even if that is interrupted in the trace."""
    begins = SENDS.replace(", 17, 0, NULL, 0) = 17", " <unfinished ...>")
    ends = "1 <... sendto resumed>, 17, 0, NULL, 0) = 17"
    (answer,) = answers([COMES, WRITE, begins, SYNC, ends], RULES, THERE)
    assert answer.unsynced == (BYTES,)


def test_answers_have_names_and_what_they_wrote() -> None:
    """Each request of a connection has its own answer; a 100 and a body are none."""
    later = COMES.replace("one", "two")
    continues = SENDS.replace("200 OK", "100 Continue")
    body = SENDS.replace("HTTP/1.1 200 OK", "HTTP/1 ok")
    refusal = SENDS.replace("200 OK", "400 Bad Request")
    folder = '2 mkdir("/d/job/req_7ab", 0777) = 0'
    found = answers(
        [COMES, continues, WRITE, SYNC, SENDS, body, later, folder, refusal, SENDS], RULES, THERE
    )
    assert [(one.name, one.status, one.is_success) for one in found] == [
        ("one", 200, True),
        ("two", 400, False),
    ]
    assert [one.touched for one in found] == [{"a"}, {"job", "job/req_*"}]
    assert found[1].unsynced == ("/d/job/req_* (new name)",)


def test_a_connection_that_is_handed_over_is_seen() -> None:
    """The answer knows that another process was given the socket of its client."""
    hand = (
        "1 sendmsg(9<socket:[2]>, {msg_control=[{cmsg_type=SCM_RIGHTS, "
        "cmsg_data=[14<socket:[1]>]}]}, 0) = 1"
    )
    assert told(hand).is_handed_over
    assert not told(hand.replace("[1]", "[11]")).is_handed_over


def test_a_command_answers_by_its_output() -> None:
    """The first byte on its standard output is the answer; a program that it runs has another."""
    said = '2 write(1<pipe:[3]>, "key", 3) = 3'
    other = '3 write(1<pipe:[4]>, "ELF", 3) = 3'
    found = answers([WRITE, other, said, SYNC, said], RULES, THERE, is_command=True)
    (one,) = found
    assert (one.name, sorted(one.touched), one.unsynced) == ("stdout", ["a"], (BYTES,))


def test_calls_that_never_end_come_last() -> None:
    """Signals and ends of processes are no calls; what was going on at the end has no result."""
    trace = ["+++ x", "2 --- SIGTERM {si=1} ---", "3 fsync(5</d/a> <unfinished ...>", WRITE]
    found = list(read_calls(trace))
    assert [(one.name, one.result, one.begin, one.end) for one in found] == [
        ("write", 1, 3, 3),
        ("fsync", None, 2, 4),
    ]


def test_a_route_without_an_answer_is_a_fault() -> None:
    """Nothing to judge, a refusal, something that was not written, or no hand-over: all are red."""
    route = Route(title="x", send=lambda _client, _name: None, needs=("b",), is_handed_over=True)
    refused = [COMES, WRITE, SENDS.replace("200 OK", "503 Bad")]
    assert judge(route, []).faults == ("there was no answer",)
    row = judge(route, answers(refused, RULES, THERE))
    assert row.faults == (
        "503 was answered",
        "/d/a (bytes) was not synced",
        "b was not written",
        "the connection was not handed over",
    )
    assert (row.answers, row.touched) == (1, frozenset({"a"}))
