"""Feature maps as the compiled loops take them: arrays channels last, over the memory of tensors that lie so."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

ROW = 1024  # columns of a row at most: its sums, scale and shift stay in the nearest cache


def array(x: Tensor | None) -> Any:
    """The memory of a tensor, bfloat16 as uint16."""
    assert x is not None
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).detach().numpy()


def cells(x: Tensor) -> Any:
    """(N, C, H, W) as an array (N, H, W, C); a view where the tensor is laid out channels-last, as
    one that is written to must be."""
    return array(x.detach().contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1))


def rows(x: Tensor) -> Any:
    """(N, C, H, W) as an array of rows of several cells each."""
    return cells(x).reshape(-1, _row(x.shape[1], x.shape[2] * x.shape[3]))


@lru_cache
def _row(channels: int, cells: int) -> int:
    """The longest row of at most ROW columns that divides an image into equal rows; one cell at least."""
    return channels * max((n for n in range(1, cells + 1) if cells % n == 0 and n * channels <= ROW), default=1)
