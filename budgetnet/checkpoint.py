"""A training after its last whole epoch, in a file: one that was interrupted goes on there, to the very same weights.

Order, augmentation and dropout of an epoch depend on its seed and its number alone, so the tensors of a Step are all
that the next epoch needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from budgetnet.checked import record
from budgetnet.errors import ModelError
from budgetnet.results import EpochResult
from budgetnet.weights import read_said, read_weights, write_tensors


@dataclass(frozen=True)
class Progress:
    """The epochs that are through, each with the result of every seed, and the tensors as the last one left them."""

    epochs: tuple[tuple[EpochResult, ...], ...]
    tensors: dict[str, Tensor]


class Checkpoint:
    """The file of one training. ``training`` (JSON-able) is all that its result depends on, the machine included."""

    def __init__(self, path: Path, training: Mapping[str, Any]) -> None:
        self._path = path
        self._training = json.loads(json.dumps(training))  # as a file gives it back: lists for tuples

    def read(self) -> Progress | None:
        """None where the file is missing, broken, or of another training: then this one begins at its beginning."""
        try:
            said = read_said(self._path)
            if said.get("training") != self._training:
                return None
            epochs = tuple(tuple(record(EpochResult, "epoch", result) for result in epoch) for epoch in said["epochs"])
            return Progress(epochs, read_weights(self._path))
        except (ModelError, KeyError, TypeError):
            return None

    def write(self, epochs: Sequence[Sequence[EpochResult]], tensors: Mapping[str, Tensor]) -> None:
        """Atomically; raises ModelError."""
        told = [[result.to_dict() for result in epoch] for epoch in epochs]
        write_tensors(self._path, tensors, {"training": self._training, "epochs": told})
