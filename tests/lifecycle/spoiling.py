"""Rows that nearly are what they should be: some of their tokens are others."""

import re
from collections.abc import Sequence

from hypothesis import strategies as st

Changes = list[tuple[int, bytes]]

_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9.]+|[a-z]+|[][{}:,]')


def changes_to(strange: Sequence[bytes]) -> st.SearchStrategy[Changes]:
    """Some places, and what comes there instead."""
    return st.lists(
        st.tuples(st.integers(0, 200), st.sampled_from(strange)), min_size=1, max_size=3
    )


def changed(row: bytes, changes: Changes) -> bytes:
    """The row with these tokens in the place of its own."""
    tokens = _TOKENS.findall(row)
    for place, token in changes:
        tokens[place % len(tokens)] = token
    return b"".join(tokens)
