"""Which files requests may name: the list, and the folders that are refused whatever is listed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.files import ANY_FILE, FileRule
from penstock.errors import ConfigurationError

OWN = ["gs://acme-batch/penstock/", "gs://acme-jobs/"]
OPEN = FileRule.of((), OWN)
LISTED = FileRule.of(["gs://acme-media/in/", "https://cdn.example.com/a/", "gs://one/file"], OWN)


def code(rule: FileRule, address: object) -> str | None:
    """The code with which an address is refused."""
    fault = rule.fault(address)
    return fault.code if fault else None


@pytest.mark.parametrize(
    "address",
    [
        "gs://acme-media/in/a.png",
        "gs://elsewhere/a",
        "gs://acme-batch/other/a",
        "gs://acme-batch/penstock-2/a",
        "https://example.com/a.png?sig=%2F",
        "https://storage.googleapis.com/elsewhere/penstock/a",
        "https://acme-batch.example.com/penstock/a",
        "https://notgoogleapis.com/acme-batch/a",
    ],
)
def test_without_a_list_any_file_is_allowed(address: str) -> None:
    """What is not in the server's own folders is between the caller and the provider."""
    assert code(OPEN, address) is None


@pytest.mark.parametrize(
    "address",
    [
        "gs://acme-batch/penstock",
        "gs://acme-batch/penstock/",
        "gs://acme-batch/penstock/jobs/1/input.jsonl",
        "gs://acme-batch/%70enstock/a",
        "gs://acme-batch/*/a",
        "gs://acme-batch/[p]enstock/a",
        "gs://acme-jobs/a",
        "gs://acme-jobs/a/b",
        "https://storage.googleapis.com/acme-batch/penstock/a",
        "https://STORAGE.googleapis.com:443/acme-jobs/a?alt=media",
        "https://acme-jobs.storage.googleapis.com/a",
        "https://storage.cloud.google.com/acme-batch/penstock/a",
        "https://www.googleapis.com/download/storage/v1/b/acme-jobs/o/a",
    ],
)
def test_our_own_folders_are_refused_whatever_is_listed(address: str) -> None:
    """In no spelling, and by no other name of Cloud Storage, are they within reach."""
    assert code(OPEN, address) == "file_uri_not_allowed"
    everything = FileRule.of(
        ["gs://acme-batch/", "gs://acme-jobs/", "https://storage.googleapis.com/"], OWN
    )
    assert code(everything, address) == "file_uri_not_allowed"


def test_a_list_allows_what_it_names_alone() -> None:
    """A prefix with a slash allows all below it, any other one itself; the hint tells the list."""
    for address in ("gs://acme-media/in/a", "https://cdn.example.com/a/b?c=d", "gs://one/file"):
        assert code(LISTED, address) is None
    for address in (
        "gs://acme-media/a",
        "https://cdn.example.com/",
        "gs://one/file2",
        "gs://x-y/a",
    ):
        fault = LISTED.fault(address)
        assert fault is not None
        assert fault.code == "file_uri_not_allowed"
        assert "gs://acme-media/in/, https://cdn.example.com/a/, gs://one/file" in fault.hint
        assert "files_allowed" in fault.hint


@pytest.mark.parametrize(
    "address",
    [
        *("", "a", "file:///etc/passwd", "http://example.com/a", "ftp://h/a", "GS://bucket/a"),
        *("gs://bucket", "gs://bucket/", "gs://bucket/../a", "gs://b#/a", "gs://bucket/a#1"),
        *("https://u:p@h/a", "https://h/%2e%2e/a", "https://0x7f.1/", "gs://bucket/\ud800"),
        *(None, 7, True, {}, []),
    ],
)
def test_what_is_no_address_is_refused(address: object) -> None:
    """Other schemes, what can be read in two ways, and what is no text at all."""
    for rule in (ANY_FILE, OPEN, LISTED):
        assert code(rule, address) == "invalid_file_uri"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("bucket/a", "it is not like gs://"),
        ("http://127.0.0.1/", "anybody on the way"),
        ("https://h/a?b=c", "with a query"),
        ("s3://bucket/", "it is not like gs://"),
    ],
)
def test_a_list_of_something_else_is_refused(entry: str, words: str) -> None:
    """The operator is told which entry of files_allowed allows nothing."""
    with pytest.raises(ConfigurationError, match=f"files_allowed has .*{words}"):
        FileRule.of([entry], [])


def test_a_folder_of_ours_that_is_none_is_refused() -> None:
    """A bucket that could not be kept private ends the start."""
    with pytest.raises(ConfigurationError, match=r"vertex\.bucket .* no valid name"):
        FileRule.of([], ["gs://A_/penstock/"])


@given(
    st.text(st.sampled_from("gs:/htps.acme-batchjobs%7*penstock?#@\\ AZ"), max_size=40)
    | st.builds("gs://acme-batch/{}penstock{}".format, st.text(max_size=3), st.text(max_size=5))
)
def test_nothing_that_is_allowed_leads_into_our_folders(address: str) -> None:
    """What passes begins with a scheme that is allowed and not with the name of a folder."""
    if OPEN.fault(address) is None:
        assert address.startswith("gs://") or address.lower().startswith("https://")
        assert not f"{address}/".startswith(tuple(OWN))
