import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.blobs.part import Part
from penstock.blobs.spool import INPUT, INPUT_INDEX, OUTPUT, Spool
from penstock.errors import BlobMissing, StorageFull

JOB = "req_1"


def write(spool: Spool, name: str = INPUT, data: bytes = b"x") -> Part:
    """A part with some bytes."""
    part = spool.begin(JOB, name)
    part.write(data)
    return part


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the spool is."""
    return tmp_path / "data"


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file of this process grow beyond 4 KiB: the kernel then refuses to write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_part_is_nobodys_file(spool: Spool) -> None:
    """Before the commit there is neither file nor job."""
    part = write(spool)
    with pytest.raises(BlobMissing):
        spool.path(JOB, INPUT)
    assert list(spool.job_ids()) == []
    part.discard()


def test_a_commit_makes_all_parts_visible(spool: Spool, root: Path) -> None:
    """After the commit the files have their names, and nothing is left in between."""
    parts = {INPUT: write(spool, INPUT, b"lines"), INPUT_INDEX: write(spool, INPUT_INDEX, b"rows")}
    spool.commit(JOB, parts)
    assert spool.path(JOB, INPUT).read_bytes() == b"lines"
    assert spool.path(JOB, INPUT_INDEX).read_bytes() == b"rows"
    assert list((root / "incoming").iterdir()) == []


def test_a_commit_lands_in_the_jobs_own_folder(spool: Spool, root: Path) -> None:
    """The layout is `jobs/<id>/<name>`, which an upgrade must keep."""
    spool.commit(JOB, {INPUT: write(spool)})
    files = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    assert files == [f"jobs/{JOB}/{INPUT}"]


def test_a_second_commit_replaces_a_file(spool: Spool) -> None:
    """A step that runs again after a crash writes its file anew."""
    for data in (b"first", b"second"):
        spool.commit(JOB, {INPUT: write(spool, data=data)})
    assert spool.path(JOB, INPUT).read_bytes() == b"second"


def test_beginning_again_starts_over(spool: Spool) -> None:
    """What a dead attempt left in a part is not in the next one."""
    left = write(spool, data=b"a long text of a dead attempt")
    spool.commit(JOB, {INPUT: write(spool, data=b"new")})
    assert spool.path(JOB, INPUT).read_bytes() == b"new"
    left.discard()


def test_two_that_work_on_the_same_job_do_not_meet(spool: Spool) -> None:
    """Parts and scratch files of one name are apart, so that neither truncates the other's."""
    first, second = spool.begin(JOB, "a"), spool.begin(JOB, "a")
    first.write(b"first")
    second.write(b"second")
    spool.commit(JOB, {"a": first})
    assert spool.path(JOB, "a").read_bytes() == b"first"
    assert spool.scratch(JOB, "rows") != spool.scratch(JOB, "rows")
    second.discard()


def test_discarding_leaves_nothing(spool: Spool, root: Path) -> None:
    """A discarded part is gone, and discarding again is harmless."""
    part = write(spool)
    part.discard()
    part.discard()
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_discarding_after_a_commit_keeps_the_file(spool: Spool) -> None:
    """Clean-up after a success does not take the bytes away."""
    part = write(spool)
    spool.commit(JOB, {INPUT: part})
    part.discard()
    assert spool.path(JOB, INPUT).is_file()


def test_a_start_clears_what_was_half_written(root: Path) -> None:
    """Parts and scratch files of an earlier process are removed; committed files are not."""
    spool = Spool(root)
    spool.commit(JOB, {INPUT: write(spool)})
    part = write(spool, INPUT_INDEX)
    spool.scratch(JOB, "rows").write_bytes(b"x")
    assert Spool(root).clear_incoming() == 2
    assert spool.path(JOB, INPUT).is_file()
    part.discard()


def test_large_writes_are_written_whole(spool: Spool) -> None:
    """More bytes than one system call may take arrive in order."""
    data = bytes(range(256)) * 40_000
    spool.commit(JOB, {INPUT: write(spool, data=data)})
    assert spool.path(JOB, INPUT).read_bytes() == data


def test_the_disk_is_measured(spool: Spool, tmp_path: Path) -> None:
    """Total and free bytes are those of the disk; nobody counts what an ordinary spool holds."""
    use, disk = spool.measure(), shutil.disk_usage(tmp_path)
    assert use.total_bytes == disk.total
    assert 0 < use.free_bytes < use.total_bytes
    assert use.stored_bytes == 0


