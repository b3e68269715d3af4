"""One master secret, one derived key per purpose.

Keys are separated by HKDF labels, so that what signs a link can never check a password and a leak
of one derived key says nothing about another. The master comes from the settings, or is made once
in the data directory with mode 0600. There is no default secret.
"""

import hashlib
import hmac
import os
import secrets
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Final

from penstock.directory import sync_directory
from penstock.errors import ConfigurationError
from penstock.settings import Secret

SECRET_CHARS_MIN: Final = 32
DIFFERENT_CHARS_MIN: Final = 8
STEP_SHARE_MAX: Final = 0.75
"""The share of neighbours such as `ab` or `21`; of random hexadecimal digits it is about 0.17."""

KNOWN: Final = ("changeme", "change-me", "change_me", "replace", "openssl", "example", "your-")
"""What examples and templates are filled with, in ours and in those of others."""
_FILE: Final = "secret"
_KEY_BYTES: Final = 32


class Purpose(StrEnum):
    """What a derived key is for."""

    API_KEYS = "penstock/v1/api-keys"
    DOWNLOADS = "penstock/v1/downloads"
    AUDIT = "penstock/v1/audit"
    WEBHOOKS = "penstock/v1/webhooks"


class Keyring:
    """Derives keys from the master secret and keeps it out of sight."""

    def __init__(self, master: Secret) -> None:
        weakness = _weakness(master.reveal())
        if weakness is not None:
            raise ConfigurationError(
                f"The master secret {weakness}.",
                hint="Set PENSTOCK_SECRET to the output of: openssl rand -hex 32",
            )
        self._master = master

    @classmethod
    def open(cls, configured: Secret, data_dir: Path) -> "Keyring":
        """Return the keyring of the configured secret, or of the data directory's own."""
        return cls(configured or _of_file(data_dir / _FILE))

    @staticmethod
    def is_there(configured: Secret, data_dir: Path) -> bool:
        """Return whether `open` would find a master secret and need not make one."""
        return bool(configured) or (data_dir / _FILE).exists()

    def key(self, purpose: Purpose) -> bytes:
        """Return the 32 bytes for a purpose."""
        # HKDF with SHA-256 (RFC 5869), no salt and one block: two lines, and a library of 9 MB is
        # needed by nobody who has neither webhooks nor an account.
        extracted = hmac.digest(bytes(_KEY_BYTES), self._master.reveal().encode(), hashlib.sha256)
        return hmac.digest(extracted, purpose.encode() + b"\x01", hashlib.sha256)


def _weakness(text: str) -> str | None:
    """Return why a secret could be guessed; what is random is never told so."""
    if len(text) < SECRET_CHARS_MIN:
        return f"has fewer than {SECRET_CHARS_MIN} characters"
    if any(known in text.lower() for known in KNOWN):
        return "is an example"
    if len(set(text)) < DIFFERENT_CHARS_MIN:
        return f"has fewer than {DIFFERENT_CHARS_MIN} different characters"
    if any(text[period:] == text[:-period] for period in range(1, len(text) // 2 + 1)):
        return "repeats itself"
    steps = sum(abs(ord(one) - ord(next_one)) <= 1 for one, next_one in pairwise(text))
    if steps / (len(text) - 1) > STEP_SHARE_MAX:
        return "is a sequence"
    return None


def _of_file(path: Path) -> Secret:
    """Read the secret, or make it; two processes that race read the same one."""
    try:
        # O_EXCL decides the race; the mode applies from the first byte.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return Secret(path.read_text(encoding="ascii").strip())
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        text = secrets.token_hex(32)
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    # Without its name the file is lost in a power cut, and with it every key and link.
    sync_directory(path.parent)
    return Secret(text)
