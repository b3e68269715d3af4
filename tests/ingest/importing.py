"""What the importer of the provider says to requests, asked of the emulator's, which is not ours.

It knows columns by what the lines hold. What the API itself defines has its kind from the start
with us, so the first line that it is given here holds all of that.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from penstock.core.gemini_request import REQUEST, Kind, Member, Message
from penstock.core.normalise import normalised
from penstock.emulator.importer import Importer, ImportRefusal

Request = dict[str, Any]

CODES = (
    ("Schema nested too deeply", "nesting_too_deep"),
    ("Cannot store struct", "empty_object"),
    ("Invalid field name", "invalid_member_name"),
    ("Only optional fields can be set to NULL", "null_in_array"),
    ("has changed", "mixed_types"),
    ("Too many total leaf fields", "too_many_columns"),
)


def known(message: Message = REQUEST) -> Request:
    """Return an object with all members that the API defines, as it defines them."""
    value: Request = {}
    for name, member in message.members.items():
        inner = _known_member(member)
        if inner is not None:
            value[name] = [inner] if member.is_list else inner
    return value


def _known_member(member: Member) -> Request | str | None:
    if member.of is not None:
        # A message without members of its own would be refused; so nobody has one.
        return known(member.of) or None
    return "x" if member.kind is Kind.SCALAR else None


def imported(requests: Iterable[Request]) -> str | None:
    """Return what the importer says of a file with these requests, None if it takes it."""
    importer = Importer()
    try:
        for request in requests:
            importer._line(json.dumps({"key": "k-0", "request": request}).encode(), 0)
    except ImportRefusal as refusal:
        return refusal.message
    return None


def import_code(request: Request, before: Sequence[Request] = ()) -> str | None:
    """Return our code for what the importer says of a request behind others that are good."""
    # Ours looks at `contents` first, so where there are two faults it names the other one.
    rest = {name: inner for name, inner in request.items() if name != "contents"}
    sent = normalised({"contents": request["contents"], **rest})
    copies = [known(), *map(normalised, before), sent]
    said = imported(copies)
    if said is None:
        return None
    return next(code for words, code in CODES if words in said)
