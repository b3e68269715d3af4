"""deliveries: a process ends behind the threads that a library runs Python in, not under them."""

import subprocess
import sys

import pytest

PROGRAM = """
import _thread, sys, time
from penstock.blobs.deliveries import SECONDS_MAX, finish_at_exit

begun = _thread.allocate_lock()
begun.acquire()

def deliver():
    begun.release()
    time.sleep({seconds})
    print("delivered", flush=True)

for _ in range(2):
    finish_at_exit()
_thread.start_new_thread(deliver, ())
begun.acquire()
print("over")
"""


@pytest.mark.parametrize(
    ("seconds", "said"), [("0.3", ["over", "delivered"]), ("SECONDS_MAX * 60", ["over"])]
)
def test_a_process_waits_for_threads_that_python_has_not_started(
    seconds: str, said: list[str]
) -> None:
    """What such a thread is about to do is done, unless it takes for ever."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(seconds=seconds)],
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
    )
    assert (done.stdout.split(), done.stderr) == (said, "")
