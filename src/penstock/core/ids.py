"""Ids that nobody can guess."""

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
