"""docs/reference/errors.md: every code of an error, from the source and tools/error_texts.toml."""

import ast
import re
import tomllib
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Final

from document_codes import Function, Source, Use, read, uses

ROOT: Final = Path(__file__).parent.parent
SOURCE: Final = ROOT / "src" / "penstock"
TEXTS: Final = ROOT / "tools" / "error_texts.toml"
WITHOUT: Final = ("emulator/", "store/migrations/")
"""The emulator speaks Google's errors, and not ours."""

_STRING: Final = ("invalid_json", "invalid_utf8", "lone_surrogate")
_LINE: Final = ("not_json", "schema_mismatch")

FOLLOWED: Final[dict[str, tuple[str, ...]]] = {
    "api/lines.py LineRoutes._asked": (),
    "api/openapi_lines.py": (),
    "api/openapi_preflight.py": (),
    "cli/jobs.py failed": ("job_{}",),
    "doctor/key.py _judged": (),
    "doctor/trial_endings.py _without_output": (),
    "doctor/trial_rows.py _failed": (),
    "client/results.py Result.error": (),
    "core/line.py judge": (),
    "core/line.py judge_answer": (),
    "core/line.py _failed": (),
    "core/line.py _of_candidate": (),
    "core/provider_error.py code_of": (),
    "ingest/body.py Body._string": _STRING,
    "ingest/decode.py JsonString._find_end": _STRING,
    "ingest/jsonl.py JsonlIntake._sniff": ("json_array_file", "utf16", "compressed_input"),
    "ingest/survey.py Survey.take": (),
    "ingest/survey.py _told": (),
    "lifecycle/peek.py": ("pending",),
    "lifecycle/rows.py fitted": _LINE,
    "lifecycle/stop.py finish_of": ("queue_expired", "run_expired"),
    "providers/vertex.py Vertex._job": (),
}
"""Where the scan cannot follow a code: the codes that these places give beside those that it finds
elsewhere. In `core/line` they are the provider's own words, which docs/outcomes.md lists."""

SECTIONS: Final = {
    "answers": (
        "Answers of the server",
        """The body of an answer from 400 on is JSON: `code`, `error` (what happened, a sentence),
`hint` (what to do), and where it is about lines `details`. `code` is stable; texts are not.""",
    ),
    "input": (
        "Input",
        """Of a submission that is refused with 400, or with 413 where a limit is named: as the code
of the answer, and of each bad line in `details` with line, column and path. [Input](../input.md)
has the rules.""",
    ),
    "jobs": (
        "Jobs",
        "Of a job that has ended without an output, or waits: `outcome.error.code`.",
    ),
    "lines": (
        "Lines",
        """Of a single line without a good answer, in `status` of its line of the output and in
`GET …/lines`. The words of the provider, such as `429` and `SAFETY`, are in
[Outcomes](../outcomes.md).""",
    ),
    "callers": (
        "Client and command line",
        """Not from the server: `error.code` of the Python client, and what the command line shows
in brackets, `error[code]`.""",
    ),
}

HEAD: Final = """# Errors

<!-- Written by tools/document_reference.py; do not edit. -->

Every code that Penstock gives, {count} in all. A code never changes its meaning.
"""


def build() -> str:
    """Return the page, or raise `SystemExit` with all that it lacks."""
    source = read(SOURCE, WITHOUT)
    found = _found(source)
    texts = tomllib.loads(TEXTS.read_text("utf-8"))
    lacks = complaints(found, {code for section in texts.values() for code in section})
    if lacks:
        raise SystemExit("\n".join(lacks))
    statuses = _Statuses(source)
    parts = [HEAD.format(count=len(found))]
    for section, (title, text) in SECTIONS.items():
        parts.append(f"\n## {title}\n\n{text}\n")
        groups: dict[int | None, list[str]] = {}
        for code in sorted(texts[section]):
            status = statuses.of(code, found[code]) if section == "answers" else None
            groups.setdefault(status, []).append(code)
        for status, codes in sorted(groups.items(), key=lambda pair: pair[0] or 0):
            if status is not None:
                parts.append(f"\n### {status} {HTTPStatus(status).phrase}\n")
            parts += (_entry(code, texts[section][code], found[code]) for code in codes)
    return "".join(parts)


