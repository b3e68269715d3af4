"""What a power cut would leave of a directory, by the calls that were made so far.

A file that was written is dirty until a sync of it that began after the write had ended. A
directory of which a name was added, taken away or replaced is dirty until a sync of its own. A name
that came and went between two syncs leaves nothing.
"""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked at, and what is not."""

    root: Path
    """Everything below it counts, and its own name in the directory above."""
    apart: tuple[str, ...] = ()
    """Names (globs, relative to the root) that no answer rests on."""
    may_come_back: tuple[str, ...] = ()
    """Names of which it does no harm if a power cut brings them back after they were removed."""

    def is_ours(self, path: Path) -> bool:
        """Return whether the path counts."""
        return self.root.is_relative_to(path) or (
            path.is_relative_to(self.root) and not self._matches(path, self.apart)
        )

    def is_missed(self, path: Path) -> bool:
        """Return whether the removal of a name has to last."""
        return not self._matches(path, self.may_come_back)

    def _matches(self, path: Path, patterns: Iterable[str]) -> bool:
        relative = str(path.relative_to(self.root))
        return any(fnmatchcase(relative, pattern) for pattern in patterns)


class _File:
    """The bytes of one file."""

    def __init__(self) -> None:
        self.writing = 0
        """Writes that have begun and not ended."""
        self.dirty_at: int | None = None
        """Where the newest write ended that no sync covers."""


class Disk:
    """The files and names below the root of the rules, which hold for all paths given here."""

    def __init__(self, rules: Rules, there: Iterable[Path] = ()) -> None:
        """Take the names that were there, and durable, before the first call."""
        self._rules = rules
        self._there = set(there)
        self._files: dict[Path, _File] = {}
        self._names: dict[Path, dict[str, tuple[bool, int]]] = {}
        """By directory: which names were added (True) or removed, and where in the trace."""

    def is_there(self, path: Path) -> bool:
        """Return whether the name exists."""
        return path in self._there

    def write_begins(self, path: Path) -> None:
        """Take note of a write that may have effect from now on."""
        self._files.setdefault(path, _File()).writing += 1

    def write_ends(self, path: Path, at: int) -> None:
        """Take note of its end, or of another change of the bytes."""
        file = self._files.setdefault(path, _File())
        file.writing = max(0, file.writing - 1)
        file.dirty_at = at

    def add(self, path: Path, at: int) -> None:
        """Take note of a new name."""
        self._there.add(path)
        self._names.setdefault(path.parent, {})[path.name] = (True, at)

    def remove(self, path: Path, at: int) -> None:
        """Take note of a name that goes."""
        self._there.discard(path)
        self._files.pop(path, None)
        names = self._names.setdefault(path.parent, {})
        was_added, _ = names.pop(path.name, (False, 0))
        if not was_added and self._rules.is_missed(path):
            names[path.name] = (False, at)

    def rename(self, source: Path, target: Path, at: int) -> None:
        """Take note of a move; the bytes are as durable as they were."""
        file = self._files.pop(source, None)
        self.remove(source, at)
        self.add(target, at)
        self._files.pop(target, None)
        if file is not None:
            self._files[target] = file

    def sync(self, path: Path, begun_at: int) -> None:
        """Take note of a sync that succeeded, of a file or a directory."""
        file = self._files.get(path)
        if file is not None and file.dirty_at is not None and file.dirty_at < begun_at:
            file.dirty_at = None
        names = self._names.get(path, {})
        for name, (_, at) in list(names.items()):
            if at < begun_at:
                del names[name]

    def unsynced(self) -> Iterator[str]:
        """Yield the dirty files, and the names of directories that are in doubt."""
        for path, file in self._files.items():
            if file.writing or file.dirty_at is not None:
                yield f"{path} (bytes)"
        for folder, names in self._names.items():
            for name, (added, _) in names.items():
                yield f"{folder / name} ({'new name' if added else 'removed name'})"
