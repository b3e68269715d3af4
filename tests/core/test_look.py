"""A look is known by the name of its file, and only while there is nothing better."""

from collections.abc import Callable

import pytest

from penstock.core.job import Job
from penstock.core.look import FILES, index_name, is_wanted, look_of, output_name, with_look
from penstock.core.state import TERMINAL, JobState

MakeJob = Callable[..., Job]
DIGEST = "ab" * 32
NAME = output_name("00c0ffee", 1234, DIGEST)
INDEX = index_name("00c0ffee")
LOOKED = {
    "state": JobState.RUNNING,
    "partial_name": NAME,
    "partial_index_name": INDEX,
    "partial_at": 7.0,
    "partial_lines": 3,
}


def test_the_name_says_what_is_in_the_file(new_job: MakeJob) -> None:
    """Size and digest come back from the name, so that a download can state both."""
    job = new_job(**LOOKED)
    look = look_of(job)
    assert look is not None
    assert (look.size_bytes, look.sha256, look.lines, look.at) == (1234, DIGEST, 3, 7.0)
    shown = with_look(job, look)
    assert (shown.output_name, shown.index_name) == (NAME, INDEX)
    assert (shown.output_bytes, shown.output_sha256) == (1234, DIGEST)


@pytest.mark.parametrize("state", sorted(JobState))
def test_only_what_runs_has_a_look(new_job: MakeJob, state: JobState) -> None:
    """Until the output is there; a wish is heard while the provider has the job."""
    job = new_job(**LOOKED | {"state": state, "partial_wanted_at": 8.0})
    assert (look_of(job) is not None) is (state in {JobState.RUNNING, JobState.COLLECTING})
    assert is_wanted(job) is (state is JobState.RUNNING)
    assert state not in TERMINAL or look_of(job) is None


@pytest.mark.parametrize(
    "change",
    [
        {"output_name": "output-1.jsonl"},
        {"partial_name": None},
        {"partial_index_name": None},
        {"partial_name": "partial-00c0ffee.jsonl"},
        {"partial_name": NAME + "x"},
        {"partial_name": "../" + NAME},
    ],
)
def test_what_is_no_look(new_job: MakeJob, change: dict[str, object]) -> None:
    """An output is better than a look, and a name that we do not write is none of ours."""
    assert look_of(new_job(**LOOKED | change)) is None


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        (NAME, True),
        (INDEX, True),
        ("partial-00c0ffee.jsonl", True),
        ("output-00c0ffee.jsonl", False),
        ("input.jsonl", False),
        ("partial-00c0ffee.index.part", False),
    ],
)
def test_prune_knows_the_files(name: str, *, is_ours: bool) -> None:
    """Whether a row names them or not."""
    assert bool(FILES.match(name)) is is_ours