def _found(source: Source) -> dict[str, list[Use]]:
    """Return all codes of the source with their places."""
    found: dict[str, list[Use]] = {}
    given, unseen = uses(source)
    for file_and_name, codes in FOLLOWED.items():
        file, _, where = file_and_name.partition(" ")
        given += (Use(code, file, 0, where) for code in codes)
    for use in given:
        found.setdefault(use.code.replace("{}", "*"), []).append(use)
    lost = []
    used = set()
    for place in unseen:
        match = re.fullmatch(r"(\S+?):\d+ (.*?): .*", place)
        known = f"{match[1]} {match[2]}".strip() if match else place
        used.add(known)
        if known not in FOLLOWED:
            lost.append(
                f"{place}: the code cannot be followed; say it plainly or add it to FOLLOWED"
            )
    lost += (f"{place} of FOLLOWED is followed by the scan" for place in FOLLOWED.keys() - used)
    if lost:
        raise SystemExit("\n".join(lost))
    return found


def complaints(found: dict[str, list[Use]], known: set[str]) -> list[str]:
    """Return which codes have no text, and which texts no code."""
    lacking = [
        f"{use.file}:{use.line}: the code {code!r} has no text in tools/error_texts.toml"
        for code, places in sorted(found.items())
        for use in places[:1]
        if code not in known
    ]
    extra = [
        f"tools/error_texts.toml: nothing gives the code {code!r} any more"
        for code in sorted(known - set(found))
    ]
    return lacking + extra


def _entry(code: str, texts: list[str], places: Iterable[Use]) -> str:
    means, does = texts
    shown = code.replace("*", "…")
    anchor = code.replace("*", "x")
    files = sorted({use.file for use in places if use.file != "errors.py"})
    seen = ", ".join(f"`{file.removesuffix('.py')}`" for file in files)
    where = f" <small>{seen}</small>" if seen else ""
    return f"\n#### `{shown}` {{ #{anchor} }}\n\n{_linked(means)} **Do:** {_linked(does)}{where}\n"


def _linked(text: str) -> str:
    """Turn the name of a page of docs/ into a link."""
    text = re.sub(r"docs/([\w/-]+)\.md", r"[\1](../\1.md)", text)
    return re.sub(r"`((limits|quotas|estimates)\.\w+)`", r"[`\1`](limits.md)", text)


class _Statuses:
    """Which HTTP status belongs to a code: that of the class of the error which carries it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._known: dict[str, int] = {}
        classes = [
            node
            for tree in source.trees.values()
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
        ]
        # Twice as deep as the tree of errors, so that the order of the files does not matter.
        for _ in range(8):
            for node in classes:
                self._learn(node)

    def _learn(self, node: ast.ClassDef) -> None:
        own = None
        for each in node.body:
            if isinstance(each, ast.Assign | ast.AnnAssign) and each.value is not None:
                targets = each.targets if isinstance(each, ast.Assign) else [each.target]
                if any(isinstance(one, ast.Name) and one.id == "status" for one in targets):
                    own = _number(each.value)
        for parent in node.bases:
            name = ast.unparse(parent)
            if own is None and name in self._known:
                own = self._known[name]
        if own is not None:
            self._known[node.name] = own

    def of(self, code: str, places: list[Use]) -> int:
        """Return the status, or raise `SystemExit` where none can be seen."""
        for use in places:
            status = self._of(use)
            if status is not None:
                return status
        raise SystemExit(f"{places[0].file}:{places[0].line}: no status can be seen for {code!r}")

    def _of(self, use: Use) -> int | None:
        name = use.where.rpartition(".")[2]
        if name in self._known:
            return self._known[name]
        tree = self._source.trees[use.file]
        calls = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and node.lineno <= use.line <= (node.end_lineno or node.lineno)
        ]
        calls.sort(key=lambda node: (node.end_lineno or 0) - node.lineno)
        for call in calls:
            called = ast.unparse(call.func).rpartition(".")[2]
            status = self._known.get(called) or self._within(tree, called)
            if status is not None:
                return status
        return None

    def _within(self, tree: ast.Module, name: str) -> int | None:
        """Return the status of the error that a function of the same file makes."""
        for node in ast.walk(tree):
            if isinstance(node, Function) and node.name == name:
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Call):
                        made = self._known.get(ast.unparse(inner.func).rpartition(".")[2])
                        if made is not None:
                            return made
        return None


def _number(value: ast.expr) -> int | None:
    if isinstance(value, ast.Constant) and isinstance(value.value, int):
        return value.value
    if isinstance(value, ast.Attribute) and ast.unparse(value).startswith("HTTPStatus."):
        return HTTPStatus[value.attr].value
    return None
