"""Memory of a worker process: what a step frees, the next step takes again."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc takes no higher one (HEAP_MAX_SIZE / 2 on 64 bits)


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory of this process, not hand it back; whether it does. Other C libraries stay as is.

    A training step frees every map it makes. Handed back to the system, the pages come again zeroed, one fault each:
    up to a tenth of the time of a small network's step, as the benchmark of training says (mallopt(3)).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl; Windows
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD) and mallopt(TRIM_THRESHOLD, 2**31 - 1))
