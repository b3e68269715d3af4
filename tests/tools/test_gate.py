import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GATE = ROOT / "tools" / "gate.py"


def gate(root: Path) -> tuple[int, str]:
    """Run the gate over a tree and return its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, str(GATE), "--root", str(root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def write(root: Path, files: dict[str, str]) -> None:
    """Write files below src/penstock, or below the root when the name starts with a slash."""
    for name, text in files.items():
        path = root / name[1:] if name.startswith("/") else root / "src" / "penstock" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


LONG = "def f():\n" + "    x = 1\n" * 70
BAD = {
    "function": ({"a.py": LONG}, "src/penstock/a.py:1: f has 71 lines; 70 is the most"),
    "file": ({"a.py": "x = 1\n" * 601}, "src/penstock/a.py:1: 601 lines; split it at 600"),
    "parameters": (
        {"/tools/a.py": "class A:\n    def f(self, a, b, c, *, d, e, f, g): ...\n"},
        "tools/a.py:2: f has 7 parameters; 6 is the most",
    ),
    "bare except": (
        {"a.py": "try:\n    x = 1\nexcept:\n    pass\n"},
        "a.py:3: this swallows any error",
    ),
    "except Exception": (
        {"a.py": "for _ in ():\n  try:\n    x = 1\n  except (OSError, Exception):\n    continue\n"},
        "a.py:4: this swallows any error",
    ),
    "except with a constant": (
        {"a.py": "try:\n    x = 1\nexcept BaseException:\n    ...\n"},
        "a.py:3: this swallows any error",
    ),
    "suppress": (
        {"a.py": "import contextlib\nwith contextlib.suppress(Exception):\n    x = 1\n"},
        "a.py:2: this swallows any error",
    ),
    "global": ({"/bench/a.py": "def f():\n    global x\n    x = 1\n"}, "bench/a.py:2: no `global`"),
    "cycle": (
        {"a.py": "from penstock import b\n", "b.py": "from penstock.a import x\n"},
        "a.py:1: import cycle: penstock.a -> penstock.b -> penstock.a",
    ),
    "cycle by a late import": (
        {
            "a.py": "import penstock.c.d\n",
            "c/__init__.py": "",
            "c/d.py": "def f():\n    from .. import a  # lazy: a test\n    return a\n",
        },
        "a.py:1: import cycle: penstock.a -> penstock.c.d -> penstock.a",
    ),
    "late import": (
        {"a.py": "def f():\n    import json\n    return json\n"},
        "a.py:2: import at the top",
    ),
    "late import without a reason": (
        {"a.py": "def f():\n    import json  # lazy:\n    return json\n"},
        "a.py:2: import at the top",
    ),
    "name": ({"utils.py": ""}, "utils.py:1: a module named 'utils' says nothing"),
    "name of a package": ({"helpers/__init__.py": ""}, "a module named 'helpers' says nothing"),
    "variant of a name": ({"/tools/job_helpers.py": ""}, "'job_helpers' says nothing"),
    "time": ({"a.py": "import time\nx = time.time()\n"}, "a.py:2: time comes from a Clock"),
    "time by name": ({"a.py": "from time import monotonic\n"}, "a.py:1: time comes from a Clock"),
    "now": (
        {"cli/a.py": "import datetime\nx = datetime.datetime.now()\n"},
        "a.py:2: time comes from a Clock",
    ),
    "environment": (
        {"api/a.py": "import os\nx = os.environ['A']\n"},
        "a.py:2: the environment is read in settings.py only",
    ),
    "environment by name": (
        {"a.py": "from os import getenv\n"},
        "a.py:1: the environment is read in settings.py only",
    ),
}


@pytest.mark.parametrize(("files", "says"), BAD.values(), ids=BAD)
def test_each_rule_can_fail(tmp_path: Path, files: dict[str, str], says: str) -> None:
    """A tree that breaks one rule is refused with that one finding."""
    write(tmp_path, files)
    code, out = gate(tmp_path)
    findings = [line for line in out.splitlines() if ".py:" in line and "longest" not in line]
    assert code == 1
    assert len(findings) == 1
    assert says in findings[0]


GOOD = {
    "function": {"a.py": 'def f():\n    """One.\n\n    Two.\n    """\n' + "    x = 1\n" * 69},
    "parameters": {"a.py": "class A:\n    def f(self, a, b, c, d, *e, f, g, **h): ...\n"},
    "except": {"a.py": "try:\n    x = 1\nexcept ValueError:\n    pass\n"},
    "late import": {
        "a.py": "def f():\n    import json  # optional dependency: not everybody has it\n"
        "    return json\n"
    },
    "clock": {
        "clock.py": "import time\nx = time.time()\n",
        "client/a.py": "from time import monotonic\n",
        "emulator/b/c.py": "from datetime import datetime\nx = datetime.now()\n",
        "/tools/a.py": "import time\nx = time.monotonic()\n",
        "a.py": "x = y.time.sleep(1)\nz = clock.now()\n",
    },
    "environment": {
        "settings.py": "import os\nx = os.environ\n",
        "cli/a.py": "import os\nx = os.getenv('A')\n",
    },
    "no cycle": {
        "a/__init__.py": "from penstock.a.b import x\n",
        "a/b.py": "from penstock.a.c import x\n",
        "a/c.py": "x = 1\n",
    },
    "migration": {"store/migrations/versions/a.py": LONG},
    "names": {"database.py": "", "basement.py": "", "managers_of_doors.py": ""},
}


@pytest.mark.parametrize("files", GOOD.values(), ids=GOOD)
def test_what_is_right_passes(tmp_path: Path, files: dict[str, str]) -> None:
    """What the rules allow is not refused."""
    write(tmp_path, files)
    code, out = gate(tmp_path)
    assert code == 0, out


def test_figures(tmp_path: Path) -> None:
    """The longest function and file are named, with median and p90."""
    write(tmp_path, {"a.py": "def f():\n    x = 1\n", "b.py": "def g():\n" + "    x = 1\n" * 9})
    assert gate(tmp_path)[1].splitlines() == [
        "functions     2   median   6 lines, p90   9, longest  10 (src/penstock/b.py:1 g)",
        "files         2   median   6 lines, p90   9, longest  10 (src/penstock/b.py)",
    ]
