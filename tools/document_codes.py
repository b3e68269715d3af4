"""Find every code of an error that the source can give, without running it.

A code is what is passed as `code` or `error_code`: by that name, or in the place of a parameter or
field of that name. Its value is followed through constants, alternatives and the assignments of the
same function. What cannot be followed is a finding, so that no code goes by unseen.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

NAMES: Final = frozenset({"code", "error_code"})
CODE: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*|[a-z_]*\{\w*\}")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Use:
    """One place that gives a code; `{}` in it stands for what is only known when it runs."""

    code: str
    file: str
    line: int
    where: str


@dataclass
class Source:
    """The files of one tree, and what the scan has to know of all of them at once."""

    root: Path
    trees: dict[str, ast.Module] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    """Of each function or class that takes a code: the position of that parameter."""
    others: set[str] = field(default_factory=set)
    """Names of functions and classes that take none; one may be both."""


def read(root: Path, without: Iterable[str] = ()) -> Source:
    """Parse all files below a folder, but those in some of its folders."""
    source = Source(root)
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith(tuple(without)):
            source.trees[name] = ast.parse(path.read_text("utf-8"))
    for file, tree in source.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, Function) and not node.name.startswith("__"):
                _parameters(source, file, node)
            elif isinstance(node, ast.ClassDef):
                _fields(source, file, node)
    return source


def _parameters(source: Source, file: str, node: Function) -> None:
    given = [one.arg for one in node.args.posonlyargs + node.args.args]
    given = given[1:] if given[:1] in (["self"], ["cls"]) else given
    _note(source, _key(file, node.name), given)


def _note(source: Source, key: str, names: list[str]) -> None:
    places = [at for at, name in enumerate(names) if name in NAMES]
    if places:
        source.places[key] = places[0]
    else:
        source.others.add(key)


def _fields(source: Source, file: str, node: ast.ClassDef) -> None:
    makers = [one for one in node.body if isinstance(one, Function) and one.name == "__init__"]
    names = [
        each.target.id
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    ]
    if makers:
        names = [one.arg for one in makers[0].args.posonlyargs + makers[0].args.args][1:]
    _note(source, _key(file, node.name), names)


def _key(file: str, name: str) -> str:
    """Return the name, and for a private one the file in which alone it means something."""
    return f"{file}:{name}" if name.startswith("_") else name


def uses(source: Source) -> tuple[list[Use], list[str]]:
    """Return what gives codes, and the places where it cannot be seen which."""
    found: list[Use] = []
    unseen: list[str] = []
    for file, tree in source.trees.items():
        scan = _Scan(source, file, tree)
        scan.visit(tree)
        found += scan.found
        unseen += scan.unseen
    return found, unseen


class _Scan(ast.NodeVisitor):
    """The scan of one file."""

    def __init__(self, source: Source, file: str, tree: ast.Module) -> None:
        self._source = source
        self._file = file
        self._stack: list[Function | ast.ClassDef] = []
        self._constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        self.found: list[Use] = []
        self.unseen: list[str] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Take the code that a class of errors has for all of its own."""
        for each in node.body:
            if isinstance(each, ast.AnnAssign | ast.Assign) and each.value is not None:
                targets = each.targets if isinstance(each, ast.Assign) else [each.target]
                if any(isinstance(one, ast.Name) and one.id == "code" for one in targets):
                    self._stack.append(node)
                    self._take(each.value)
                    self._stack.pop()
        self._inside(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Look inside."""
        self._inside(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """Look inside."""
        self._inside(node)

    def _inside(self, node: Function | ast.ClassDef) -> None:
        self._stack.append(node)
        self.generic_visit(node)
        self._stack.pop()

    def visit_Call(self, node: ast.Call) -> None:
        """Take the code that is passed."""
        for keyword in node.keywords:
            if keyword.arg in NAMES:
                self._take(keyword.value)
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        key = _key(self._file, name)
        place = self._source.places.get(key)
        if place is not None and place < len(node.args):
            given = node.args[place]
            # Where another function of the same name takes none, only a plain text can be a code.
            if key not in self._source.others or isinstance(given, ast.Constant):
                self._take(given)
        self.generic_visit(node)

    def _take(self, value: ast.expr) -> None:
        where = ".".join(one.name for one in self._stack)
        for code in self._values(value, set()):
            if code is None:
                self.unseen.append(f"{self._file}:{value.lineno} {where}: {ast.unparse(value)}")
            elif CODE.fullmatch(code):
                self.found.append(Use(code, self._file, value.lineno, where))

    def _values(self, value: ast.expr, seen: set[str]) -> Iterator[str | None]:
        """Yield what an expression may be; None where that cannot be said."""
        if isinstance(value, ast.Constant):
            if isinstance(value.value, str) and value.value:
                yield value.value
        elif isinstance(value, ast.JoinedStr):
            parts = (one.value if isinstance(one, ast.Constant) else "{}" for one in value.values)
            yield "".join(map(str, parts))
        elif isinstance(value, ast.Name):
            yield from self._named(value.id, seen)
        elif isinstance(value, ast.Attribute) and (value.attr in NAMES or _is_exit_code(value)):
            # Passed on from what was given a code elsewhere, or a number.
            return
        else:
            inner = self._alternatives(value)
            if not inner:
                yield None
            for one in inner:
                yield from self._values(one, seen)

    def _alternatives(self, value: ast.expr) -> list[ast.expr]:
        """Return the expressions of which one is the value; none where that cannot be said."""
        if isinstance(value, ast.IfExp):
            return [value.body, value.orelse]
        if isinstance(value, ast.BoolOp):
            return value.values
        if isinstance(value, ast.Call) and ast.unparse(value.func) == "str":
            return value.args
        if isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name):
            table = self._constants.get(value.value.id)
            return table.values if isinstance(table, ast.Dict) else []
        return []

    def _named(self, name: str, seen: set[str]) -> Iterator[str | None]:
        if name in seen:
            return
        seen = seen | {name}
        assigned = False
        for function in reversed([one for one in self._stack if isinstance(one, Function)]):
            arguments = function.args
            given = arguments.posonlyargs + arguments.args + arguments.kwonlyargs
            if any(one.arg == name for one in given):
                if name not in NAMES:
                    yield None
                return
            for node in ast.walk(function):
                for value in _assigned(node, name):
                    assigned = True
                    yield from [None] if value is None else self._values(value, seen)
            if assigned:
                return
        if name in self._constants:
            yield from self._values(self._constants[name], seen)
        else:
            yield None


def _is_exit_code(value: ast.Attribute) -> bool:
    return ast.unparse(value.value) == "ExitCode"


def _assigned(node: ast.AST, name: str) -> Iterator[ast.expr | None]:
    """Yield what a statement gives to a name; None where that cannot be followed."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name) and target.id == name:
                yield node.value
            elif isinstance(target, ast.Tuple):
                yield from _unpacked(target, node.value, name)
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
        if isinstance(node.target, ast.Name) and node.target.id == name and node.value is not None:
            yield node.value
    elif isinstance(node, ast.For | ast.comprehension):
        names = [one.id for one in ast.walk(node.target) if isinstance(one, ast.Name)]
        if name in names:
            yield None


def _unpacked(target: ast.Tuple, value: ast.expr, name: str) -> Iterator[ast.expr | None]:
    for at, one in enumerate(target.elts):
        if isinstance(one, ast.Name) and one.id == name:
            yield value.elts[at] if isinstance(value, ast.Tuple) else None
