from collections.abc import Callable
from urllib.parse import parse_qs

import pytest
from tests.fake_clock import START, FakeClock

from penstock.api.links import Links
from penstock.core.job import Job, JobId, OrgId
from penstock.errors import Forbidden

MakeJob = Callable[..., Job]
KEY = b"k" * 32


@pytest.fixture
def links(clock: FakeClock) -> Links:
    """Links that work for an hour."""
    return Links(KEY, clock, 3600)


@pytest.fixture
def job(new_job: MakeJob) -> Job:
    """A job with an output."""
    return new_job(id=JobId("req_1"), output_sha256="a" * 64)


def parts(links: Links, job: Job) -> tuple[str, str]:
    """The two parameters of a fresh link."""
    query = parse_qs(links.query(job))
    return query["expires"][0], query["signature"][0]


def accepted(links: Links, job: Job | None, expires: str | None, signature: str | None) -> bool:
    """Whether the link opens the job."""
    try:
        return links.check(job, expires, signature) is job
    except Forbidden as error:
        return error.error_code != "link_invalid"


def test_a_fresh_link_opens_its_job(links: Links, job: Job) -> None:
    """What was made here is accepted here."""
    assert accepted(links, job, *parts(links, job))


def test_every_flipped_byte_is_noticed(links: Links, job: Job) -> None:
    """Whichever byte of the signature or of the time changes, the link opens nothing."""
    expires, signature = parts(links, job)
    for position in range(len(signature)):
        for flip in (1, 2, 64):
            changed = chr(ord(signature[position]) ^ flip)
            forged = signature[:position] + changed + signature[position + 1 :]
            assert not accepted(links, job, expires, forged)
    for position in range(len(expires)):
        forged = expires[:position] + chr(ord(expires[position]) ^ 1) + expires[position + 1 :]
        assert not accepted(links, job, forged, signature)


@pytest.mark.parametrize(
    "change",
    [
        {"id": JobId("req_2")},
        {"org_id": OrgId("rival")},
        {"output_sha256": "b" * 64},
        {"output_sha256": None},
    ],
)
def test_a_link_opens_one_output_of_one_job(
    links: Links, job: Job, new_job: MakeJob, change: dict[str, object]
) -> None:
    """Another job, tenant or output is not opened by it."""
    other = new_job(**{"id": job.id, "output_sha256": job.output_sha256, **change})
    assert not accepted(links, other, *parts(links, job))


@pytest.mark.parametrize(
    "expires",
    [
        *(None, "", "x", "-1", "+1795366800", "1_795_366_800", " 1795366800", "1795366800.0"),
        *("9" * 13, "\u0661\u0667", "\u00b2"),
    ],
)
def test_an_odd_time_is_refused(links: Links, job: Job, expires: str | None) -> None:
    """Only plain digits are read, so that no second spelling of a time works."""
    assert not accepted(links, job, expires, parts(links, job)[1])


@pytest.mark.parametrize("signature", [None, "", "x", "é", "\ud800", "A" * 64, "0" * 10_000])
def test_an_odd_signature_is_refused(links: Links, job: Job, signature: str | None) -> None:
    """No text but the right one is accepted, and none crashes."""
    assert not accepted(links, job, parts(links, job)[0], signature)


def test_an_unknown_job_has_no_links(links: Links, job: Job) -> None:
    """A good signature of a job that is gone gives the answer of a forged one."""
    assert not accepted(links, None, *parts(links, job))


def test_another_key_signs_other_links(links: Links, job: Job, clock: FakeClock) -> None:
    """A link of another server opens nothing here."""
    assert not accepted(Links(b"o" * 32, clock, 3600), job, *parts(links, job))


def test_a_link_works_for_its_time(links: Links, job: Job, clock: FakeClock) -> None:
    """One second before its end a link works; at its end its owner hears that it has expired."""
    expires, signature = parts(links, job)
    assert int(expires) == START + 3600
    clock.advance(3599)
    assert links.check(job, expires, signature) is job
    clock.advance(1)
    with pytest.raises(Forbidden, match="has expired") as caught:
        links.check(job, expires, signature)
    assert caught.value.error_code == "link_expired"
