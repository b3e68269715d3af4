import base64
import hmac
import random
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st
from tests.fake_clock import FakeClock

from penstock.api.auth import Authenticator
from penstock.api.links import Links
from penstock.core.job import Job
from penstock.errors import ConfigurationError, Forbidden
from penstock.keyring import SECRET_CHARS_MIN, Keyring, Purpose
from penstock.settings import Secret
from penstock.store.tenants import Tenants

MASTER = "canary-0123456789-canary-0123456789"
OTHER = "another-7f3a91c05be2d846-e1b09d4477aa"
KNOWN_HEX = {
    Purpose.API_KEYS: "ccf239e0a8df7201a040d678999d197b0e1f450d56a4f4a5e15207cf4f0316c6",
    Purpose.DOWNLOADS: "2f3835663c90a904bf1a69b54313a816bcfbaff9f68490611456a57b1056a140",
    Purpose.AUDIT: "1343e0eb4cedfc0e7c475ec4615b1a2e243152ac3d753ad71887046b84f33ba6",
    Purpose.WEBHOOKS: "39b3045edeaf5cf8163d719701fcd781dd759a90294ef69c9765dba00a3a6cc5",
}
Make = Callable[[bytes, Job], bytes]


def test_each_purpose_has_its_own_key() -> None:
    """What signs links can check no password."""
    keyring = Keyring(Secret(MASTER))
    keys = {keyring.key(purpose) for purpose in Purpose}
    assert len(keys) == len(Purpose)
    assert {len(key) for key in keys} == {32}


def test_keys_never_change() -> None:
    """Stored digests depend on the derivation, so an upgrade may not change it."""
    keyring = Keyring(Secret(MASTER))
    assert {purpose: keyring.key(purpose).hex() for purpose in Purpose} == KNOWN_HEX


@given(st.text(st.characters(codec="utf-8"), min_size=SECRET_CHARS_MIN), st.sampled_from(Purpose))
def test_keys_are_derived_by_hkdf(master: str, purpose: Purpose) -> None:
    """Our two lines are RFC 5869: another implementation derives the same keys."""
    reference = HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode())
    try:
        keyring = Keyring(Secret(master))
    except ConfigurationError:
        return
    assert keyring.key(purpose) == reference.derive(master.encode())


def test_another_secret_gives_other_keys() -> None:
    """No two servers share keys."""
    one, other = Keyring(Secret(MASTER)), Keyring(Secret(OTHER))
    assert one.key(Purpose.API_KEYS) != other.key(Purpose.API_KEYS)


@pytest.mark.parametrize("text", ["", "x", "x" * (SECRET_CHARS_MIN - 1)])
def test_a_short_secret_is_refused(text: str) -> None:
    """A secret that could be guessed stops the start, without being shown."""
    with pytest.raises(ConfigurationError, match="fewer than 32") as caught:
        Keyring(Secret(text))
    assert "openssl rand" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0" * 64, "fewer than 8 different"),
        ("deadbeef" * 8, "fewer than 8 different"),
        ("correct-horse-9" * 3, "repeats itself"),
        ("0123456789abcdef" * 4, "repeats itself"),
        ("abcdefghijklmnopqrstuvwxyz0123456789", "is a sequence"),
        ("zyxwvutsrqponmlkjihgfedcba9876543210", "is a sequence"),
        ("penstock-changeme-penstock-9f31ab02", "is an example"),
        ("$(openssl rand -hex 32) 7f3a91c05be2d846", "is an example"),
    ],
)
def test_a_secret_that_can_be_guessed_is_refused(text: str, why: str) -> None:
    """Length alone is no entropy; the reason is told and the secret is not."""
    with pytest.raises(ConfigurationError, match=why) as caught:
        Keyring(Secret(text))
    assert text not in caught.value.message


def test_no_random_secret_is_refused() -> None:
    """Of 2,000 secrets of each kind that our hints name, none is called weak."""
    chance = random.Random(20_261_123)  # noqa: S311  # the same secrets each time
    for _ in range(2_000):
        data = chance.randbytes(32)
        for text in (data.hex(), data[:16].hex(), base64.b64encode(data).decode()):
            Keyring(Secret(text))


