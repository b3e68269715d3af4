import os
import resource
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from penstock.blobs.partial import CHECKPOINT_BYTES, Partial, Partials
from penstock.core.job import JobId, OrgId
from penstock.errors import StorageFull

FRESH = Partial(
    id="upl_1",
    org_id=OrgId("acme"),
    created_at=7.0,
    headers={"content-type": "application/jsonl"},
    query="model=x",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The data directory."""
    return tmp_path / "data"


@pytest.fixture
def partials(root: Path) -> Partials:
    """The directory with one upload in it."""
    made = Partials(root)
    made.create(FRESH)
    return made


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file of this process grow beyond 4 KiB: the kernel then refuses to write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def append(partials: Partials, data: bytes, length: int | None = None) -> Partial:
    """Append to the upload and return it."""
    partial = partials.get(FRESH.id)
    assert partial is not None
    return partials.open_tail(partial).close([data], length)


def names(root: Path) -> list[str]:
    """The files of the directory."""
    return sorted(path.name for path in (root / "uploads").iterdir())


def test_an_upload_survives_its_process(root: Path, partials: Partials) -> None:
    """Everything that is known of an upload, and its bytes, are there for the next process."""
    append(partials, b"abc")
    kept = append(partials, b"def", 10)
    assert kept == msgspec.structs.replace(FRESH, offset=6, length=10)
    again = Partials(root)
    assert again.all() == [kept]
    assert again.path(FRESH.id).read_bytes() == b"abcdef"


def test_bytes_beyond_the_offset_do_not_count(root: Path, partials: Partials) -> None:
    """What was written and not counted before a crash is cut off before the next append."""
    append(partials, b"abc")
    with partials.path(FRESH.id).open("ab") as file:
        file.write(b"lost")
    again = Partials(root)
    assert append(again, b"def").offset == 6
    assert again.path(FRESH.id).read_bytes() == b"abcdef"


def test_a_long_append_is_counted_on_its_way(root: Path, partials: Partials) -> None:
    """A kill in the middle of an append costs no more than a checkpoint."""
    tail = partials.open_tail(FRESH)
    tail.write([b"x" * CHECKPOINT_BYTES])
    tail.write([b"y"])
    found = Partials(root).get(FRESH.id)
    assert found is not None
    assert found.offset == CHECKPOINT_BYTES
    assert tail.close([b"z"], None).offset == CHECKPOINT_BYTES + 2


@pytest.mark.parametrize("damage", ["fewer bytes", "no bytes", "no state", "another id"])
def test_a_damaged_upload_is_given_up(root: Path, partials: Partials, damage: str) -> None:
    """An upload whose bytes or whose state are not what was stored leaves nothing behind."""
    append(partials, b"abc")
    bytes_path = partials.path(FRESH.id)
    state_path = bytes_path.with_suffix(".json")
    if damage == "fewer bytes":
        bytes_path.write_bytes(b"ab")
    elif damage == "no bytes":
        bytes_path.unlink()
    elif damage == "no state":
        state_path.write_bytes(b"{")
    else:
        state_path.rename(state_path.with_name("upl_2.json"))
    assert Partials(root).all() == []
    assert names(root) == []


def test_what_a_crash_left_is_removed(root: Path, partials: Partials) -> None:
    """Half-written states, bytes without a state and bytes of a finished upload go at the start."""
    folder = root / "uploads"
    (folder / "upl_1.new").write_bytes(b"half")
    (folder / "upl_2.part").write_bytes(b"orphan")
    partials.create(msgspec.structs.replace(FRESH, id="upl_3", is_finished=True))
    assert {partial.id for partial in Partials(root).all()} == {"upl_1", "upl_3"}
    assert names(root) == ["upl_1.json", "upl_1.part", "upl_3.json"]


def test_a_finished_upload_has_no_bytes(root: Path, partials: Partials) -> None:
    """The job has the bytes; what stays says which job it is."""
    partials.finish(msgspec.structs.replace(FRESH, offset=3, job_id=JobId("req_1")))
    assert names(root) == ["upl_1.json"]
    (found,) = Partials(root).all()
    assert (found.is_finished, found.job_id, found.offset) == (True, "req_1", 3)
    assert partials.count_open(OrgId("acme")) == 0


def test_a_removed_upload_is_gone(root: Path, partials: Partials) -> None:
    """Nothing of it stays, and removing it again is no error."""
    partials.remove(FRESH.id)
    partials.remove(FRESH.id)
    assert names(root) == []
    assert partials.get(FRESH.id) is None


def test_each_tenant_counts_its_own(partials: Partials) -> None:
    """Only a tenant's own unfinished uploads count for it."""
    partials.create(msgspec.structs.replace(FRESH, id="upl_2", org_id=OrgId("rival")))
    assert partials.count_open(OrgId("acme")) == 1
    assert partials.count_open(OrgId("nobody")) == 0


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_keeps_what_was_written(root: Path, partials: Partials) -> None:
    """The refusal of the disk is ours to tell, and what it took before counts."""
    with pytest.raises(StorageFull) as refused:
        append(partials, b"x" * 5000)
    assert refused.value.retry_after_seconds == 60
    (found,) = Partials(root).all()
    assert found.offset == 4096


def test_a_disk_that_cannot_sync_has_stored_nothing(partials: Partials) -> None:
    """Bytes that are not durable do not count, and the refusal is ours to tell."""
    reader, writer = os.pipe()
    tail = partials.open_tail(FRESH)
    tail._file = os.fdopen(writer, "wb", buffering=0)
    with pytest.raises(StorageFull):
        tail.close([b"abc"], None)
    os.close(reader)
    assert partials.get(FRESH.id) == FRESH


def test_bytes_that_somebody_took_away_cannot_be_appended_to(partials: Partials) -> None:
    """An append to a file that is not there is refused."""
    partials.path(FRESH.id).unlink()
    with pytest.raises(StorageFull):
        append(partials, b"abc")


def test_a_state_that_cannot_be_written_is_no_state(root: Path, partials: Partials) -> None:
    """An append whose count cannot be stored is refused, and the count stays what it was."""
    (root / "uploads" / "upl_1.new").mkdir()
    with pytest.raises(StorageFull):
        append(partials, b"abc")
    assert partials.get(FRESH.id) == FRESH
    with pytest.raises(StorageFull):
        partials.create(FRESH)
