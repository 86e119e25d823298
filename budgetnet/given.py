"""A network that nobody searched as a trial of a study: to be confirmed, compared and frozen as the searched ones are.

Such a trial is ``added``: it has no validation accuracy, a sampler never sees it, and ``search`` leaves it alone.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from optuna import get_all_study_names
from optuna.trial import TrialState, create_trial

from budgetnet.architecture import Architecture
from budgetnet.budget import UNITS
from budgetnet.candidates import Candidate
from budgetnet.cost import cost
from budgetnet.dataset import times
from budgetnet.errors import StudyError
from budgetnet.lock import locked
from budgetnet.place import StudyPlace
from budgetnet.recipe import Recipe
from budgetnet.study import Settings, Study, TrialRecord, create_or_open, open_study, storage_errors, storage_of

SPACE = "added"  # the space of a study that was made for such networks alone


def existing(where: StudyPlace) -> Study | None:
    """The study at ``where``, if there is one."""
    if where.database is not None and not where.database.is_file():
        return None
    with storage_errors(where):
        names = get_all_study_names(storage_of(where))
    return open_study(where.name, None if where.is_default else where.url) if where.name in names else None


def made(where: StudyPlace, architecture: Architecture, budget: int, data: str, epochs: int) -> Study:
    """A new study for given networks that are of one kind with this. Raises StudyError; then nothing is written."""
    space = {"name": SPACE, "input": list(architecture.input_shape), "classes": architecture.head.classes}
    settings = Settings(space, budget, None, None, data, None, epochs, 0)
    _check(architecture, settings, where.name)
    with storage_errors(where):
        where.home.mkdir(parents=True, exist_ok=True)
    return create_or_open(where, settings)


def add_network(study: Study, architecture: Architecture, recipe: Recipe, note: str | None = None) -> TrialRecord:
    """The network as a trial of the study; the trial that it is already, added or finished, with the same recipe.

    It is trained for the study's epochs. note: what a person says of it. Raises StudyError when the network is not for
    the study's images or not under its budget, or somebody else has the study.
    """
    settings = study.settings
    recipe = replace(recipe, epochs=settings.epochs)
    _check(architecture, settings, study.where.name)
    with locked(study.where):
        for record in study.records():
            if record.state in ("added", "finished") and (record.architecture, record.recipe) == (architecture, recipe):
                return record
        with storage_errors(study.where):
            attributes = _attributes(architecture, recipe, note)
            study.inner.add_trial(create_trial(state=TrialState.FAIL, user_attrs=attributes))
        return study.records()[-1]


def _check(architecture: Architecture, settings: Settings, name: str) -> None:
    wanted = (tuple(settings.space["input"]), settings.space["classes"])
    found = (architecture.input_shape, architecture.head.classes)
    if found != wanted:
        raise StudyError(
            f"study {name} is for images of {times(wanted[0])} in {wanted[1]} classes, "
            f"but {architecture} is for {times(found[0])} in {found[1]}"
        )
    costs = cost(architecture)
    if costs.params >= settings.budget:
        raise StudyError(
            f"study {name}: params must stay below {settings.budget:,}, but {architecture} has {costs.params:,}"
        )
    for what, excess in settings.limits.overshoot(costs).items():
        spent = getattr(costs, what)
        raise StudyError(
            f"study {name} is for at most {spent - excess:,} {UNITS[what]}, but {architecture} has {spent:,}"
        )


def _attributes(architecture: Architecture, recipe: Recipe, note: str | None) -> dict[str, Any]:
    said = {"reason": note} if note else {}
    return {"state": "added", **Candidate(architecture, recipe).attributes, **asdict(cost(architecture)), **said}
