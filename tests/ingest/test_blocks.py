"""Chunks into blocks."""

from hypothesis import given
from hypothesis import strategies as st
from tests.ingest.naive import pieces

from penstock.ingest.blocks import BLOCK_BYTES, Blocks

DATA = bytes(range(251)) * (3 * BLOCK_BYTES // 251)


@given(
    st.integers(0, len(DATA)),
    st.lists(st.sampled_from([0, 1, 7, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 1])),
)
def test_blocks_do_not_depend_on_chunks(size: int, cuts: list[int]) -> None:
    """Every block but the last is full, none is empty, and nothing is lost."""
    blocks: list[bytes] = []
    cutter = Blocks(blocks.append)
    data = DATA[:size]
    for piece in pieces(data, cuts):
        cutter.feed(piece)
    cutter.finish()
    assert b"".join(blocks) == data
    assert all(len(block) == BLOCK_BYTES for block in blocks[:-1])
    assert all(blocks)
