# ruff: noqa: ANN401  # it stands for anything that the client gives
"""One text of tests for both kinds of the client: the one that awaits is used as if it blocked."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Protocol, Self, cast

from tests.client.stub import KEY, Stub

from penstock.client import Api, AsyncApi, AsyncClient, Client

KINDS = ("blocking", "aio")


class Pauses:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)

    def now(self) -> float:
        return sum(self.slept)


class Connect(Protocol):
    """Makes clients of the kind under test, which never really sleep."""

    kind: str

    def __call__(
        self, stub: Stub, pauses: Callable[[float], None] | None = None, **options: Any
    ) -> Api:
        """Return the calls by id."""
        ...

    def client(self, url: str | None, key: str | None = KEY, **options: Any) -> Client:
        """Return the client that people use; with `sleep=None` it really sleeps."""
        ...


class Blocking:
    """Makes clients that block."""

    kind = "blocking"

    def __call__(
        self, stub: Stub, pauses: Callable[[float], None] | None = None, **options: Any
    ) -> Api:
        return Api(stub.url, KEY, sleep=pauses or Pauses(), **options)

    def client(self, url: str | None, key: str | None = KEY, **options: Any) -> Client:
        options.setdefault("sleep", Pauses())
        if options["sleep"] is None:
            del options["sleep"]
        return Client(url, key, **options)


class Awaiting:
    """Makes clients that await, each in a loop that runs whenever one of their calls does."""

    kind = "aio"

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner

    def __call__(
        self, stub: Stub, pauses: Callable[[float], None] | None = None, **options: Any
    ) -> Api:
        made = AsyncApi(stub.url, KEY, sleep=_awaited(pauses or Pauses()), **options)
        return cast(Api, Blocked(made, self._runner))

    def client(self, url: str | None, key: str | None = KEY, **options: Any) -> Client:
        sleep = options.pop("sleep", Pauses())
        if sleep is not None:
            options["sleep"] = _awaited(sleep)
        return cast(Client, Blocked(AsyncClient(url, key, **options), self._runner))


def makes(kind: str) -> Iterator[Connect]:
    """Yield what makes clients of a kind, for a fixture."""
    if kind == "blocking":
        yield Blocking()
        return
    with asyncio.Runner() as runner:
        yield Awaiting(runner)


class Blocked:
    """Something that awaits, with the face of what blocks."""

    def __init__(self, inner: Any, runner: asyncio.Runner) -> None:
        self._inner = inner
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return self._shown(getattr(self._inner, name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            setattr(self._inner, name, value)

    def __repr__(self) -> str:
        return repr(self._inner)

    def __enter__(self) -> Self:
        self._runner.run(_entered(self._inner))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.run(_left(self._inner))

    def __iter__(self) -> Iterator[Any]:
        steps = aiter(self._inner)
        try:
            while (step := self._runner.run(_next(steps))) is not _END:
                yield self._shown(step)
        finally:
            self._runner.run(steps.aclose())

    def _shown(self, value: Any) -> Any:
        """Return what a blocking client would have given here."""
        if inspect.iscoroutine(value):
            return self._shown(self._runner.run(value))
        if inspect.isasyncgen(value) or type(value).__module__.startswith("penstock.client.aio"):
            return Blocked(value, self._runner)
        if inspect.ismethod(value):
            return lambda *given, **named: self._shown(value(*map(_bare, given), **named))
        if isinstance(value, list):
            return [self._shown(each) for each in value]
        return value


_END = object()


async def _next(steps: Any) -> Any:
    return await anext(steps, _END)


async def _entered(inner: Any) -> None:
    await inner.__aenter__()


async def _left(inner: Any) -> None:
    await inner.__aexit__(None, None, None)


def _awaited(function: Callable[[float], object]) -> Callable[[float], Any]:
    async def sleep(seconds: float) -> None:
        function(seconds)

    return sleep


def _bare(value: Any) -> Any:
    """Return what a call of the client takes in the place of what was shown."""
    if isinstance(value, Blocked):
        return value._inner
    return [_bare(each) for each in value] if isinstance(value, list) else value
