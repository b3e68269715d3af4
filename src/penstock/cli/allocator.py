"""How the C library keeps memory for a server.

glibc gives threads heaps of their own, up to eight for each core, and what one has freed another
cannot use. A server has some thirty threads and a lock that lets one run at a time, so they share.
Asked of the running process: the variable `MALLOC_ARENA_MAX` is read before Python begins, and a
server that started itself again to set it would be another process than the one that was started.
"""

import ctypes
from typing import Final

M_ARENA_MAX: Final = -8
"""Of malloc.h."""

ARENAS_MAX: Final = 2


def share_heaps() -> bool:
    """Let all threads share two heaps; to be called before there are any.

    Return whether the C library knows how: musl and macOS have one heap anyway.
    """
    library = ctypes.CDLL(None)
    return hasattr(library, "mallopt") and library.mallopt(M_ARENA_MAX, ARENAS_MAX) == 1