def test_a_counted_spool_knows_what_it_stores(root: Path) -> None:
    """Parts, inputs and outputs count, in this process and the next, until they are removed."""
    spool = Spool(root, is_counted=True)
    part = write(spool, data=b"x" * 10)
    assert (part.size_bytes, spool.measure().stored_bytes) == (10, 10)
    spool.commit(JOB, {INPUT: part})
    part = write(spool, OUTPUT, b"y" * 5)
    assert spool.measure().stored_bytes == 15
    spool.commit(JOB, {OUTPUT: part})
    again = Spool(root, is_counted=True)
    assert spool.measure().stored_bytes == again.measure().stored_bytes == 15
    # A collect that runs again replaces its output.
    again.commit(JOB, {OUTPUT: write(again, OUTPUT, b"z" * 7)})
    assert again.measure().stored_bytes == 17
    again.remove_job(JOB)
    assert again.measure().stored_bytes == 0
    (root / "uploads").mkdir()
    (root / "uploads" / "upl_1.part").write_bytes(b"x" * 9)
    assert again.measure().stored_bytes == 9


def test_an_upload_that_becomes_an_input_counts_once(root: Path) -> None:
    """While it has two names it is one file; a job counts whole as soon as it is there."""
    spool = Spool(root, is_counted=True)
    (root / "uploads").mkdir()
    upload = root / "uploads" / "upl_1.part"
    upload.write_bytes(b"x" * 10)
    part = spool.begin(JOB, INPUT)
    assert part.become(upload, 10)
    assert spool.measure().stored_bytes == 10
    spool.commit(JOB, {INPUT: part})
    upload.unlink()
    assert spool.measure().stored_bytes == 10


def test_a_full_disk_is_a_clear_refusal() -> None:
    """An error of the disk surfaces as StorageFull at the write."""
    part = Part(Path("/dev/full"))
    with pytest.raises(StorageFull, match="No space left"):
        part.write(b"x")
    part._file.close()


@pytest.mark.usefixtures("small_files")
def test_a_file_that_may_not_grow_is_refused(spool: Spool) -> None:
    """A write that succeeds in part and then fails is a failure."""
    part = spool.begin(JOB, INPUT)
    with pytest.raises(StorageFull):
        part.write(bytes(10_000))
    part.discard()


def test_a_missing_file_is_named(spool: Spool) -> None:
    """The error tells which file of which job is gone."""
    with pytest.raises(BlobMissing, match=f"{INPUT} of {JOB}"):
        spool.path(JOB, INPUT)


def test_removing_a_job_removes_its_files_only(spool: Spool) -> None:
    """Other jobs stay, and removing again is harmless."""
    spool.commit(JOB, {INPUT: write(spool)})
    spool.commit("req_2", {INPUT: write(spool)})
    spool.remove_job(JOB)
    spool.remove_job(JOB)
    assert list(spool.job_ids()) == ["req_2"]


def test_a_part_can_be_another_name_of_a_file(tmp_path: Path) -> None:
    """What is kept of it is the file; what is discarded is the name."""
    spool = Spool(tmp_path)
    file = tmp_path / "file"
    file.write_bytes(b"durable")
    os.utime(file, (1.0, 1.0))
    for ending in ("keep", "discard"):
        part = spool.begin("req_a", INPUT)
        assert part.become(file, 7)
        assert (part.size_bytes, part.path.stat().st_ino) == (7, file.stat().st_ino)
        if ending == "keep":
            spool.commit("req_a", {INPUT: part})
        else:
            part.discard()
    assert spool.path("req_a", INPUT).read_bytes() == file.read_bytes() == b"durable"
    assert spool.files("req_a")[INPUT] > 1.0
    assert spool.clear_incoming() == 0


@pytest.mark.parametrize("has_other_bytes", [True, False])
def test_a_part_stays_what_it_is(tmp_path: Path, *, has_other_bytes: bool) -> None:
    """If the file has more bytes than are wanted, or can have no second name."""
    spool = Spool(tmp_path)
    file = tmp_path / "file"
    if has_other_bytes:
        file.write_bytes(b"durable")
    part = spool.begin("req_a", INPUT)
    assert not part.become(file, 6)
    part.write(b"copied")
    spool.commit("req_a", {INPUT: part})
    assert spool.path("req_a", INPUT).read_bytes() == b"copied"
    assert spool.clear_incoming() == 0
