"""What is not there: ways to run what somebody sent, and routes that nobody described."""

import ast
import tokenize
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "penstock"
FILES = sorted(SOURCE.rglob("*.py"))

CALLS = {
    *("eval", "exec", "compile", "__import__", "globals", "breakpoint"),
    *("os.system", "os.popen", "os.execv", "os.spawnv", "runpy.run_path", "runpy.run_module"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "marshal.loads", "shelve.open"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell"),
    *("ssl._create_unverified_context", "tempfile.mktemp", "jinja2.Template"),
    *("hashlib.md5", "hashlib.sha1"),
}
MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "shelve",
    "marshal",
    "jinja2",
    "mako",
    "telnetlib",
    "ftplib",
}


ALLOWED = {
    # Cloud Storage states MD5 beside CRC32C, so the emulator has to; nothing trusts it.
    ("emulator/objects.py", "hashlib.md5"),
}


def dotted(node: ast.expr) -> str:
    """The name that is called, such as `os.system`."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def tree(path: Path) -> ast.Module:
    """The syntax of a file."""
    with tokenize.open(path) as file:
        return ast.parse(file.read())


def forbidden(module: ast.Module) -> set[str]:
    """What a module calls or imports that could run what was sent to it."""
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            found |= {name} & CALLS
            for word in node.keywords:
                value = word.value.value if isinstance(word.value, ast.Constant) else None
                if (word.arg, value) in {("shell", True), ("verify", False), ("autoescape", False)}:
                    found.add(f"{name}({word.arg}={value!r})")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] in MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= whole & CALLS
            found |= {node.module} if node.module.split(".")[0] in MODULES else set()
    return found


def test_nothing_runs_what_was_sent() -> None:
    """Our code has no eval, exec, pickle, unsafe YAML, shell, templates or TLS switched off."""
    found = {
        (str(path.relative_to(SOURCE)), name) for path in FILES for name in forbidden(tree(path))
    }
    assert len(FILES) > 100
    assert found == ALLOWED


@pytest.mark.parametrize(
    "program",
    [
        "eval(x)",
        "exec(x)",
        "import pickle",
        "from pickle import loads",
        "import yaml; yaml.load(x)",
        "import os; os.system(x)",
        "from os import system",
        "import subprocess; subprocess.run(x, shell=True)",
        "import httpx2; httpx2.get(x, verify=False)",
        "import jinja2; jinja2.Environment()",
        "import asyncio; asyncio.create_subprocess_shell(x)",
        "def f():\n    __import__(x)",
    ],
)
def test_the_search_finds_it(program: str) -> None:
    """A search that finds nothing proves nothing unless it finds each of these."""
    assert forbidden(ast.parse(program)) != set()


def test_processes_are_started_without_a_shell() -> None:
    """Each place that starts a process gives a list of arguments, and is known here."""
    starting = {
        str(path.relative_to(SOURCE))
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and dotted(node.func)
        in {
            "subprocess.Popen",
            "subprocess.run",
            "subprocess.call",
            "asyncio.create_subprocess_exec",
        }
    }
    assert starting == {
        "cli/dev.py",
        "receive/receiver.py",
        "lifecycle/own_process.py",
        "testing/process.py",
    }


def test_no_route_is_for_tests() -> None:
    """Debug, test and administration endpoints that run code are what such servers fell to."""
    text = "".join(path.read_text("utf-8") for path in FILES if path.parent.name == "api")
    for word in ("/debug", "/test", "/exec", "/eval", "/config", "/env", "/pprof", "debug=True"):
        assert f'"{word}' not in text
    assert "debug=True" not in text
