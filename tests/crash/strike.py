"""The hook that kills: at the n-th hit of a named point, in whichever process reaches it.

Imported by the launcher (`zygote`) and, by its path alone, by the children of a server, so it
imports nothing but the standard library. The product knows nothing of it.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

EVENT = "penstock.fault"
VARIABLE = "CRASH_PLAN"
"""Where the launcher looks for the plan: `{"point": "submit.sent", "hit": 1, "signal": "KILL"}`.

`signal` is KILL or STOP. With `"whole": true` it goes to the server and all of its children, as a
power cut would; else to the process that reached the point. `log` is a file that gets one line a
hit and one a strike, written before the signal. A plan strikes once, whoever reaches its point
after that; `mark` tells the plans of one log apart."""

SITE = "import runpy\nrunpy.run_path({path!r})['arm']({plan!r})\n"
"""What a child's `sitecustomize` says; children have no environment, but our `sys.path`."""


def arm(plan: dict[str, Any]) -> None:
    """Install the hook in this process; there is no way to take it out again."""
    point, wanted = str(plan["point"]), int(plan.get("hit", 1))
    number = getattr(signal, f"SIG{plan.get('signal', 'KILL')}")
    log = os.open(plan["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    hits = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal hits
        if event != EVENT:
            return
        os.write(log, f"hit {arguments[0]}\n".encode())
        if arguments[0] != point:
            return
        hits += 1
        if hits == wanted and _is_first(plan["log"] + plan.get("mark", "")):
            os.write(log, f"strike {point}\n".encode())
            # A server leads a process group of its own, which its children are in.
            target = -os.getpgid(0) if plan.get("whole") else os.getpid()
            os.kill(target, number)

    sys.addaudithook(hook)


def _is_first(path: str) -> bool:
    """Whether no process of this plan has struck yet: one that is started anew begins to count."""
    try:
        os.close(os.open(path + ".struck", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def launch(plan: dict[str, Any] | None, folder: Path) -> None:
    """Arm this process, and through `folder` the Python children that it will have."""
    if plan is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    text = SITE.format(path=str(Path(__file__)), plan=plan)
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    sys.path.insert(0, str(folder))
    arm(plan)
