import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penstock.errors import ConfigurationError
from penstock.keyring import SECRET_CHARS_MIN, Keyring, Purpose
from penstock.settings import Secret

MASTER = "canary-0123456789-canary-0123456789"
API_KEYS_HEX = "898b0f92fc0a20a3ad854fc6645a9106e363015cb5c64118336d549e0fde22bd"
DOWNLOADS_HEX = "6d9167b1eac6c6f16573509e2b5c218f91cc76467d44a1449b974c4aa3e81171"


def test_each_purpose_has_its_own_key() -> None:
    """What signs links can check no password."""
    keyring = Keyring(Secret(MASTER))
    keys = {keyring.key(purpose) for purpose in Purpose}
    assert len(keys) == len(Purpose)
    assert {len(key) for key in keys} == {32}


def test_keys_never_change() -> None:
    """Stored digests depend on the derivation, so an upgrade may not change it."""
    keyring = Keyring(Secret("0" * 32))
    assert keyring.key(Purpose.API_KEYS).hex() == API_KEYS_HEX
    assert keyring.key(Purpose.DOWNLOADS).hex() == DOWNLOADS_HEX


def test_another_secret_gives_other_keys() -> None:
    """No two servers share keys."""
    one, other = Keyring(Secret("a" * 32)), Keyring(Secret("b" * 32))
    assert one.key(Purpose.API_KEYS) != other.key(Purpose.API_KEYS)


@pytest.mark.parametrize("text", ["", "x", "x" * (SECRET_CHARS_MIN - 1)])
def test_a_short_secret_is_refused(text: str) -> None:
    """A secret that could be guessed stops the start, without being shown."""
    with pytest.raises(ConfigurationError, match="fewer than 32") as caught:
        Keyring(Secret(text))
    assert "openssl rand" in str(caught.value.hint)


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
