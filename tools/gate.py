"""The size and shape rules of this project that no off-the-shelf linter checks together.

    python tools/gate.py [--root DIRECTORY]

Authors change often here, so the rules are the reviewer: each one names the file and the line, and
says what would be right. Tests of every rule are in tests/tools/test_gate.py.
"""

import argparse
import ast
import re
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

FOLDERS: Final = ("src/penstock", "tools", "bench")
FUNCTION_LINES_MAX: Final = 70
FILE_LINES_MAX: Final = 600
PARAMETERS_MAX: Final = 6

_EMPTY_NAME: Final = re.compile(
    r"_?(utils?|utilities|utility|commons?|helpers?|managers?|bases?|misc|shared|stuff)"
    r"|.*_(utils?|helpers?|managers?|base)"
)
_EXCUSE: Final = re.compile(r"#.*\b(optional dependency|lazy): \w")
_BROAD: Final = frozenset({"Exception", "BaseException"})
_CLOCKS: Final = frozenset(
    f"{module}.{name}"
    for module, names in {
        "time": ("time", "time_ns", "monotonic", "monotonic_ns"),
        "datetime": ("now", "utcnow", "today"),
        "date": ("today",),
    }.items()
    for name in names
)
_CLOCK_FOLDERS: Final = ("emulator", "client")
_ENVIRONMENT_FOLDERS: Final = ("cli", "client", "emulator", "testing")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Finding:
    """One broken rule."""

    file: str
    line: int
    says: str


@dataclass
class Module:
    """One parsed file; `name` is its dotted name if it is part of the package."""

    file: str
    name: str
    text: str
    tree: ast.Module
    lines: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.lines = self.text.splitlines()

    @property
    def parts(self) -> tuple[str, ...]:
        """The path below src/penstock, or nothing for a script."""
        return tuple(self.name.split(".")[1:])

    def within(self, folders: Iterable[str]) -> bool:
        """Whether the module is in one of these packages of ours, or is a script."""
        return not self.parts or self.parts[0] in folders


def main() -> int:
    """Check everything below the root and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    modules = list(read(parser.parse_args().root))
    findings = [finding for module in modules for finding in check(module)]
    findings += cycles(modules)
    for finding in sorted(findings, key=lambda each: (each.file, each.line)):
        print(f"{finding.file}:{finding.line}: {finding.says}")
    print(figures(modules))
    return 1 if findings else 0


def read(root: Path) -> Iterator[Module]:
    """Parse every file that the rules are about."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            relative = path.relative_to(root)
            inside = relative.with_suffix("").parts[1:] if relative.parts[0] == "src" else ()
            if inside[-1:] == ("__init__",):
                inside = inside[:-1]
            if "versions" in inside:
                # Migrations are kept as they were when they ran.
                continue
            text = path.read_text("utf-8")
            yield Module(str(relative), ".".join(inside), text, ast.parse(text, str(path)))


def check(module: Module) -> Iterator[Finding]:
    """Yield what one file does wrong."""
    if len(module.lines) > FILE_LINES_MAX:
        yield Finding(module.file, 1, f"{len(module.lines)} lines; split it at {FILE_LINES_MAX}")
    name = Path(module.file).stem if not module.parts else module.parts[-1]
    if _EMPTY_NAME.fullmatch(name):
        yield Finding(module.file, 1, f"a module named {name!r} says nothing; name what is in it")
    inner = inner_imports(module.tree)
    for node in ast.walk(module.tree):
        if isinstance(node, Function):
            yield from _function(module, node)
        elif isinstance(node, ast.ExceptHandler):
            yield from _handler(module, node)
        elif isinstance(node, ast.Global):
            yield Finding(module.file, node.lineno, "no `global`: pass the value, or make a class")
        elif isinstance(node, ast.Attribute | ast.ImportFrom | ast.Call):
            yield from _reach(module, node)
    for imported in inner:
        if not _EXCUSE.search(module.lines[imported.lineno - 1]):
            yield Finding(
                module.file,
                imported.lineno,
                "import at the top, or say why not: `# optional dependency: …` or `# lazy: …`",
            )


def function_lines(function: Function) -> int:
    """Return the lines from `def` to the end, without the docstring."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def _function(module: Module, function: Function) -> Iterator[Finding]:
    lines = function_lines(function)
    if lines > FUNCTION_LINES_MAX:
        yield Finding(
            module.file,
            function.lineno,
            f"{function.name} has {lines} lines; {FUNCTION_LINES_MAX} is the most",
        )
    given = function.args.posonlyargs + function.args.args
    if given and given[0].arg in {"self", "cls"}:
        given = given[1:]
    count = len(given) + len(function.args.kwonlyargs)
    if count > PARAMETERS_MAX:
        yield Finding(
            module.file,
            function.lineno,
            f"{function.name} has {count} parameters; {PARAMETERS_MAX} is the most",
        )


def _names(expression: ast.expr | None) -> set[str]:
    """Return the exception names of an `except`, or of a call's arguments."""
    if expression is None:
        return {"BaseException"}
    elements = expression.elts if isinstance(expression, ast.Tuple) else [expression]
    return {ast.unparse(element).removeprefix("builtins.") for element in elements}


