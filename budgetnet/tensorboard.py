"""Curves and hyperparameters as TensorBoard's event files, a run for every trial or seed.

Written by the process that hears of the epochs. TensorBoard is an extra: it is imported when a run begins, not before.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budgetnet.architecture import Architecture
from budgetnet.cost import cost
from budgetnet.errors import BudgetnetError
from budgetnet.extras import require
from budgetnet.fields import extent, feature_field
from budgetnet.progress import Progressed, SearchEvent, Started
from budgetnet.recipe import Recipe
from budgetnet.results import Confirmation, EpochResult

if TYPE_CHECKING:
    from budgetnet.coordinator import Search
    from budgetnet.winners import Winner

FLUSH = 10  # seconds after which a curve that grows can be looked at
VALUE = "value"  # of a trial in a search; other runs end with the accuracy of their last epoch


def check_folder(folder: Path | None) -> None:
    """Raise ExtraError without TensorBoard, BudgetnetError where the folder cannot be; None asks for nothing."""
    if folder is None:
        return
    require("tensorboard")
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise BudgetnetError(f"--tensorboard {folder}: must be a folder, but {there} is a file")
    if not os.access(there, os.W_OK):
        raise BudgetnetError(f"--tensorboard {folder}: {there} cannot be written")


class Runs:
    """The runs under a folder; without a folder nothing is written. Raises BudgetnetError where it cannot be."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._open: dict[str, Any] = {}  # SummaryWriter, whose types torch leaves open

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *exception: object) -> None:
        """End what is still under way as interrupted."""
        for name in list(self._open):
            self.end(name, "", None)

    def begin(self, name: str, told: Mapping[str, Any], metric: str) -> None:
        """A run of a name: what training is told, and the tag that its last value will have.

        What the folder has of a run of this name from before is hidden by the new one.
        """
        if self._folder is None:
            return
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        with self._writing():
            writer: Any = SummaryWriter(str(self._folder / name), purge_step=1, flush_secs=FLUSH)
            self._open[name] = writer
            experiment, start, _ = hparams(dict(told), {metric: None})  # type: ignore[no-untyped-call]
            for summary in (experiment, start):
                writer.file_writer.add_summary(summary)
            writer.add_text("network", f"`{told['network']}`")
            writer.flush()

    def epoch(self, name: str, result: EpochResult, split: str) -> None:
        """One more epoch of a run that has begun; ``split``: what its accuracy was counted on."""
        if self._folder is None:
            return
        with self._writing():
            for tag, value in (
                ("loss/train", result.train_loss),
                (f"loss/{split}", result.loss),
                ("accuracy/train", result.train_accuracy),
                (f"accuracy/{split}", result.accuracy),
                ("learning_rate", result.learning_rate),
            ):
                self._open[name].add_scalar(tag, value, result.epoch)

    def end(self, name: str, metric: str, value: float | None, epoch: int = 0) -> None:
        """A run is over; without a value it has failed, was pruned or interrupted. One that never began is no run."""
        if name not in self._open:
            return
        with self._writing(), closing(self._open.pop(name)) as writer:
            if value is not None:
                writer.add_scalar(metric, value, epoch)
            writer.file_writer.add_summary(_session_end(well=value is not None))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BudgetnetError(f"--tensorboard {self._folder}: cannot be written: {error}") from None


def _session_end(*, well: bool) -> Any:
    """What closes a line in the table of hyperparameters; torch's own ``hparams`` knows only a good end."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    status = api_pb2.STATUS_SUCCESS if well else api_pb2.STATUS_FAILURE
    ended = plugin_data_pb2.HParamsPluginData(session_end_info=plugin_data_pb2.SessionEndInfo(status=status))
    kept = metadata.create_summary_metadata(ended)
    return Summary(value=[Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=kept)])


def described(architecture: Architecture, recipe: Recipe, seed: int) -> dict[str, Any]:
    """What the table of hyperparameters says of a run."""
    spent, (_, field) = cost(architecture), feature_field(architecture)
    facts = {"params": spent.params, "macs": spent.macs, "receptive_field": min(extent(field)), "seed": seed}
    return {"network": str(architecture), **facts, **recipe.to_dict()}


# --- of a search ------------------------------------------------------------------------------------------------------


def search_events(search: Search, folder: Path | None) -> Generator[SearchEvent, None, None]:
    """The events of a search, each written before it is passed on."""
    with Runs(folder) as runs, closing(search.run()) as events:
        for event in events:
            _write(runs, search.study.where.name, event)
            yield event


def _write(runs: Runs, study: str, event: SearchEvent) -> None:
    if isinstance(event, Progressed):
        runs.epoch(f"{study}/trial_{event.number}", event.result, "validation")
        return
    record = event.record
    name = f"{study}/trial_{record.number}"
    if not isinstance(event, Started):
        runs.end(name, VALUE, record.value if record.state == "finished" else None, len(record.curve))
    elif record.architecture is not None and record.recipe is not None:
        runs.begin(name, described(record.architecture, record.recipe, record.seed), VALUE)


# --- of seeds and of single runs --------------------------------------------------------------------------------------


def run_name() -> str:
    """Of a run that belongs to no study: the time at which it began."""
    return f"train_{datetime.now():%Y%m%d-%H%M%S}"


class Seeds:
    """The runs of one network over seeds: live, and at the end those that were kept from before."""

    def __init__(self, runs: Runs, name: str, architecture: Architecture, recipe: Recipe, split: str = "test") -> None:
        self._runs, self._name, self._split = runs, name, split
        self._architecture, self._recipe = architecture, recipe
        self._last: dict[int, EpochResult] = {}

    @staticmethod
    def of(runs: Runs, winner: Winner) -> Seeds:
        """Those of a trial that is confirmed."""
        name = f"{winner.study.where.name}/trial_{winner.trial}"
        return Seeds(runs, name, winner.architecture, winner.recipe)

    def epoch(self, seed: int, result: EpochResult) -> None:
        """One more epoch of a seed; the last ends its run."""
        name, metric = f"{self._name}_seed_{seed}", f"final/{self._split}"
        if seed not in self._last:
            self._runs.begin(name, described(self._architecture, self._recipe, seed), metric)
        self._last[seed] = result
        self._runs.epoch(name, result, self._split)
        if result.epoch == self._recipe.epochs:
            self._runs.end(name, metric, result.accuracy, result.epoch)

    def rest(self, confirmation: Confirmation) -> None:
        """The seeds that were trained before."""
        for run in confirmation.runs:
            if run.seed not in self._last:
                for result in run.epochs:
                    self.epoch(run.seed, result)
