"""A request -> the same request in words that the provider's importer takes.

The provider imports a file of requests as a table, so members that its API reads without a word
make the whole file fail (docs/preflight.md). What has another spelling with the same meaning gets
it here, on the provider's copy only; everything else is left alone, for `ingest/traps` to refuse.
To do it twice is to do it once, and a request that needs nothing is returned as it is.
"""

from operator import is_
from typing import Any, Final

from penstock.core.gemini_request import REQUEST, Kind, Member, Message
from penstock.core.ordinary import are_ordinary, is_ordinary_beside
from penstock.core.schema_copy import provider_schema

DONE: Final = {
    "snake_case_member": "a member in snake_case got the API's own spelling",
    "null_member": "a member that is null was left out",
    "empty_object": "an empty object that says nothing was left out",
    "default_member": "an empty object that means something got a member with its default value",
    "single_value": "one object where the API has an array was put into one",
    "schema_annotation": "`$schema`, `$id` and `$comment` of a schema were left out",
    "schema_reference": "the parts that `$ref` names were put in its place",
    "schema_empty": "an empty `properties` of a schema was left out",
    "schema_types": "a list of types became `anyOf`, or `nullable`",
}
"""What may be done, by the code under which it is reported."""


def normalised(request: dict[str, Any]) -> dict[str, Any]:
    """Return the provider's copy of a request; the same object if nothing is to be done.

    The request itself is not changed; the copy shares what is the same.
    """
    contents = request.get("contents")
    if type(contents) is list and is_ordinary_beside(request) and are_ordinary(contents):
        return request
    return _message(request, REQUEST, set())


def normalisations(request: dict[str, Any]) -> set[str]:
    """Return the codes of what is done to a request."""
    done: set[str] = set()
    _message(request, REQUEST, done)
    return done


def _message(value: dict[str, Any], message: Message, done: set[str]) -> dict[str, Any]:
    """Return a copy of an object of the API's, or itself."""
    twice: set[str] = set()
    if not value.keys() <= message.names:
        value = _renamed(value, message, done)
        # What is left of the other spellings stands beside its own name.
        twice = {message.camel_of[name] for name in value if name in message.camel_of}
    changes: dict[str, Any] = {}
    for name, inner in value.items():
        # Nearly all members are texts, which nothing is done to.
        if type(inner) is str:
            continue
        member = message.members.get(name)
        if member is None or name in twice:
            continue
        after = _member(inner, member, done)
        if after is not inner:
            changes[name] = after
    if not changes:
        return value
    merged = {**value, **changes}
    return {name: inner for name, inner in merged.items() if inner is not _GONE}


def _renamed(value: dict[str, Any], message: Message, done: set[str]) -> dict[str, Any]:
    """Return the object with the API's own names, and without nulls; itself if it is so already.

    Where both spellings of a name hold something, which one counts is not ours to say.
    """
    after: dict[str, Any] = {}
    is_changed = False
    for name, inner in value.items():
        camel = message.camel_of.get(name, name)
        member = message.members.get(camel)
        if member is None:
            after[name] = inner
        elif inner is None and member.kind is not Kind.JSON_SCHEMA:
            done.add("null_member")
            is_changed = True
        elif name != camel and _is_free(camel, value, member):
            done.add("snake_case_member")
            after[camel] = inner
            is_changed = True
        else:
            after[name] = inner
    return after if is_changed else value


def _is_free(name: str, value: dict[str, Any], member: Member) -> bool:
    """Tell whether nothing stands in a member; in a `Value` of protobuf null is something."""
    if member.kind is Kind.JSON_SCHEMA:
        return name not in value
    return value.get(name) is None


def _member(inner: object, member: Member, done: set[str]) -> object:
    """Return what stands in the member afterwards; `_GONE` if it is left out."""
    if inner is None:
        if member.kind is Kind.JSON_SCHEMA:
            return inner
        done.add("null_member")
        return _GONE
    if type(inner) is list:
        return _list(inner, member, done)
    if type(inner) is not dict:
        return inner
    after = _object(inner, member, done)
    if not after and member.may_be_dropped:
        done.add("empty_object")
        return _GONE
    if member.is_list and member.kind is Kind.MESSAGE:
        done.add("single_value")
        return [after]
    return after


def _list(inner: list[Any], member: Member, done: set[str]) -> list[Any]:
    """Return an array with its objects copied where something is done to them, or itself."""
    message = member.of
    if message is None or not member.is_list:
        return inner
    after = [_message(one, message, done) if type(one) is dict else one for one in inner]
    return inner if all(map(is_, after, inner)) else after


def _object(inner: dict[str, Any], member: Member, done: set[str]) -> dict[str, Any]:
    """Return an object copied where something is done to it, or itself."""
    message = member.of
    if message is None:
        if member.kind is Kind.DATA:
            return inner
        return provider_schema(inner, done, is_json=member.kind is Kind.JSON_SCHEMA)
    after = _message(inner, message, done)
    if not after and message.when_empty is not None:
        name, default = message.when_empty
        done.add("default_member")
        return {name: default}
    return after


_GONE: Final = object()
