"""The machine at hand: its cores and devices, and how one of its processes is set up to train."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from budgetnet.errors import WorkerError

if TYPE_CHECKING:
    import torch

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(device: str) -> str:
    """``auto`` → "cuda" where there is one, else "cpu"; anything else is checked. Raises WorkerError."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda", "mps"):
        raise WorkerError(f"--device must be auto, cpu, cuda or mps, but got {device!r}")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[device]:
        raise WorkerError(f"--device {device}: torch finds no such device on this machine")
    return device


def has_bf16(device: str | torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware (elsewhere it is emulated, and slower than float32)."""
    import torch

    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.device(device).type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def check_bf16(device: str) -> None:
    """Raise WorkerError where bfloat16 would be emulated, and slower than float32."""
    if not has_bf16(device):
        raise WorkerError(
            f"steps in bfloat16 need a processor that computes so, but {device} is none; see confirm --float32"
        )


def set_up(threads: int) -> None:
    """Make this process a worker: so many threads of torch's, and no memory handed back to the system."""
    import torch

    torch.set_num_threads(threads)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory of this process, not hand it back; whether it does. Other C libraries stay as is.

    A training step frees every map it makes. Handed back to the system, the pages come again zeroed, one fault each:
    up to a tenth of the time of a small network's step, a sixth of a wide one's, as the benchmark of training says. So
    nothing that the main thread frees is trimmed, and nothing it asks for is mapped apart, however large (mallopt(3)).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl; Windows
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, -1))
