"""Ids that nobody can guess."""

import hashlib
import re
import secrets
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH: Final = 26
_MADE: Final = re.compile(rf"[a-z]+_[{_ALPHABET}]{{{_LENGTH}}}\Z")


def new_id(prefix: str) -> str:
    """Return an id of 130 random bits after the prefix, in lower case."""
    return f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def is_secret(text: str) -> bool:
    """Return whether it has the form of ours, so that whoever knows one was told it."""
    return _MADE.match(text) is not None


def id_from(prefix: str, text: str) -> str:
    """Return the id that a text always gives; nobody can guess it who cannot guess the text."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"{prefix}_" + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:_LENGTH])
