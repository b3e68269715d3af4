"""The last wall in front of a log: what looks like a secret, or is one, does not pass.

No code of ours logs a secret; this is for the day on which some does, or a library quotes a
request. Values that are known are removed wherever they stand; the others by their form.
"""

import re
from collections.abc import Iterable
from typing import Final

HIDDEN: Final = "[hidden]"

VALUE_CHARS_MIN: Final = 6
"""A shorter value is part of ordinary words, and removing it would ruin the log."""

_SHAPES: Final = (
    # The id of a key is public and tells the operator which one it is.
    (re.compile(r"\b(pk_[0-9A-Za-z]{8}_)[0-9A-Za-z]{20,}(?:_[0-9A-Za-z]*)?"), rf"\1{HIDDEN}"),
    (re.compile(r"\bwhsec_[0-9A-Za-z+/=_-]{8,}"), HIDDEN),
    (re.compile(r"\b(?:ya29\.|AIza)[0-9A-Za-z._-]{8,}"), HIDDEN),
    (re.compile(r"(?i)\b(bearer|basic)([ =:]{1,3}|\\x20)[0-9A-Za-z._~+/=-]{6,}"), rf"\1\2{HIDDEN}"),
    (re.compile(r"(://[^\s/:@?#'\"]{0,256}:)[^\s@'\"]{1,512}@"), rf"\1{HIDDEN}@"),
    (
        re.compile(
            r"(?i)\b((?:x-(?:goog|amz)-)?signature|sig|password|sslpassword|client_secret|"
            r"access_token|refresh_token|api_?key)(=|\"?: ?\"|'?: ?')[^\s&'\",;]{1,2048}"
        ),
        rf"\1\2{HIDDEN}",
    ),
    (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
            re.DOTALL,
        ),
        HIDDEN,
    ),
)


class Redactor:
    """Removes the values that it was given, and whatever has the form of a secret."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        kept = {value for value in values if len(value) >= VALUE_CHARS_MIN}
        # The longest first: of a value within another one nothing may remain.
        ordered = sorted(kept, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        if self._values is not None:
            text = self._values.sub(HIDDEN, text)
        for shape, shown in _SHAPES:
            text = shape.sub(shown, text)
        return text
