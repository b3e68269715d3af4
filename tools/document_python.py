"""docs/reference/python.md: the public names of `penstock.client`, from the names themselves."""

import ast
import enum
import importlib
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

import penstock.client
from penstock.client import errors, sources

HEAD: Final = """# Python client

<!-- Written by tools/document_reference.py; do not edit. -->

All names are imported as `from penstock.client import Client` is.
[Errors](errors.md#client-and-command-line) has the codes.

Each name that begins with `Async` has the calls of the one without it, to be awaited; lists are
gone through with `async for`, and its files, sleeps and waits do not hold up the loop.
"""

FIRST: Final = (
    "client",
    "jobs",
    "job",
    "results",
    "mapping",
    "frames",
    "prompts",
    "schemas",
    "api",
)
"""The modules that people need most, in this order; the others follow by name, errors last."""

WIDTH: Final = 80
KEPT: Final = re.compile(r"<.*? at 0x[0-9a-f]+>")


def build() -> str:
    """Return the page, or raise `SystemExit` with the names that have no docstring."""
    page = _Page()
    groups: dict[str, list[str]] = {}
    twins = {}
    for name in sorted(penstock.client.__all__):
        value = getattr(penstock.client, name)
        if name.startswith("Async") and hasattr(penstock.client, name.removeprefix("Async")):
            twins[name.removeprefix("Async")] = value
            continue
        module = getattr(value, "__module__", "penstock.client").rpartition(".")[2]
        groups.setdefault(module, []).append(name)
    order = {module: at for at, module in enumerate(FIRST)}
    last = len(order) + 1
    parts = [HEAD, f"\n`Source` in what follows is `{_SOURCE}`.\n"]
    for module in sorted(
        groups, key=lambda one: (last if one == "errors" else order.get(one, last - 1), one)
    ):
        parts.append(f"\n## {_title(module, getattr(penstock.client, groups[module][0]))}\n")
        for name in groups[module]:
            value = getattr(penstock.client, name)
            parts.append(page.section(name, value, twins.get(name)))
    if page.lacking:
        raise SystemExit("\n".join(page.lacking))
    return "".join(parts)


def _title(module: str, example: Any) -> str:  # noqa: ANN401  # any public name
    if module == "errors":
        return "Errors of the client"
    whole = getattr(example, "__module__", "")
    words = inspect.getdoc(importlib.import_module(whole)) if whole else ""
    first = (words or module).split("\n\n")[0].split(".")[0].split(":")[0]
    return " ".join(first.split())


class _Page:
    """Makes the sections, and remembers what has no words."""

    def __init__(self) -> None:
        self.lacking: list[str] = []

    def section(self, name: str, value: Any, twin: Any) -> str:  # noqa: ANN401  # any public name
        """Return the section of one name; `twin` is the one that is awaited."""
        parts = [f"\n### {name} {{ #{name} }}\n"]
        if inspect.isclass(value):
            parts += self._class(name, value)
            if twin is not None:
                parts.append(f"\n`Async{name}` is the same with `await`.\n")
                self._compare(name, value, twin)
        elif callable(value):
            parts.append(_code(f"{name}{_signature(value)}"))
            parts.append(self._words(name, value))
            parts.append(_named(value))
        else:
            parts.append(f"\n`{value!r}`\n")
        return "".join(parts)

    def _words(self, name: str, value: Any) -> str:  # noqa: ANN401  # any public name
        words = inspect.getdoc(value)
        if not words or not words.strip():
            self.lacking.append(f"penstock.client.{name} has no docstring")
            return ""
        return _markdown(words)

    def _class(self, name: str, value: type) -> Iterator[str]:
        if issubclass(value, Exception):
            own = value.__dict__.get("code")
            parent = value.__bases__[0].__name__
            code = f" Code `{own}`." if isinstance(own, str) else ""
            yield f"\nAn error, a [`{parent}`](#{parent}).{code}\n" if parent in _PUBLIC else "\n"
        elif not issubclass(value, msgspec.Struct | enum.Enum) and _is_made_by_us(value):
            yield _code(f"{name}{_signature(value)}")
        yield self._words(name, value)
        if _is_made_by_us(value):
            yield _named(value)
        yield from _members(value)
        for member, function in _methods(value):
            if isinstance(function, property):
                words = self._words(f"{name}.{member}", function)
                yield f"\n#### {name}.{member} {{ #{name}.{member} }}\n{words}"
            else:
                kind = "async " if inspect.iscoroutinefunction(function) else ""
                shown = f"{kind}{member}{_signature(function, is_method=True)}"
                words = self._words(f"{name}.{member}", function)
                yield f"\n#### {name}.{member} {{ #{name}.{member} }}\n{_code(shown)}{words}"
                yield _named(function)

    def _compare(self, name: str, value: type, twin: type) -> None:
        here = {member for member, _ in _methods(value)}
        there = {member for member, _ in _methods(twin)}
        odd = (here ^ there) - {"close", "aclose"}
        if odd:
            self.lacking.append(f"penstock.client.{name} and its twin differ in {sorted(odd)}")


_PUBLIC: Final = frozenset(penstock.client.__all__) | frozenset(
    name for name, value in vars(errors).items() if inspect.isclass(value)
)


def _is_made_by_us(value: type) -> bool:
    return any("__init__" in vars(one) for one in value.__mro__ if _is_ours(one))


