"""What an owner calls a job: a name and labels, by which it is found again."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from penstock.core.limits import Limits
from penstock.errors import InvalidRequest

NAME: Final = "name"
LABEL: Final = "label"
"""In a query or a form, once for each label: `key:value`."""
LABELS: Final = "labels"
"""In JSON: an object of texts."""

_SHOWN_CHARACTERS: Final = 40
_KEY: Final = re.compile(r"[a-z0-9_-]+")


class Naming(msgspec.Struct, frozen=True, kw_only=True):
    """A name and labels, each of which may be missing."""

    name: str | None = None
    labels: dict[str, str] = {}


UNNAMED: Final = Naming()


def checked_name(text: object, limits: Limits) -> str:
    """Return a name; raises `InvalidRequest` for what can be none."""
    most = limits.job_name_characters_max
    if isinstance(text, str) and 1 <= len(text) <= most and _is_plain(text):
        return text
    allowed = f"1 to {most} printable characters, without blanks at either end"
    raise _refused("invalid_name", NAME, text, f"{allowed} (limit job_name_characters_max)")


def checked_labels(labels: object, limits: Limits) -> dict[str, str]:
    """Return labels in the order of their keys; raises `InvalidRequest` for what can be none."""
    if not isinstance(labels, Mapping):
        raise _refused(
            "invalid_label", LABELS, labels, 'an object of texts, such as {"team": "ads"}'
        )
    if len(labels) > limits.job_labels_max:
        raise InvalidRequest(
            f"The request is not accepted: it has {len(labels)} labels.",
            code="too_many_labels",
            hint=f"Allowed are up to {limits.job_labels_max} (limit job_labels_max).",
        )
    return {
        _checked_key(key, limits): _checked_value(labels[key], f"{LABEL} {key}", limits)
        for key in sorted(labels)
    }


def labels_of(texts: Iterable[str], limits: Limits) -> dict[str, str]:
    """Return the labels that stand as `key:value`, each key once; raises `InvalidRequest`."""
    labels: dict[str, str] = {}
    for text in texts:
        key, colon, value = text.partition(":")
        if not colon:
            raise _refused("invalid_label", LABEL, text, "key:value, such as team:ads")
        if key in labels:
            raise twice(f"{LABEL} {key}")
        labels[_checked_key(key, limits)] = value
    return checked_labels(labels, limits)


def joined(one: Naming, other: Naming, limits: Limits) -> Naming:
    """Return what was said in two places; raises `InvalidRequest` for what stands in both."""
    if one.name is not None and other.name is not None:
        raise twice(NAME)
    for key in sorted(one.labels.keys() & other.labels.keys()):
        raise twice(f"{LABEL} {key}")
    name = other.name if one.name is None else one.name
    return Naming(name=name, labels=checked_labels(one.labels | other.labels, limits))


def twice(what: str) -> InvalidRequest:
    """Return the refusal of a name or label that is said twice."""
    return InvalidRequest(
        f"The request is not accepted: `{what}` is said twice.",
        code="duplicate_member",
        hint="Send each name and label once; which one counts would be a guess.",
    )


def _checked_key(key: object, limits: Limits) -> str:
    most = limits.job_label_characters_max
    if isinstance(key, str) and len(key) <= most and _KEY.fullmatch(key):
        return key
    allowed = f"as a key 1 to {most} of a-z, 0-9, _ and -"
    raise _refused("invalid_label", LABEL, key, f"{allowed} (limit job_label_characters_max)")


def _checked_value(value: object, where: str, limits: Limits) -> str:
    most = limits.job_label_characters_max
    if isinstance(value, str) and len(value) <= most and _is_plain(value):
        return value
    allowed = f"a text of up to {most} printable characters, without blanks at either end"
    raise _refused("invalid_label", where, value, f"{allowed} (limit job_label_characters_max)")


def _is_plain(text: str) -> bool:
    # It is printed on terminals, and compared by people: nothing in it may hide or move the rest.
    return text.isprintable() and text == text.strip()


def _refused(code: str, where: str, got: object, allowed: str) -> InvalidRequest:
    shown = got if isinstance(got, str) else msgspec.json.encode(got).decode()
    size = f" ({len(shown)} characters)" if len(shown) > _SHOWN_CHARACTERS else ""
    return InvalidRequest(
        f"The request is not accepted: `{where}` is {shown[:_SHOWN_CHARACTERS]!r}{size}.",
        code=code,
        hint=f"Allowed is: {allowed}.",
    )
