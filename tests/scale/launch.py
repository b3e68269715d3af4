"""`penstock` with a plan: at a named point the process kills or stops itself.

    python tests/scale/launch.py '{"point": "submit.sent", "signal": "STOP", …}' serve --role worker

The hook is that of `tests/crash`; the product knows nothing of it.
"""

import json
import runpy
import sys
from pathlib import Path

from penstock.cli.main import main

_STRIKE = Path(__file__).parent.parent / "crash" / "strike.py"

if __name__ == "__main__":
    plan = json.loads(sys.argv[1])
    sys.argv = ["penstock", *sys.argv[2:]]
    runpy.run_path(str(_STRIKE))["arm"](plan)
    main()