def seal(key: bytes, _job: Job) -> bytes:
    """What any purpose makes with its key."""
    return hmac.digest(key, b"one message", "sha256")


def link(key: bytes, job: Job) -> bytes:
    """A download link."""
    return Links(key, FakeClock(), 3600).query(job).encode()


def digest(key: bytes, _job: Job) -> bytes:
    """What is stored of an API key; the tenants are not asked for it."""
    return Authenticator(cast(Tenants, None), key, FakeClock()).digest("one key").encode()


@pytest.mark.parametrize("make", [seal, link, digest])
def test_a_key_serves_its_purpose_alone(make: Make, new_job: Callable[..., Job]) -> None:
    """What one purpose made is accepted by no other: only the diagonal of the matrix passes."""
    keyring, job = Keyring(Secret(MASTER)), new_job(output_sha256="a" * 64)
    passed = {
        (maker, judge)
        for maker in Purpose
        for judge in Purpose
        if hmac.compare_digest(make(keyring.key(maker), job), make(keyring.key(judge), job))
    }
    assert passed == {(purpose, purpose) for purpose in Purpose}


def test_a_link_opens_under_the_key_of_links_alone(new_job: Callable[..., Job]) -> None:
    """A link that is signed with the key of another purpose is a forgery."""
    keyring, job = Keyring(Secret(MASTER)), new_job(output_sha256="a" * 64)
    judge = Links(keyring.key(Purpose.DOWNLOADS), FakeClock(), 3600)
    assert judge.check(job, link(keyring.key(Purpose.DOWNLOADS), job)) is job
    for purpose in set(Purpose) - {Purpose.DOWNLOADS}:
        with pytest.raises(Forbidden):
            judge.check(job, link(keyring.key(purpose), job))


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    """A data directory keeps its own secret over restarts."""
    first = Keyring.open(Secret(""), tmp_path).key(Purpose.API_KEYS)
    assert Keyring.open(Secret(""), tmp_path).key(Purpose.API_KEYS) == first


def test_a_made_secret_is_for_its_owner_only(tmp_path: Path) -> None:
    """Nobody else on the machine can read it."""
    Keyring.open(Secret(""), tmp_path)
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text().strip()) == 64


def test_two_directories_have_two_secrets(tmp_path: Path) -> None:
    """There is no default secret."""
    keys = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        keys.add(Keyring.open(Secret(""), tmp_path / name).key(Purpose.API_KEYS))
    assert len(keys) == 2


def test_a_configured_secret_leaves_no_file(tmp_path: Path) -> None:
    """The operator's secret is used as it is and written nowhere."""
    opened = Keyring.open(Secret(MASTER), tmp_path)
    assert opened.key(Purpose.API_KEYS) == Keyring(Secret(MASTER)).key(Purpose.API_KEYS)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_secret_file_stops_the_start(tmp_path: Path) -> None:
    """A file that lost its content is noticed, because with another secret no key would work."""
    (tmp_path / "secret").write_text("")
    with pytest.raises(ConfigurationError, match="fewer than 32"):
        Keyring.open(Secret(""), tmp_path)


def test_a_racing_start_never_gets_another_secret(tmp_path: Path) -> None:
    """Of processes that start together all that start have the same secret."""
    with ThreadPoolExecutor(8) as pool:
        opened = pool.map(lambda _: open_or_none(tmp_path), range(8))
    assert len({key for key in opened if key is not None}) == 1


def open_or_none(directory: Path) -> bytes | None:
    """A key of the directory's secret; None when the start was refused."""
    try:
        return Keyring.open(Secret(""), directory).key(Purpose.API_KEYS)
    except ConfigurationError:
        return None


def test_a_keyring_shows_no_secret() -> None:
    """Neither repr nor an attribute's repr holds the master."""
    keyring = Keyring(Secret(MASTER))
    assert MASTER not in repr(keyring) + repr(vars(keyring))
