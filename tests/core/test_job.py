import re
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.job import Counts, JobId, new_job_id, tag_of

LABEL = re.compile(r"[a-z0-9_-]{1,63}\Z")


def test_ids_survive_percent_encoding() -> None:
    """`encodeURIComponent` leaves an id as it is."""
    job_id = new_job_id()
    assert quote(job_id, safe="") == job_id


def test_ids_can_be_labels() -> None:
    """Vertex takes only lower-case letters, digits, `_` and `-` in labels."""
    assert all(LABEL.match(new_job_id()) for _ in range(200))


def test_ids_carry_130_random_bits() -> None:
    """26 characters of 32 each: nobody guesses one, and two never meet."""
    ids = {new_job_id() for _ in range(2_000)}
    assert len(ids) == 2_000
    assert all(len(job_id.removeprefix("req_")) == 26 for job_id in ids)
    assert len({character for job_id in ids for character in job_id[4:]}) == 32


def test_a_tag_never_changes() -> None:
    """The tag stands in files at the provider, so an upgrade may not compute another one."""
    assert tag_of(JobId("req_0123456789abcdefghjkmnpqrs")) == "53a52b12"


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet="0123456789abcdefghjkmnpqrstvwxyz", min_size=26, max_size=26))
def test_a_tag_is_eight_hex_digits(random_part: str) -> None:
    """Every id has a tag of one form."""
    assert re.fullmatch(r"[0-9a-f]{8}", tag_of(JobId(f"req_{random_part}")))


def test_counts_add_up() -> None:
    """Every outcome is either a success or a failure."""
    counts = Counts(ok=1, truncated=2, blocked=4, empty=8, error=16, missing=32)
    assert (counts.successful, counts.failed) == (15, 48)
