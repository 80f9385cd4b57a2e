"""How the C library's allocator treats a tick's temporaries.

glibc maps each block over 128 KiB anew and gives it back when it is freed. A tick over hundreds of
calls makes dozens of such blocks, so the kernel would clear the same pages for us 200 times a
second: measured as a third of all CPU at 1000 calls. Told otherwise, glibc keeps what it once had.
"""

from __future__ import annotations

import ctypes
from typing import Any

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MOST = 32 << 20  # glibc's HEAP_MAX / 2: it refuses more


def keep_freed_memory() -> bool:
    """Keep freed blocks for the next tick; False where the C library isn't glibc."""
    mallopt = _function("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MOST) and mallopt(_M_TRIM_THRESHOLD, 8 * _MOST))


def give_back() -> bool:
    """Give the kernel the pages in which nothing is left, wherever they lie; False likewise.

    Now and then: calls that come and go leave holes, and a process that keeps them all grows for
    as long as it has not seen its busiest moment.
    """
    trim = _function("malloc_trim")
    return trim is not None and bool(trim(0))


def _function(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None)
