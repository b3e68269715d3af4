from tests.fake_clock import START

from penstock.store.store import Store


async def test_a_silent_worker_is_found(store: Store) -> None:
    """Only those whose last heartbeat is older than asked for are silent."""
    await store.workers.join("a", START)
    await store.workers.join("b", START + 5)
    assert await store.workers.silent_since(START + 5) == ["a"]


async def test_a_heartbeat_ends_the_silence(store: Store) -> None:
    """A worker that beats is alive again."""
    await store.workers.join("a", START)
    await store.workers.beat("a", START + 10)
    assert await store.workers.silent_since(START + 5) == []


async def test_a_forgotten_worker_comes_back_by_beating(store: Store) -> None:
    """A frozen process that was declared lost is seen again when it wakes up."""
    await store.workers.join("a", START)
    await store.workers.forget("a")
    assert await store.workers.silent_since(START + 99) == []
    await store.workers.beat("a", START + 20)
    assert await store.workers.silent_since(START + 99) == ["a"]


async def test_forgetting_twice_is_harmless(store: Store) -> None:
    """Two processes may clean up after the same dead one."""
    await store.workers.join("a", START)
    await store.workers.join("b", START)
    await store.workers.forget("a")
    await store.workers.forget("a")
    assert await store.workers.silent_since(START + 99) == ["b"]
