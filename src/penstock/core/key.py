"""The form of an API key: `pk_<8 id>_<43 secret>_<6 crc32>`.

The prefix lets scanners find leaked keys, the id is public and names the row, the secret has 256
bits, and the checksum tells a typing error from an unknown key without touching the database.
"""

import secrets
import zlib
from typing import Final

PREFIX: Final = "pk"
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_CHARS: Final = 8
_SECRET_CHARS: Final = 43
_CHECK_CHARS: Final = 6
KEY_CHARS: Final = len(PREFIX) + _ID_CHARS + _SECRET_CHARS + _CHECK_CHARS + 3


def new_key() -> str:
    """Return a new key; it is shown once and stored only as an HMAC."""
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARS))
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_CHARS))
    return _with_check(f"{PREFIX}_{key_id}_{secret}")


def key_id_of(text: str) -> str | None:
    """Return the id of a well-formed key, None for anything else."""
    if len(text) != KEY_CHARS or not text.isascii():
        return None
    body, _, _check = text.rpartition("_")
    parts = body.split("_")
    if len(parts) != 3 or parts[0] != PREFIX:  # noqa: PLR2004  # prefix, id, secret
        return None
    if [len(part) for part in parts[1:]] != [_ID_CHARS, _SECRET_CHARS]:
        return None
    return parts[1] if _with_check(body) == text else None


def _with_check(body: str) -> str:
    number = zlib.crc32(body.encode("ascii"))
    digits = []
    for _ in range(_CHECK_CHARS):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return f"{body}_{''.join(reversed(digits))}"
