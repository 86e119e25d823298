"""Notes on a study and its trials, as optuna-dashboard shows them: made as they are read, never written.

So they are right for trials that still train, a search that runs is not disturbed, and a note that a person writes in
the dashboard, which is stored, takes the place of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from shlex import join
from typing import TYPE_CHECKING, Any

from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from budgetnet.cost import cost
from budgetnet.fields import extent, feature_field
from budgetnet.notation import parse
from budgetnet.place import StudyPlace
from budgetnet.recipe import Recipe
from budgetnet.study import STATES, VALUE_EPOCHS, Settings, Study
from budgetnet.words import count, short

if TYPE_CHECKING:
    from optuna.study._frozen import FrozenStudy

VERSION = "note_ver"  # where optuna-dashboard keeps notes, as attributes of the study: see its `save_note`
TEXT = "note_str:0"
UNWRITTEN = 0  # the version of a note before anybody has saved one


class NotedStorage(RDBStorage):
    """The storage of a study in which whatever has no note has ours."""

    def __init__(self, study: Study) -> None:
        super().__init__(study.where.url)
        self._settings, self._where, self._name = study.settings, study.where, study.where.name
        self._trials = study.inner.get_trials  # reads what has ended only once
        self._id = study.storage.get_study_id_from_name(self._name)
        self._ended: dict[int, str] = {}  # notes that stay as they are, by Optuna's id of the trial

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        attributes = super().get_study_system_attrs(study_id)
        return self._noted(attributes) if study_id == self._id else attributes

    def get_all_studies(self) -> list[FrozenStudy]:
        studies = super().get_all_studies()
        for study in studies:
            if study.study_name == self._name:
                study.system_attrs = self._noted(study.system_attrs)
        return studies

    def _noted(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The attributes of our study, with a note for every trial and for the study itself."""
        notes = {"dashboard": study_note(self._settings, self._where)}
        for trial in self._trials(deepcopy=False):
            notes[f"dashboard:{trial._trial_id}"] = self._note(trial)
        ours: dict[str, Any] = {}
        for place, text in notes.items():
            if f"{place}:{VERSION}" not in attributes:
                ours |= {f"{place}:{VERSION}": UNWRITTEN, f"{place}:{TEXT}": text}
        return {**attributes, **ours}

    def _note(self, trial: FrozenTrial) -> str:
        key = trial._trial_id
        text = self._ended.get(key) or trial_note(trial, self._settings.budget)
        if trial.state.is_finished():
            self._ended[key] = text
        return text


def study_note(settings: Settings, where: StudyPlace) -> str:
    """What is searched for, and how to look on, as Markdown."""
    command = join(["budgetnet", "show", *where.options, "--trial", "N"])
    return (
        f"The most accurate network on **{settings.data}** with fewer than **{count(settings.budget)}** params. "
        f"A trial trains for {settings.epochs} epochs; its value is the mean validation accuracy of the last "
        f"{min(VALUE_EPOCHS, settings.epochs)}. More of a trial: `{command}`"
    )


def trial_note(trial: FrozenTrial, budget: int) -> str:
    """Network, cost, receptive field, state and recipe of a trial as a Markdown table, as far as they are known."""
    rows = [(name, text) for name, text in _facts(trial, budget) if text]
    return "\n".join(("| | |", "|---|---|", *(f"| {name} | {_cell(text)} |" for name, text in rows)))


def _facts(trial: FrozenTrial, budget: int) -> list[tuple[str, str]]:
    attrs, value = {**_figures(trial.user_attrs.get("notation")), **trial.user_attrs}, trial.value
    params, network = attrs.get("params"), attrs.get("notation")
    return [
        ("network", f"`{network}`" if network else ""),
        ("params", f"{count(params)} / {count(budget)}" if params else ""),
        ("MACs", _counted(attrs.get("macs"))),
        ("peak activations", _counted(attrs.get("peak_activations"))),
        ("receptive field", _counted(attrs.get("receptive_field"))),
        ("state", _state(attrs.get("state", STATES[trial.state]), attrs.get("reason"))),
        ("validation accuracy", "" if value is None else f"{100 * value:.2f} %"),
        ("epochs", str(len(trial.intermediate_values) or "")),
        ("recipe", _recipe(attrs["recipe"]) if "recipe" in attrs else ""),
    ]


def _figures(notation: str | None) -> dict[str, Any]:
    """Cost and receptive field of a network, for what was never trained and so has none on record."""
    if notation is None:
        return {}
    network = parse(notation)
    return {**asdict(cost(network)), "receptive_field": min(extent(feature_field(network)[1]))}


def _state(state: str, reason: str | None) -> str:
    """``finished``; ``pruned after epoch 2``; ``rejected: last map 2 × 2 below 4``."""
    if reason is None:
        return state
    return reason if reason.startswith(state) else f"{state}: {reason}"


def _recipe(told: Mapping[str, Any]) -> str:
    """What a recipe has that is not usual; its epochs are the study's."""
    usual = asdict(Recipe(epochs=told["epochs"]))
    unusual = [f"{name} {short(value)}" for name, value in told.items() if value != usual.get(name)]
    return ", ".join([*unusual, "the rest as usual"])


def _counted(value: int | None) -> str:
    return "" if value is None else count(value)


def _cell(text: str) -> str:
    """Inside a table, a bar would begin the next cell, even in code."""
    return text.replace("|", "\\|")
