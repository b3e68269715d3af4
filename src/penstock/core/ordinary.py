"""Requests that are texts and media with some settings: nearly all, told from the others quickly.

Such a request holds nothing that the importer could refuse, and nothing to normalise. The words of
it that are exact are in `core/normalise` and `ingest/traps`; no only means that these must look.
"""

import math
from typing import Any, Final

from penstock.core.gemini_request import CONFIG, Kind

SIMPLEST_LEVELS: Final = 6
"""How deep the simplest lines are nested: line, request, contents, content, parts, part."""

_INTEGER_MIN: Final = -(2**63)
_INTEGER_MAX: Final = 2**64 - 1
_SPEAKERS: Final = frozenset({"user", "model"})

_ORDINARY_CONFIG: Final = frozenset(
    name
    for name, member in CONFIG.members.items()
    if member.kind is Kind.SCALAR and not member.is_list
)
_ORDINARY_MEDIA: Final = frozenset({"mimeType", "data", "fileUri", "displayName"})


def is_simplest(line: Any) -> bool:  # noqa: ANN401  # any JSON
    """Tell that a line is a request of texts alone, with a key and plain settings at most.

    One walk answers for such a line what the line check asks in three, which takes twice as long.
    """
    if type(line) is not dict:
        return False
    request = line.get("request")
    if type(request) is not dict:
        return False
    others = len(line) - 1
    if others and (others > 1 or type(line.get("key")) is not str):
        return False
    others = len(request) - 1
    if others and (others > 1 or not _are_settings(request.get("generationConfig"))):
        return False
    contents = request.get("contents")
    if type(contents) is not list or not contents:
        return False
    # No `all`: a generator costs as much as the walk.
    for content in contents:  # noqa: SIM110
        if not _is_said(content):
            return False
    return True


def _is_said(content: Any) -> bool:  # noqa: ANN401  # any JSON
    """Tell that somebody says texts."""
    if type(content) is not dict or len(content) != 2:  # noqa: PLR2004
        return False
    parts, role = content.get("parts"), content.get("role")
    if type(parts) is not list or type(role) is not str or role not in _SPEAKERS:
        return False
    for part in parts:
        if type(part) is not dict or len(part) != 1 or type(part.get("text")) is not str:
            return False
    return True


def _are_settings(config: Any) -> bool:  # noqa: ANN401  # any JSON
    """Tell that a configuration holds settings of the API, each of them plain and in range."""
    if type(config) is not dict or not config or not config.keys() <= _ORDINARY_CONFIG:
        return False
    for value in config.values():
        kind = type(value)
        if kind is int:
            if not _INTEGER_MIN <= value <= _INTEGER_MAX:
                return False
        elif kind is float:
            if not math.isfinite(value):
                return False
        elif kind is not str and kind is not bool:
            return False
    return True


def is_ordinary_beside(request: dict[str, Any]) -> bool:
    """Tell that the members beside `contents`, which is there, are settings and a text at most."""
    others = len(request) - 1
    config = request.get("generationConfig")
    if config is not None:
        others -= 1
        if type(config) is not dict or not config or not config.keys() <= _ORDINARY_CONFIG:
            return False
        for value in config.values():
            if value is None or type(value) is dict or type(value) is list:
                return False
    if not others:
        return True
    system = request.get("systemInstruction")
    return others == 1 and _is_ordinary_content(system)


def are_ordinary(contents: list[Any]) -> bool:
    """Tell that contents hold texts and media and nothing else."""
    # No `all`: this is done for every line that is not the simplest, and a generator costs as much.
    for content in contents:  # noqa: SIM110
        if not _is_ordinary_content(content):
            return False
    return True


def _is_ordinary_content(content: Any) -> bool:  # noqa: ANN401  # any JSON
    if type(content) is not dict:
        return False
    parts = content.get("parts")
    if type(parts) is not list:
        return False
    members = len(content)
    if members > 1 and (members > 2 or type(content.get("role")) is not str):  # noqa: PLR2004
        return False
    for part in parts:
        if type(part) is not dict or len(part) != 1:
            return False
        if type(part.get("text")) is not str and not _is_media(part):
            return False
    return True


def _is_media(part: dict[str, Any]) -> bool:
    media = part.get("inlineData") or part.get("fileData")
    if type(media) is not dict or not media or not media.keys() <= _ORDINARY_MEDIA:
        return False
    return all(type(value) is str for value in media.values())