def _handler(module: Module, handler: ast.ExceptHandler) -> Iterator[Finding]:
    silent = all(
        isinstance(statement, ast.Pass | ast.Continue | ast.Break)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in handler.body
    )
    if silent and _names(handler.type) & _BROAD:
        yield Finding(module.file, handler.lineno, "this swallows any error; log it or name it")


def _reach(module: Module, node: ast.Attribute | ast.ImportFrom | ast.Call) -> Iterator[Finding]:
    """Yield uses of the clock, of the environment, and of `suppress(Exception)`."""
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called.split(".")[-1] == "suppress" and set(map(ast.unparse, node.args)) & _BROAD:
            yield Finding(module.file, node.lineno, "this swallows any error; log it or name it")
        return
    if isinstance(node, ast.ImportFrom):
        used = {f"{node.module}.{alias.name}" for alias in node.names}
    else:
        used = {".".join(ast.unparse(node).split(".")[-2:])}
    if used & _CLOCKS and module.parts[:1] != ("clock",) and not module.within(_CLOCK_FOLDERS):
        yield Finding(module.file, node.lineno, "time comes from a Clock (penstock/clock.py)")
    reads_environment = used & {"os.environ", "os.getenv", "os.environb"}
    if (
        reads_environment
        and module.parts[:1] != ("settings",)
        and not module.within(_ENVIRONMENT_FOLDERS)
    ):
        yield Finding(module.file, node.lineno, "the environment is read in settings.py only")


def inner_imports(tree: ast.Module) -> list[ast.Import | ast.ImportFrom]:
    """Return the imports that stand inside functions."""
    found = {
        node
        for function in ast.walk(tree)
        if isinstance(function, Function)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    return sorted(found, key=lambda node: node.lineno)


def graph(modules: Iterable[Module]) -> dict[str, set[str]]:
    """Return which module of ours imports which, wherever the import stands."""
    known = {module.name: module for module in modules if module.name}
    edges: dict[str, set[str]] = {name: set() for name in known}
    for name, module in known.items():
        for node in ast.walk(module.tree):
            for target in _targets(module, node):
                found = target if target in known else target.rpartition(".")[0]
                if found in known and found != name:
                    edges[name].add(found)
    return edges


def _targets(module: Module, node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        origin = node.module or ""
        if node.level:
            package = module.name.split(".")
            drop = node.level - module.file.endswith("__init__.py")
            kept = package[: len(package) - drop]
            origin = ".".join([*kept, *([origin] if origin else [])])
        yield from (f"{origin}.{alias.name}" for alias in node.names)


def cycles(modules: Iterable[Module]) -> list[Finding]:
    """Return one finding for every group of modules that import each other in a ring."""
    known = {module.name: module for module in modules}
    edges = graph(known.values())
    findings = []
    done: set[str] = set()
    for start in sorted(edges):
        ring = _ring(start, edges) if start not in done else []
        if ring:
            done.update(ring)
            says = "import cycle: " + " -> ".join(ring)
            findings.append(Finding(known[start].file, 1, says))
    return findings


def _ring(start: str, edges: Mapping[str, set[str]]) -> list[str]:
    """Return the shortest way from a module back to itself, or nothing."""
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        for following in sorted(edges[way[-1]]):
            if following == start:
                return [*way, start]
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return []


def figures(modules: Iterable[Module]) -> str:
    """Return the longest and the usual, so that a drift is seen before it is a finding."""
    modules = list(modules)
    functions = sorted(
        (function_lines(node), f"{module.file}:{node.lineno} {node.name}")
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, Function)
    )
    files = sorted((len(module.lines), module.file) for module in modules)
    return "\n".join(
        f"{what:<9} {len(sizes):>5}   median {_percentile(sizes, 50):>3} lines, "
        f"p90 {_percentile(sizes, 90):>3}, longest {sizes[-1][0]:>3} ({sizes[-1][1]})"
        for what, sizes in (("functions", functions), ("files", files))
        if sizes
    )


def _percentile(sizes: list[tuple[int, str]], percent: int) -> int:
    lines = [size for size, _ in sizes]
    if len(lines) == 1:
        return lines[0]
    return round(statistics.quantiles(lines, n=100, method="inclusive")[percent - 1])


if __name__ == "__main__":
    sys.exit(main())