def _is_ours(value: type) -> bool:
    return value.__module__.startswith("penstock.")


def _methods(value: type) -> Iterator[tuple[str, Any]]:
    """Yield public methods and properties that are ours, those of the parents included."""
    seen = set()
    for parent in value.__mro__:
        if not _is_ours(parent):
            continue
        for name, member in vars(parent).items():
            if name.startswith("_") or name in seen:
                continue
            seen.add(name)
            if isinstance(member, classmethod | staticmethod):
                yield name, member.__func__
            elif isinstance(member, property) or inspect.isfunction(member):
                yield name, member


def _members(value: type) -> list[str]:
    if issubclass(value, enum.Enum):
        rows = [f"| `{one.name}` | `{one.value!r}` | |\n" for one in value]
        return ["\n| member | value | |\n|---|---|---|\n", *rows]
    if typing.is_typeddict(value):
        said: dict[str, str] = {}
        kinds: dict[str, str] = {}
        _read_fields(value, kinds, said)
        named = (
            f"| `{key}` | `{_cell(kinds.get(key, ''))}` | {_cell(said.get(key, ''))} |\n"
            for key in value.__annotations__
        )
        return ["\n| name | type | |\n|---|---|---|\n", *named]
    if not issubclass(value, msgspec.Struct):
        return []
    sentences: dict[str, str] = {}
    annotations: dict[str, str] = {}
    for parent in reversed(value.__mro__):
        if issubclass(parent, msgspec.Struct) and parent is not msgspec.Struct:
            _read_fields(parent, annotations, sentences)
    rows = []
    for field in msgspec.structs.fields(value):
        default = "" if field.default is msgspec.NODEFAULT else f" = `{field.default!r}`"
        kind = _cell(annotations.get(field.name, ""))
        text = _cell(sentences.get(field.name, ""))
        rows.append(f"| `{field.name}` | `{kind}`{default} | {text} |\n")
    return ["\n| field | type | |\n|---|---|---|\n", *rows] if rows else []


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _named(function: Callable[..., Any]) -> str:
    """Return the names that `**options` takes, where their type has no section of its own."""
    for one in inspect.signature(function).parameters.values():
        kinds = typing.get_args(one.annotation)
        if one.kind is not one.VAR_KEYWORD or not kinds or not typing.is_typeddict(kinds[0]):
            continue
        if kinds[0].__name__ in penstock.client.__all__:
            return ""
        names = ", ".join(f"`{name}`" for name in kinds[0].__annotations__)
        return f"\n`{one.name}` are {names}.\n"
    return ""


def _read_fields(parent: type, annotations: dict[str, str], sentences: dict[str, str]) -> None:
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(parent)))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef)).body
    for node, following in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            annotations[node.target.id] = ast.unparse(node.annotation)
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                sentences[node.target.id] = " ".join(str(following.value.value).split())


def _signature(value: Callable[..., Any], *, is_method: bool = False) -> str:
    """Return the signature as it is written, over lines if it is long."""
    signature = inspect.signature(value)
    given = list(signature.parameters.values())
    if is_method and given and given[0].name in {"self", "cls"}:
        given = given[1:]
    words: list[str] = []
    kinds = inspect.Parameter
    for at, one in enumerate(given):
        is_first_named = one.kind is kinds.KEYWORD_ONLY and not any(
            before.kind in {kinds.KEYWORD_ONLY, kinds.VAR_POSITIONAL} for before in given[:at]
        )
        if is_first_named:
            words.append("*")
        words.append(_spelled(str(one)))
    returned = signature.return_annotation
    arrow = "" if returned is inspect.Signature.empty else f" -> {_annotation(returned)}"
    flat = f"({', '.join(words)}){arrow}"
    if len(flat) <= WIDTH:
        return flat
    return "(\n" + "".join(f"    {word},\n" for word in words) + f"){arrow}"


def _spelled(text: str) -> str:
    return _plain(text).replace(_SOURCE, "Source").replace("~", "")


def _plain(text: str) -> str:
    text = re.sub(r"\b(penstock|collections|pathlib|typing|datetime)(\.\w+)*\.(?=\w)", "", text)
    text = re.sub(r"\*<class '([\w.]+)'>", r"Unpack[\1]", text)
    text = re.sub(r"<(?:class|built-in function) '?([\w.]+)'?>", r"\1", text)
    return KEPT.sub("…", text).replace("NoneType", "None")


_SOURCE: Final = _plain(inspect.formatannotation(sources.Source))
"""What can be submitted is long, and stands in many signatures."""


def _annotation(value: Any) -> str:  # noqa: ANN401  # any annotation
    return _spelled(inspect.formatannotation(value) if not isinstance(value, str) else value)


def _code(text: str) -> str:
    return f"\n```python\n{text}\n```\n"


def _markdown(words: str) -> str:
    """Turn the indented blocks of a docstring into fenced ones."""
    parts: list[str] = []
    block: list[str] = []
    for line in [*words.splitlines(), ""]:
        if line.startswith("    ") or (block and not line.strip()):
            block.append(line[4:])
            continue
        if block:
            parts.append("```python\n" + "\n".join(block).strip("\n") + "\n```\n")
            block = []
        parts.append(line)
    if block and any(block):
        parts.append("```python\n" + "\n".join(block).strip("\n") + "\n```\n")
    return "\n" + "\n".join(parts).strip("\n") + "\n"
