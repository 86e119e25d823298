"""All that a report shows of a study, read and computed once: its trials, what mattered, and its confirmed winner."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from budgetnet.aim import Aim, read_aim
from budgetnet.analysis import Account, account
from budgetnet.build import build
from budgetnet.data import load
from budgetnet.dataset import DataSet, Split
from budgetnet.errors import ModelError, SentenceError, StudyError
from budgetnet.evidence import Evidence, read_evidence
from budgetnet.freeze import case_of, evidence_path, weights_path
from budgetnet.importance import Importance, importances
from budgetnet.modelfile import ModelFile
from budgetnet.models import model_file
from budgetnet.results import Confirmation
from budgetnet.study import Settings, Study, TrialRecord
from budgetnet.weights import load_weights, read_weights
from budgetnet.winners import Winner, provenance


@dataclass(frozen=True)
class Champion:
    """The confirmed trial of highest validation accuracy. account: its Target, Result and Analysis; frozen_as: the
    model that it became, if any; weights: of the first seed, None where they are gone."""

    record: TrialRecord
    runs: Confirmation
    aim: Aim
    data: str
    account: Account
    frozen_as: str | None
    weights: Path | None

    @cached_property
    def _data(self) -> DataSet:
        assert self.record.architecture is not None
        return load(self.data, image_shape=self.record.architecture.input_shape)

    @cached_property
    def test(self) -> Split:
        """The test images: of a study that is confirmed they have been read before, and choose nothing here."""
        return self._data.final_splits()[1]

    def called(self, label: int) -> str:
        """A class by its name, or its number where it has none."""
        named = self._data.class_names
        return named[label] if label < len(named) else str(label)

    @cached_property
    def mistaken(self) -> dict[int, list[int]]:
        """Test images that some seed's last weights got wrong, with what each such seed took them for."""
        found: dict[int, list[int]] = {}
        for run in self.runs.runs:
            for index, taken_for in run.outcome.wrong:
                found.setdefault(index, []).append(taken_for)
        return found

    @cached_property
    def filters(self) -> Tensor | None:
        """Weights of the first convolution, (out, in, height, width); None where they are gone. Raises ModelError."""
        if self.weights is None or self.record.architecture is None:
            return None
        network = build(self.record.architecture)
        load_weights(network, read_weights(self.weights), f"trial {self.record.number}", self.weights)
        first: Tensor = next(tensor for tensor in network.state_dict().values() if tensor.ndim == 4)
        return first

    def confusion(self) -> np.ndarray[Any, Any]:
        """(true class, taken for): test images over all seeds; the diagonal holds what was right."""
        labels = self.test.labels.numpy()
        assert self.record.architecture is not None
        classes = self.record.architecture.head.classes
        found = np.diag(np.bincount(labels, minlength=classes) * self.runs.n)
        for index, guesses in self.mistaken.items():
            for guess in guesses:
                found[labels[index], guess] += 1
                found[labels[index], labels[index]] -= 1
        return found


@dataclass(frozen=True)
class Survey:
    """A study as a report sees it.

    aim: what its file says. confirmed: by trial.
    champion: the confirmed trial that was chosen on validation, or the only one; None where there is none.
    """

    study: Study
    aim: Aim
    records: tuple[TrialRecord, ...]
    confirmed: dict[int, Confirmation]
    champion: Champion | None

    @property
    def name(self) -> str:
        return self.study.where.name

    @cached_property
    def settings(self) -> Settings:
        return self.study.settings

    @cached_property
    def importances(self) -> list[Importance]:
        """Which hyperparameters mattered: seconds of work."""
        return importances(self.study)

    @property
    def trained(self) -> list[TrialRecord]:
        return [record for record in self.records if record.trained and record.curve and record.cost is not None]

    @property
    def finished(self) -> list[TrialRecord]:
        """The best first."""
        return sorted((r for r in self.trained if r.state == "finished"), key=lambda r: -(r.value or 0.0))


def survey(study: Study) -> Survey:
    """Read a study. Raises StudyError, ModelError, and DataError where the data of a confirmed trial is gone."""
    records, aim = tuple(study.records()), read_aim(study.where.home)
    confirmed = {
        winner.trial: winner.confirmation()
        for number in study.confirmed()
        if (winner := Winner.of(study, number)).runs()
    }
    searched = [number for number in confirmed if records[number].value is not None]
    candidates = searched or (list(confirmed) if len(confirmed) == 1 else [])  # on test nothing is chosen
    chosen = max(candidates, key=lambda number: records[number].value or 0.0, default=None)
    return Survey(
        study,
        aim,
        records,
        confirmed,
        None if chosen is None else _champion(Winner.of(study, chosen), confirmed[chosen], aim),
    )


def _champion(winner: Winner, runs: Confirmation, aim: Aim) -> Champion:
    path, frozen_as = _frozen(winner) or (model_file(), None)
    name = frozen_as or f"trial {winner.trial}"
    evidence = Evidence(name, winner.architecture, winner.recipe, runs, provenance(winner, aim), "")
    try:
        said = account(case_of(evidence, ModelFile.read(path)))
    except SentenceError as error:
        raise StudyError(f"{aim.place}: {error}") from None
    kept = [winner.study.weights(winner.trial, runs.seeds[0])]
    if frozen_as is not None:
        kept.append(weights_path(path, frozen_as))
    weights = next((path for path in kept if path.is_file()), None)
    return Champion(winner.study.record(winner.trial), runs, aim, winner.data, said, frozen_as, weights)


def _frozen(winner: Winner) -> tuple[Path, str] | None:
    """The model that the trial became, with its file: the model file, or one beside the study's folder."""
    beside = winner.study.where.home.parent / "model.py"
    for path in (model_file(), *([beside] if beside.is_file() else [])):
        for name in ModelFile.read(path).classes:
            if _is_from(winner, evidence_path(path, name)):
                return path, name
    return None


def _is_from(winner: Winner, path: Path) -> bool:
    """Whether the evidence at a path is of this trial, as it is now."""
    try:
        evidence = read_evidence(path)
    except ModelError:
        return False
    origin = evidence.provenance
    of_trial = (origin.study, origin.trial) == (winner.study.where.name, winner.trial)
    return of_trial and (evidence.architecture, evidence.recipe) == (winner.architecture, winner.recipe)
