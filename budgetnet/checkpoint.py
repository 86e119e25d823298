"""A training after a whole epoch, in a file: one that was interrupted goes on there. On a CPU it ends with the very
weights that it would have had.

Order, augmentation and dropout of an epoch depend on its seed and its number alone, so the tensors of a Step are all
that the next epoch needs.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from budgetnet.checked import record
from budgetnet.errors import ModelError
from budgetnet.files import DIGEST
from budgetnet.results import EpochResult
from budgetnet.weights import read_all, write_tensors

CODE = Path(__file__).parent
EVERY = 1.0  # seconds from one file to the next at least: more is not worth keeping


@dataclass(frozen=True)
class Progress:
    """The epochs that are through, each with the result of every seed, and the tensors as the last one left them."""

    epochs: tuple[tuple[EpochResult, ...], ...]
    tensors: dict[str, Tensor]


class Checkpoint:
    """The file of one training: ``start`` and a digest of ``training``, so that no training takes another's.

    training (JSON-able): all that its result depends on, the machine included; the code of budgetnet is added here.
    """

    def __init__(self, start: Path, training: Mapping[str, Any]) -> None:
        self._training = {**json.loads(json.dumps(training)), "code": _code()}  # as a file gives it back
        digest = hashlib.sha256(json.dumps(self._training, sort_keys=True).encode()).hexdigest()
        self.path = start.with_name(f"{start.name}_{digest[:DIGEST]}.safetensors")
        self._written = time.monotonic()

    def read(self) -> Progress | None:
        """None where there is no file, or a broken one: then the training begins at its beginning."""
        try:
            said, tensors = read_all(self.path)
            if said["training"] != self._training:
                return None
            epochs = tuple(tuple(record(EpochResult, "epoch", result) for result in epoch) for epoch in said["epochs"])
            return Progress(epochs, tensors)
        except (ModelError, KeyError, TypeError):
            return None

    def due(self) -> bool:
        """Whether so much has been done since the last file that another is worth it."""
        return time.monotonic() - self._written >= EVERY

    def write(self, epochs: Sequence[Sequence[EpochResult]], tensors: Mapping[str, Tensor]) -> None:
        """Atomically; where it cannot be done, the training is worth more, and the file stays as it was."""
        told = [[result.to_dict() for result in epoch] for epoch in epochs]
        with suppress(ModelError, OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)  # a study in a database server has no folder yet
            write_tensors(self.path, tensors, {"training": self._training, "epochs": told})
        self._written = time.monotonic()


@cache
def _code() -> str:
    """SHA-256 over the modules of budgetnet: any of them may decide what an epoch gives."""
    digest = hashlib.sha256()
    for path in sorted(CODE.glob("*.py")):
        with suppress(OSError):  # somebody is changing the code just now
            digest.update(path.read_bytes())
    return digest.hexdigest()
