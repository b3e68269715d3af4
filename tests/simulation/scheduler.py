"""Processes on one clock: an event loop a process, and time that jumps to whatever comes next.

A process of the simulation is an asyncio loop of its own, so the real code's tasks, shields and
threads run unchanged, and a process can be killed or frozen as a whole. Nothing here asks the
machine for time, threads or chance, so a seed fixes every step.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

from tests.fake_clock import START

READY_MAX: Final = 100_000
"""A process that does more than this at one moment has got stuck."""


class Killed(BaseException):
    """The process died here."""


Act = Callable[..., object]


class Handle:
    """Something that a process will do."""

    __slots__ = ("args", "callback", "is_cancelled")

    def __init__(self, callback: Act, args: tuple[Any, ...]) -> None:
        self.callback = callback
        self.args = args
        self.is_cancelled = False

    def cancel(self) -> None:
        """Do not do it."""
        self.is_cancelled = True


class Scheduler:
    """The order of everything that happens."""

    def __init__(self) -> None:
        self.time = START
        self._due: list[tuple[float, int, Process, Handle]] = []
        self._number = 0

    def now(self) -> float:
        """Return the time, as a `FakeClock` does."""
        return self.time

    def at(self, when: float, process: "Process", handle: Handle) -> None:
        """Have a process do something at a time; in the order of the calls if times are equal."""
        self._number += 1
        heapq.heappush(self._due, (when, self._number, process, handle))

    def run(self, until: float) -> None:
        """Let things happen until a time."""
        due = self._due
        while due and due[0][0] <= until:
            when, _, process, handle = heapq.heappop(due)
            if handle.is_cancelled or process.is_dead:
                continue
            if process.frozen_until > when:
                self.at(process.frozen_until, process, handle)
                continue
            self.time = when
            process.run_now(handle)
        self.time = max(self.time, until)


class Process:
    """One process: it can freeze with everything in it, and die."""

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self.scheduler = scheduler
        self.name = name
        self.frozen_until = 0.0
        self.is_dead = False
        self._ready: deque[Handle] = deque()
        self.thread_delay: Callable[[], float] = lambda: 0.0
        """How long the next thread takes to come back."""

    def run_now(self, handle: Handle) -> None:
        """Do one thing and everything that follows from it at once."""
        ready = self._ready
        ready.append(handle)
        asyncio._set_running_loop(cast(Any, self))
        try:
            done = 0
            while ready and self.frozen_until <= self.scheduler.time:
                one = ready.popleft()
                if not one.is_cancelled:
                    one.callback(*one.args)
                done += 1
                if done > READY_MAX:
                    raise AssertionError(f"{self.name} is stuck")
        finally:
            asyncio._set_running_loop(None)
        if ready and not self.is_dead:
            self.scheduler.at(self.frozen_until, self, Handle(_nothing, ()))

    def freeze(self, seconds: float) -> None:
        """Stop everything in this process for so long."""
        self.frozen_until = max(self.frozen_until, self.scheduler.time + seconds)

    def kill(self) -> None:
        """Die: no task goes on, and whatever its clean-up tries fails."""
        if self.is_dead:
            return
        self.is_dead = True
        # The call that brought death ends by itself with `Killed`.
        for task in asyncio.all_tasks(cast(Any, self)):
            task.cancel()

    def bury(self) -> None:
        """Let the dead tasks unwind; their ports are dead, so nothing comes of it."""
        self.frozen_until = 0.0
        self.run_now(Handle(_nothing, ()))

    # -- what asyncio asks of a loop ---------------------------------------------------------------
    # Only what the real code's tasks, futures and threads need; a signature is asyncio's own.

    def time(self) -> float:
        return self.scheduler.time

    def call_soon(self, callback: Act, *args: object, context: object = None) -> Handle:
        del context
        handle = Handle(callback, args)
        self._ready.append(handle)
        return handle

    def call_later(self, delay: float, callback: Act, *args: object) -> Handle:
        return self.call_at(self.scheduler.time + delay, callback, *args)

    def call_at(self, when: float, callback: Act, *args: object) -> Handle:
        handle = Handle(callback, args)
        if not self.is_dead:
            self.scheduler.at(when, self, handle)
        return handle

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=cast(Any, self))

    def create_task(self, coro: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        return asyncio.Task(coro, loop=cast(Any, self), name="task")

    def run_in_executor(self, executor: object, func: Act, *args: object) -> "asyncio.Future[Any]":
        """Do it here and now; the result may come later."""
        del executor
        future = self.create_future()
        try:
            result = func(*args)
        except BaseException as error:  # noqa: BLE001  # as a thread's future does
            future.set_exception(error)
            return future
        delay = 0.0 if self.is_dead else self.thread_delay()
        if delay > 0:
            self.call_later(delay, _settle, future, result)
        else:
            future.set_result(result)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Say nothing: tasks of the dead are never asked for their result."""


def _nothing() -> None:
    """Only wake the process."""


def _settle(future: "asyncio.Future[Any]", result: object) -> None:
    if not future.done():
        future.set_result(result)
