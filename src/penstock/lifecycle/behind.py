"""One thing at a time in a second thread: hashing and writing overlap with parsing.

Both release the interpreter for large blocks, so they run on another core. At most one task is
under way, so memory stays at the block that is worked on and the one that is being made.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

_Given = TypeVar("_Given")


class Behind:
    """A thread that runs one task while its owner prepares the next."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._last: Future[object] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way, or what was has ended."""
        return self._last is None or self._last.done()

    def do(self, task: Callable[[_Given], object], given: _Given) -> None:
        """Begin a task once the one before is done; raise what the one before raised."""
        self.wait()
        self._last = self._thread.submit(task, given)

    def wait(self) -> None:
        """Return when nothing is under way; raise what the last task raised, once."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def close(self) -> None:
        """Let the task under way end, and end the thread; its error is of no interest any more."""
        self._thread.shutdown()

    def __enter__(self) -> Self:
        """Return itself; the thread ends with the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the thread."""
        self.close()
