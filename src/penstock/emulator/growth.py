"""Objects that grow each time they are read, as a file that somebody is still writing to.

Cloud Storage replaces an object, it never appends: so each step is a new generation, and whoever
asked for size and checksum before the read holds those of another one.
"""

import asyncio
import shutil
import threading
from pathlib import Path

import msgspec

from penstock.emulator.database import Database
from penstock.emulator.objects import COPY_CHUNK_BYTES, Attributes, ObjectStore

_SETTING = "growing"


class _Grower(msgspec.Struct):
    file: str
    sizes: list[int]
    """What is still to come; the last one is the whole."""
    content_type: str


class Growing:
    """All objects that still grow; they go on growing after a restart."""

    def __init__(self, data_dir: Path, database: Database, store: ObjectStore) -> None:
        self._folder = data_dir / "growing"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._database = database
        self._store = store
        self._lock = threading.Lock()
        stored = database.setting(_SETTING)
        self._growers = (
            {} if stored is None else msgspec.json.decode(stored, type=dict[str, _Grower])
        )

    def begin(self, target: tuple[str, str], whole: Path, steps: int, kind: Attributes) -> None:
        """Put the first part of a file into its place; the rest comes with `steps` reads."""
        with self._lock:
            file = self._folder / f"{self._database.count('growers_made')}"
            shutil.copyfile(whole, file)
            size = file.stat().st_size
            sizes = [size * step // (steps + 1) for step in range(1, steps + 2)]
            grower = _Grower(str(file), sizes, kind.content_type)
            self._grow("/".join(target), target, grower)

    async def read(self, target: tuple[str, str]) -> None:
        """Let the object grow, if it does: somebody is about to read it."""
        if "/".join(target) in self._growers:
            await asyncio.to_thread(self._step, target)

    def _step(self, target: tuple[str, str]) -> None:
        with self._lock:
            name = "/".join(target)
            grower = self._growers.get(name)
            if grower is not None:
                self._grow(name, target, grower)

    def _grow(self, name: str, target: tuple[str, str], grower: _Grower) -> None:
        size = grower.sizes.pop(0)
        with self._store.incoming(with_md5=False) as incoming:
            with Path(grower.file).open("rb") as rows:
                left = size
                while left > 0 and (chunk := rows.read(min(left, COPY_CHUNK_BYTES))):
                    incoming.write(chunk)
                    left -= len(chunk)
            kind = Attributes(content_type=grower.content_type)
            self._store.commit(incoming, target, kind)
        if grower.sizes:
            self._growers[name] = grower
        else:
            self._growers.pop(name, None)
            Path(grower.file).unlink(missing_ok=True)
        self._database.set_setting(_SETTING, msgspec.json.encode(self._growers).decode())
