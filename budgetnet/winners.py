"""From a trial of a study to a frozen model: retrain over seeds, then write code, weights and evidence."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from budgetnet.confirm import Confirmation, confirm
from budgetnet.errors import ModelError, StudyError
from budgetnet.evidence import Provenance
from budgetnet.executor import Executor
from budgetnet.freeze import Frozen, freeze
from budgetnet.modelfile import free_name
from budgetnet.recipe import EpochResult
from budgetnet.study import Study, TrialRecord

MAX_SEEDS = 1000


@dataclass(frozen=True)
class Order:
    """What to freeze, and how. ``target`` is a fraction of the test images; the seeds are 0 … ``seeds`` - 1."""

    trial: int
    seeds: int = 3
    name: str | None = None
    out: Path = Path("model.py")
    target: float = 0.994
    force: bool = False

    def check(self, study: Study) -> TrialRecord:
        """The trial's record. Raises BudgetnetError when the order cannot be met – before anything is trained."""
        if not 1 <= self.seeds <= MAX_SEEDS:
            raise StudyError(f"--seeds must be between 1 and {MAX_SEEDS:,}, but got {self.seeds}")
        if not 0 < self.target <= 1:
            raise StudyError(f"--target must be above 0 and at most 100 percent, but got {100 * self.target:g}")
        record = study.record(self.trial)
        if record.state != "finished":
            reason = f" ({record.reason})" if record.reason else ""
            raise StudyError(
                f"--trial {self.trial}: only a finished trial can be frozen, but it is {record.state}{reason}"
            )
        _check_writable(self.out)
        free_name(self.out, self.name, force=self.force)
        return record


def _check_writable(out: Path) -> None:
    folder = out.resolve().parent
    if not folder.is_dir():
        raise ModelError(f"--out {out}: there is no folder {folder}")
    if not os.access(folder, os.W_OK) or (out.exists() and not os.access(out, os.W_OK)):
        raise ModelError(f"--out {out}: no permission to write there")


def freeze_trial(
    study: Study,
    order: Order,
    executor: Executor,
    on_epoch: Callable[[int, EpochResult], None] | None = None,
) -> tuple[Frozen, Confirmation]:
    """Retrain a finished trial on all training images, read test once an epoch, and freeze it.

    Raises BudgetnetError; then no file has changed.
    """
    record = order.check(study)
    settings = study.settings
    if record.architecture is None or record.recipe is None or record.value is None:
        raise StudyError(f"--trial {order.trial}: its record is incomplete")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "first_seed.safetensors"
        confirmation = confirm(
            executor,
            record.architecture,
            record.recipe,
            data=settings.data,
            seeds=range(order.seeds),
            weights=weights,
            on_epoch=on_epoch,
        )
        provenance = Provenance(
            study=study.where.name,
            trial=order.trial,
            budget=settings.budget,
            search_seed=settings.seed,
            data=settings.data,
            validation_accuracy=record.value,
            target=order.target,
        )
        frozen = freeze(
            record.architecture,
            record.recipe,
            confirmation,
            provenance,
            weights,
            out=order.out,
            name=order.name,
            force=order.force,
        )
    return frozen, confirmation
