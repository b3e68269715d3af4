r"""The files that a request names, which the provider opens: each must lie where that is allowed.

They are found by the names of members after their escapes, so `\u0066ileUri` is one, in whatever a
request consists of: an answer of a function may have parts of its own. Protobuf's JSON knows two
spellings of a name; what reads files of requests may know more, so small and capital letters count.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, Final, TypeAlias

from penstock.core.files import FileFault, FileRule
from penstock.ingest.explain import Verdict
from penstock.ingest.spot import Keys

Tree: TypeAlias = Any
"""What a parser makes of a line."""


def _spellings(*words: str) -> Iterator[str]:
    for name in ("".join(words), "_".join(words)):
        for letters in product(*({one, one.upper()} for one in name)):
            yield "".join(letters)


FILE_DATA: Final = frozenset(_spellings("file", "data"))
FILE_URI: Final = frozenset(_spellings("file", "uri"))


def stray_file(request: dict[str, Tree], rule: FileRule) -> Verdict | None:
    """Judge the addresses in the members of a request, in their order; None if none is bad."""
    for name, value in request.items():
        verdict = _stray(value, ("request", name), rule)
        if verdict:
            return verdict
    return None


def _stray(value: Tree, keys: Keys, rule: FileRule) -> Verdict | None:
    """Follow a value that is nested no deeper than a line may be."""
    is_object = type(value) is dict
    if not is_object and type(value) is not list:
        return None
    for key, inner in value.items() if is_object else enumerate(value):
        here = (*keys, key)
        is_file = is_object and key in FILE_DATA
        verdict = (_bad_uri(inner, here, rule) if is_file else None) or _stray(inner, here, rule)
        if verdict:
            return verdict
    return None


def _bad_uri(file: Tree, keys: Keys, rule: FileRule) -> Verdict | None:
    """Judge each address that stands in one `fileData`; null is none."""
    for name, text in file.items() if type(file) is dict else ():
        fault = rule.fault(text) if name in FILE_URI and text is not None else None
        if fault:
            return _verdict(fault, (*keys, name))
    return None


def _verdict(fault: FileFault, keys: Keys) -> Verdict:
    return Verdict(fault.code, fault.message, keys=keys, hint=fault.hint)
