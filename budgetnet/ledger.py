"""A study in memory, where it is asked and told, and its way into the storage: many changes, one transaction.

Sampler and pruner read the whole study for every proposal and every epoch, and Optuna's own storage pays a transaction
for every parameter, attribute and epoch. Here they work on a copy, and ``save`` writes what has changed since: whatever
a crash interrupts, the storage holds whole steps of the search, never half of one.

The tables are Optuna's (its dashboard and its other readers rely on them, and it checks their version when it opens a
storage); they are read from the database, not from Optuna's code.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from math import isfinite
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, MetaData, Table, delete, func, insert, select, update

from budgetnet.errors import StudyError
from budgetnet.study import Study

_ATTRIBUTES = {"user_attrs": "trial_user_attributes", "system_attrs": "trial_system_attributes"}
_RUNG = "completed_rung_"  # how Optuna's halving begins the name of what a trial had when it was judged
_TABLES = ("trials", "trial_params", "trial_values", "trial_intermediate_values", *_ATTRIBUTES.values())

Row = dict[str, Any]


@dataclass
class _Kept:
    """What the storage holds of a trial that has not ended there."""

    id: int
    state: TrialState
    params: set[str] = field(default_factory=set)
    steps: set[int] = field(default_factory=set)
    attributes: dict[str, dict[str, Any]] = field(default_factory=lambda: {name: {} for name in _ATTRIBUTES})


class Ledger:
    """``study``: the copy in memory. Only its holder may change the stored study; the study's lock sees to that."""

    def __init__(self, stored: Study) -> None:
        self._where = stored.where
        self._engine = stored.storage.engine
        self._id = stored.storage.get_study_id_from_name(stored.where.name)
        metadata = MetaData()
        metadata.reflect(self._engine, only=_TABLES)
        self._tables: Mapping[str, Table] = metadata.tables
        self._memory = InMemoryStorage()
        self.study = optuna.create_study(storage=self._memory, study_name=stored.where.name, direction="maximize")
        self._memory_id = self._memory.get_study_id_from_name(stored.where.name)
        self._saved = 0  # trials that the storage has
        self._open: dict[int, _Kept] = {}  # by number: those that have not ended there
        trials = stored.inner.get_trials(deepcopy=False)
        repeated = {trial.user_attrs.get("again") for trial in trials}
        for trial in trials:
            taken = unjudged(trial) if trial.number in repeated else trial
            self._memory.create_new_trial(self._memory_id, template_trial=taken)
            self._saved += 1
            if not trial.state.is_finished():
                key = stored.storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)
                self._note(trial, _Kept(key, trial.state))

    def set(self, sampler: BaseSampler, pruner: BasePruner) -> None:
        """Who proposes, and who stops."""
        self.study.sampler, self.study.pruner = sampler, pruner

    def save(self) -> None:
        """Bring the storage up to date: all of it, or nothing. Raises StudyError, SQLAlchemyError."""
        trials = self._memory.get_all_trials(self._memory_id, deepcopy=False)
        kept, new, rows = dict(self._open), trials[self._saved :], _Rows()
        with self._engine.begin() as connection:
            if new:
                self._check_alone(connection)
            for trial in new:
                kept[trial.number] = _Kept(self._insert(connection, trial), trial.state)
            for number, known in kept.items():
                rows.add(trials[number], known)
            rows.write(connection, self._tables)
        self._saved = len(trials)
        for number, known in kept.items():
            self._note(trials[number], known)

    def _note(self, trial: FrozenTrial, kept: _Kept) -> None:
        """Remember what the storage now has of a trial; nothing more is written of one that has ended."""
        if trial.state.is_finished():
            self._open.pop(trial.number, None)
            return
        kept.state = trial.state
        kept.params, kept.steps = set(trial.params), set(trial.intermediate_values)
        kept.attributes = {name: dict(getattr(trial, name)) for name in _ATTRIBUTES}
        self._open[trial.number] = kept

    def _check_alone(self, connection: Connection) -> None:
        trials = self._tables["trials"]
        count = connection.scalar(select(func.count()).select_from(trials).where(trials.c.study_id == self._id))
        if count != self._saved:
            raise StudyError(
                f"{self._where.shown}: study {self._where.name} has {count} trials where {self._saved} were expected: "
                "another program writes to it; end that, and start the search again"
            )

    def _insert(self, connection: Connection, trial: FrozenTrial) -> int:
        row = {"number": trial.number, "study_id": self._id, **_state(trial)}
        key = connection.execute(insert(self._tables["trials"]).values(row)).inserted_primary_key
        assert key is not None
        return int(key[0])


