"""A running emulator per test, or one per file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.emulator.driver import Emulator, fresh_emulator


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    """A fresh emulator."""
    with fresh_emulator(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One emulator for a whole file, for tests that leave nothing behind that matters."""
    with fresh_emulator(tmp_path_factory.mktemp("shared")) as made:
        yield made
