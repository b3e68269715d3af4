import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from tests.fake_clock import START, FakeClock

from penstock.api.links import Links
from penstock.core.job import Job, JobId, OrgId
from penstock.errors import Forbidden

MakeJob = Callable[..., Job]
KEY = b"k" * 32
FORGERIES = 100_000


@dataclass
class Lock:
    """Links, and the job that they open."""

    links: Links
    job: Job

    @property
    def query(self) -> bytes:
        """The query of a fresh link."""
        return self.links.query(self.job).encode()

    @property
    def parts(self) -> tuple[bytes, bytes]:
        """Its time and its signature."""
        expires, signature = self.query.split(b"&")
        return expires.removeprefix(b"expires="), signature.removeprefix(b"signature=")

    def opens(self, query: bytes, job: Job | None = None) -> bool:
        """Whether the query opens the job, or would if it were younger."""
        try:
            return self.links.check(job or self.job, query) is not None
        except Forbidden as error:
            return error.error_code != "link_invalid"


@pytest.fixture
def lock(clock: FakeClock, new_job: MakeJob) -> Lock:
    """Links that work for an hour, and a job with an output."""
    job = new_job(id=JobId("req_1"), output_sha256="a" * 64, output_name="output.jsonl")
    return Lock(Links(KEY, clock, 3600), job)


def query(expires: bytes, signature: bytes) -> bytes:
    """The query of these two."""
    return b"expires=" + expires + b"&signature=" + signature


def test_a_fresh_link_opens_its_job(lock: Lock) -> None:
    """What was made here is accepted here."""
    assert lock.opens(lock.query)


def test_every_flipped_bit_is_noticed(lock: Lock) -> None:
    """Whichever bit of the query changes, in names, time or signature, the link opens nothing."""
    good = lock.query
    for position in range(len(good)):
        for flip in range(1, 256):
            forged = bytearray(good)
            forged[position] ^= flip
            assert not lock.opens(bytes(forged))


def test_every_cut_is_noticed(lock: Lock) -> None:
    """Without any of its bytes, with one more, or with a byte twice, a link opens nothing."""
    good = lock.query
    for position in range(len(good)):
        assert not lock.opens(good[:position] + good[position + 1 :])
        assert not lock.opens(good[:position])
        # Only an inserted byte that is the same as its neighbour could give the same text.
        assert not lock.opens(good[:position] + b"0" + good[position:])
        assert not lock.opens(good[:position] + good[position : position + 1] + good[position:])


def test_a_link_has_one_spelling(lock: Lock) -> None:
    """Parameters that are missing, doubled, reordered, renamed, added or encoded are refused."""
    expires, signature = lock.parts
    one, two = b"expires=" + expires, b"signature=" + signature
    others = [
        b"",
        one,
        two,
        two + b"&" + one,
        one + b"&" + one + b"&" + two,
        one + b"&" + two + b"&" + two,
        one + b"&" + two + b"&",
        b"&" + one + b"&" + two,
        one + b"&&" + two,
        one + b";" + two,
        one + b"&" + two + b"&x=y",
        b"x=y&" + one + b"&" + two,
        b"Expires=" + expires + b"&" + two,
        one + b"&Signature=" + signature,
        one + b"&signature=" + signature.upper(),
        one + b"&signature=%" + b"%02x" % signature[0] + signature[1:],
        b"expires=%" + b"%02x" % expires[0] + expires[1:] + b"&" + two,
        one + b"&signature=+" + signature,
        one + b"&signature=" + signature + b"\n",
        one + b"&" + two + b"#",
    ]
    assert [other for other in others if lock.opens(other)] == []


@pytest.mark.parametrize(
    "expires",
    [
        *(b"", b"x", b"-1", b"+1795366800", b"1_795_366_800", b" 1795366800", b"1795366800.0"),
        *(b"01795366800", b"9" * 13, "\u0661\u0667".encode(), "\u00b2".encode(), b"\xff"),
    ],
)
def test_an_odd_time_is_refused(lock: Lock, expires: bytes) -> None:
    """Only plain digits are read, so that no second spelling of a time works."""
    assert not lock.opens(query(expires, lock.parts[1]))


@pytest.mark.parametrize("signature", [b"", b"x", "é".encode(), b"\xff", b"A" * 64, b"0" * 10_000])
def test_an_odd_signature_is_refused(lock: Lock, signature: bytes) -> None:
    """No text but the right one is accepted, and none crashes."""
    assert not lock.opens(query(lock.parts[0], signature))


@pytest.mark.slow
def test_no_forgery_is_accepted(lock: Lock) -> None:
    """Of 100,000 links in the right form, seeded, with a wrong time or signature none opens."""
    chance = random.Random(20_261_123)  # noqa: S311  # forgeries that can be had again
    expires, signature = lock.parts
    opened = 0
    for number in range(FORGERIES):
        if number % 4:
            digits = bytearray(signature)
            for _ in range(number % 4):
                place = chance.randrange(64)
                digits[place] = chance.choice(
                    b"0123456789abcdef".replace(digits[place : place + 1], b"")
                )
            forged = query(expires, bytes(digits))
        else:
            other = int(expires) + chance.choice((1, -1)) * chance.randrange(1, 10**8)
            forged = query(b"%d" % other, signature)
        # Two changes of one digit may meet and undo each other.
        opened += forged != lock.query and lock.opens(forged)
    assert opened == 0


@pytest.mark.parametrize(
    "change",
    [
        {"id": JobId("req_2")},
        {"org_id": OrgId("rival")},
        {"output_sha256": "b" * 64},
        {"output_sha256": None},
        {"output_name": "output-2.jsonl"},
        {"output_name": None},
    ],
)
def test_a_link_opens_one_output_of_one_job(
    lock: Lock, new_job: MakeJob, change: dict[str, object]
) -> None:
    """Another job, tenant, output or generation of the output is not opened by it."""
    job = lock.job
    same = {"id": job.id, "output_sha256": job.output_sha256, "output_name": job.output_name}
    assert not lock.opens(lock.query, new_job(**{**same, **change}))


def test_parts_cannot_be_moved(lock: Lock, new_job: MakeJob) -> None:
    """Two jobs whose parts make the same text in a row do not have the same signature."""
    one = new_job(id=JobId("b\nc"), org_id=OrgId("a"), output_sha256="d")
    two = new_job(id=JobId("c"), org_id=OrgId("a\nb"), output_sha256="d")
    assert lock.links.query(one) != lock.links.query(two)


def test_an_unknown_job_has_no_links(lock: Lock) -> None:
    """A good signature of a job that is gone gives the answer of a forged one."""
    with pytest.raises(Forbidden) as gone:
        lock.links.check(None, lock.query)
    with pytest.raises(Forbidden) as forged:
        lock.links.check(lock.job, query(lock.parts[0], b"0" * 64))
    assert (gone.value.message, gone.value.error_code) == (
        forged.value.message,
        forged.value.error_code,
    )


def test_another_key_signs_other_links(lock: Lock, clock: FakeClock) -> None:
    """A link of another server opens nothing here."""
    assert not Lock(Links(b"o" * 32, clock, 3600), lock.job).opens(lock.query)


def test_a_link_works_for_its_time(lock: Lock, clock: FakeClock) -> None:
    """One second before its end a link works; at its end its owner hears that it has expired."""
    made = lock.query
    assert int(lock.parts[0]) == START + 3600
    clock.advance(3599)
    assert lock.links.check(lock.job, made) is lock.job
    clock.advance(1)
    with pytest.raises(Forbidden, match="has expired") as caught:
        lock.links.check(lock.job, made)
    assert caught.value.error_code == "link_expired"