def judged(trial: FrozenTrial) -> list[tuple[str, Any]]:
    """What halving has noted of a trial each time it judged it, in that order."""
    rungs = [(name, value) for name, value in trial.system_attrs.items() if name.startswith(_RUNG)]
    return sorted(rungs, key=lambda rung: int(rung[0].removeprefix(_RUNG)))


def unjudged(trial: FrozenTrial) -> FrozenTrial:
    """A trial that halving does not compare others with: another that goes on in its place counts for both."""
    bare = copy.copy(trial)
    bare.system_attrs = {name: value for name, value in trial.system_attrs.items() if not name.startswith(_RUNG)}
    return bare


class _Rows:
    """What is to be written of several trials, by table."""

    def __init__(self) -> None:
        self._new: dict[str, list[Row]] = {name: [] for name in _TABLES}
        self._changed: list[tuple[str, int, str]] = []  # attributes that have another value: table, trial, key
        self._states: list[tuple[int, Row]] = []

    def add(self, trial: FrozenTrial, kept: _Kept) -> None:
        """What ``trial`` has and ``kept`` has not."""
        if trial.state != kept.state:
            self._states.append((kept.id, _state(trial)))
        for table, rows in (
            ("trial_params", _params(trial, kept.params)),
            ("trial_values", _values(trial)),
            ("trial_intermediate_values", _steps(trial, kept.steps)),
        ):
            self._new[table] += [{"trial_id": kept.id, **row} for row in rows]
        for name, table in _ATTRIBUTES.items():
            known = kept.attributes[name]
            for key, value in getattr(trial, name).items():
                if key in known and known[key] == value:
                    continue
                if key in known:
                    self._changed.append((table, kept.id, key))
                self._new[table].append({"trial_id": kept.id, "key": key, "value_json": json.dumps(value)})

    def write(self, connection: Connection, tables: Mapping[str, Table]) -> None:
        """One statement a table, whatever the number of trials."""
        trials = tables["trials"]
        for trial, row in self._states:
            connection.execute(update(trials).where(trials.c.trial_id == trial).values(row))
        for name, trial, key in self._changed:
            table = tables[name]
            connection.execute(delete(table).where(table.c.trial_id == trial, table.c.key == key))
        for name, rows in self._new.items():
            if rows:
                connection.execute(insert(tables[name]), rows)


def _state(trial: FrozenTrial) -> Row:
    started, ended = _utc(trial.datetime_start), _utc(trial.datetime_complete)
    return {"state": trial.state.name, "datetime_start": started, "datetime_complete": ended}


def _utc(local: datetime | None) -> datetime | None:
    """The tables keep naive UTC; trials have naive local time."""
    return None if local is None else local.astimezone(timezone.utc).replace(tzinfo=None)


def _params(trial: FrozenTrial, known: set[str]) -> Iterator[Row]:
    for name, value in trial.params.items():
        if name not in known:
            distribution = trial.distributions[name]
            inner = distribution.to_internal_repr(value)
            yield {"param_name": name, "param_value": inner, "distribution_json": distribution_to_json(distribution)}


def _values(trial: FrozenTrial) -> Iterator[Row]:
    """The value of a trial that ends; Optuna allows none that is not finite, save infinities, which no accuracy is."""
    for objective, value in enumerate(trial.values or ()):
        yield {"objective": objective, "value": value, "value_type": "FINITE"}


def _steps(trial: FrozenTrial, known: set[int]) -> Iterator[Row]:
    for step, value in trial.intermediate_values.items():
        if step not in known:
            assert isfinite(value), "the coordinator reports finite accuracies alone"
            yield {"step": step, "intermediate_value": value, "intermediate_value_type": "FINITE"}
