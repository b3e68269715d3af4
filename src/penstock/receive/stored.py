"""A body that is on this machine's disk already, so that no byte of it passes the server again."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import msgspec

from penstock.blobs.part import Part
from penstock.errors import BlobCorrupt
from penstock.ingest.check import UTF8_BOM
from penstock.receive.connection import CHUNK_BYTES


class Stored(msgspec.Struct, frozen=True):
    """The beginning of a file; what stands behind it does not count."""

    path: str
    size_bytes: int
    is_input: bool = False
    """The bytes are those of the input, which has them already; nobody has to write them."""

    def as_input(self, part: Part) -> "Stored":
        """Let the file be the input, too, if these bytes are JSONL and nothing else is in it.

        A byte-order mark is no part of an input. Blocks.
        """
        with closing(self.chunks()) as chunks:
            if next(chunks, b"").startswith(UTF8_BOM):
                return self
        is_input = part.become(Path(self.path), self.size_bytes)
        return msgspec.structs.replace(self, is_input=is_input)

    def chunks(self) -> Generator[bytes, None, None]:
        """Yield the bytes; raise `BlobCorrupt` if the file is shorter or gone."""
        try:
            yield from self._chunks()
        except FileNotFoundError as error:
            raise BlobCorrupt("The stored upload is gone.") from error

    def _chunks(self) -> Generator[bytes, None, None]:
        left = self.size_bytes
        with Path(self.path).open("rb", buffering=0) as file:
            while left:
                chunk = file.read(min(left, CHUNK_BYTES))
                if not chunk:
                    raise BlobCorrupt(f"The stored upload lacks its last {left} bytes.")
                left -= len(chunk)
                yield chunk
