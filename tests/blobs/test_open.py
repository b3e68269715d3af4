"""From a `blobs_url` to a place, or a refusal that says what is wrong."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.responses import Response
from tests.wire import wire

from penstock.blobs.local import LocalBlobs
from penstock.blobs.open import Access, Place, open_blobs, place_of
from penstock.blobs.remote import RemoteBlobs
from penstock.blobs.sealed import SealedByUs
from penstock.blobs.spool import Spool
from penstock.clock import SystemClock
from penstock.errors import BlobsUnavailable, ConfigurationError
from penstock.providers.fixed_token import FixedToken

ACCOUNT = "AZURE_STORAGE_ACCOUNT_NAME"
KEY = "AZURE_STORAGE_ACCOUNT_KEY"


@pytest.fixture
async def access() -> AsyncIterator[Access]:
    """A way to nobody."""
    async with httpx2.AsyncClient() as http:
        yield Access(endpoint="", token=FixedToken("any"), http=http, clock=SystemClock())


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("gs://bucket", Place(scheme="gs", bucket="bucket", prefix="")),
        ("gs://bucket/", Place(scheme="gs", bucket="bucket", prefix="")),
        ("s3://my.bucket-1/a", Place(scheme="s3", bucket="my.bucket-1", prefix="a")),
        ("az://inputs/a/b_c.d/", Place(scheme="az", bucket="inputs", prefix="a/b_c.d")),
    ],
)
def test_a_place_is_scheme_bucket_and_prefix(url: str, place: Place) -> None:
    """A slash at the end changes nothing."""
    assert place_of(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "bucket/prefix",
        "http://bucket/prefix",
        "gs://",
        "gs:///prefix",
        "gs://B/prefix",
        "s3://bucket//prefix",
        "s3://bucket/../other",
        "s3://bucket/a/./b",
        "s3://key:secret@bucket/prefix",
        "az://bucket/prefix?sig=x",
        "az://bucket/a b",
        "gs://bucket/prefix\n",
        "gs://bucket/é",
    ],
)
def test_what_is_no_place_is_refused(url: str) -> None:
    """Other schemes, bad buckets, ways out of the prefix and secrets in it name the forms."""
    with pytest.raises(ConfigurationError, match="names no place") as caught:
        place_of(url)
    assert "s3://bucket/prefix" in str(caught.value.hint)


def test_no_address_is_the_data_directory(spool: Spool, access: Access) -> None:
    """What was configured before there was object storage stays as it is."""
    blobs = open_blobs("", spool, access)
    assert isinstance(blobs, LocalBlobs)
    assert not blobs.is_shared


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:1"])
def test_s3_needs_nothing_to_be_named(spool: Spool, access: Access, endpoint: str) -> None:
    """Its region has a default, its credentials are looked for at the first call."""
    blobs = open_blobs("s3://bucket/prefix", spool, replaced(access, endpoint))
    assert isinstance(blobs, RemoteBlobs)
    assert blobs.is_shared


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:1"])
def test_azure_is_read_back(
    monkeypatch: pytest.MonkeyPatch, spool: Spool, access: Access, endpoint: str
) -> None:
    """No Azure was ever run against: it is constructed, and distrusted; no more is shown."""
    monkeypatch.setenv(ACCOUNT, "account")
    blobs = open_blobs("az://container/prefix", spool, replaced(access, endpoint))
    assert isinstance(blobs, RemoteBlobs)
    assert isinstance(blobs._sealed, SealedByUs)
    assert blobs._sealed._reads_back


def test_azure_without_an_account_is_refused(
    monkeypatch: pytest.MonkeyPatch, spool: Spool, access: Access
) -> None:
    """The variables that obstore reads must name one; a page says which."""
    monkeypatch.delenv(ACCOUNT, raising=False)
    with pytest.raises(ConfigurationError, match="Account must be specified") as caught:
        open_blobs("az://container/prefix", spool, access)
    assert "docs/object-storage.md" in str(caught.value.hint)


def test_a_key_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, spool: Spool, access: Access
) -> None:
    """What is wrong is said in one line, at the start."""
    monkeypatch.setenv(ACCOUNT, "account")
    monkeypatch.setenv(KEY, "not base64!")
    with pytest.raises(ConfigurationError, match="Invalid Access Key") as caught:
        open_blobs("az://container/prefix", spool, access)
    assert "\n" not in caught.value.message


async def test_azure_speaks_to_its_endpoint(
    monkeypatch: pytest.MonkeyPatch, spool: Spool, access: Access
) -> None:
    """The container and the prefix are where they should be in its addresses."""
    monkeypatch.setenv(ACCOUNT, "account")
    monkeypatch.setenv(KEY, "a2V5")
    with wire(lambda _request: Response(status_code=403)) as server:
        blobs = open_blobs("az://container/prefix", spool, replaced(access, server.url))
        with pytest.raises(BlobsUnavailable, match="Azure Blob Storage could not look at az://"):
            await blobs.find("req_a", "input.jsonl", 1)
    assert [one.url.path for one in server.requests] == ["/container/prefix/jobs/req_a/input.jsonl"]


def replaced(access: Access, endpoint: str) -> Access:
    """The same access to another address."""
    return Access(endpoint=endpoint, token=access.token, http=access.http, clock=access.clock)
