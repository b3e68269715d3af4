"""One command of Penstock with a plan: `python -m tests.crash.launch serve …`.

The plan is in the environment (`tests.crash.strike` says how it looks) and is taken out of it
before the server begins. For a few processes that are killed or frozen; `zygote` is for thousands.
"""

import json
import os
import sys
from pathlib import Path

from tests.crash import strike

from penstock.cli.main import run


def main() -> int:
    """Arm this process and be the command; return its exit code."""
    text = os.environ.pop(strike.VARIABLE, None)
    if text is not None:
        plan = json.loads(text)
        strike.launch(plan, Path(plan["log"]).parent / f"site-{os.getpid()}")
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
