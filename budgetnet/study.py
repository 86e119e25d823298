"""A study as it is stored: its settings, its trials as plain records, and what ``confirm`` has kept of them.

Optuna keeps the study (SQLite in ``studies/<name>/study.db``, or any storage URL); this module says what we write into
it.
"""

from __future__ import annotations

import hashlib
import os
import re
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from budgetnet.architecture import Architecture
from budgetnet.budget import Limits
from budgetnet.catalogue import known_name
from budgetnet.cost import Cost
from budgetnet.dataset import Fingerprint
from budgetnet.errors import ModelError, SpaceError, StudyError
from budgetnet.files import Unfinished, sha256
from budgetnet.place import STUDIES, StudyPlace, names, newest, place
from budgetnet.recipe import Recipe
from budgetnet.results import FLOAT32, SeedRun
from budgetnet.space_files import parse_space
from budgetnet.statistics import pareto_front

VALUE_EPOCHS = 3  # epochs whose mean validation accuracy is a trial's value

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Settings:
    """What makes trials of a study comparable; fixed when the study is made."""

    space: dict[str, Any]
    budget: int
    max_macs: int | None
    max_activations: int | None
    data: str
    images: int | None
    epochs: int
    seed: int

    @property
    def limits(self) -> Limits:
        return Limits(self.budget, self.max_macs, self.max_activations)

    def changes(self, other: Settings) -> list[str]:
        """What differs in ``other``, as ``place: old → new``."""
        usual = replace(self, space=in_full(self.space), data=plain_path(self.data))
        old, new = _flat(asdict(usual)), _flat(asdict(other))
        keys = [*old, *(key for key in new if key not in old)]
        return [
            f"{key}: {old.get(key, 'absent')} → {new.get(key, 'absent')}"
            for key in keys
            if old.get(key) != new.get(key)
        ]


def plain_path(data: str) -> str:
    """Without the ``./`` and slashes that a shell's completion writes, unless they tell a folder from a known set."""
    short = str(Path(data)) if data else data
    return data if known_name(short) else short


def in_full(space: dict[str, Any]) -> dict[str, Any]:
    """A stored space with the defaults of fields that are younger than the study."""
    try:
        return parse_space(space, "the stored space").to_plain()
    except SpaceError:
        return space


def _flat(value: Any, place: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        items = {f"{place}.{key}" if place else str(key): item for key, item in value.items()}
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        items = {f"{place}[{index}]": item for index, item in enumerate(value)}
    else:
        return {place: value}
    return {key: leaf for name, item in items.items() for key, leaf in _flat(item, name).items()}


@dataclass(frozen=True)
class TrialRecord:
    """One trial as it was recorded.

    state: finished, pruned (by the pruner), rejected (never trained), duplicate (answered from the record), failed,
    running, waiting, or added (given, not searched). value: mean validation accuracy of the last three epochs. curve:
    validation accuracy of every epoch. All accuracies are fractions. reason: why it ended so, or what a person says of
    one that was added. drawn: what was drawn from the space, by the names in the study.
    """

    number: int
    state: str
    value: float | None = None
    architecture: Architecture | None = None
    recipe: Recipe | None = None
    cost: Cost | None = None
    receptive_field: int | None = None
    curve: tuple[float, ...] = ()
    reason: str | None = None
    seed: int = 0
    seconds: float = 0.0
    drawn: dict[str, Any] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether it counts towards the number of trials asked for."""
        return self.state in ("finished", "pruned")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            **asdict(self),
            "architecture": self.architecture and self.architecture.to_dict(),
            "notation": self.architecture and str(self.architecture),
            "curve": list(self.curve),
        }


def pareto(records: Iterable[TrialRecord]) -> list[int]:
    """Numbers of the finished trials that no other finished one beats in params and value, the fewest params first."""
    points = [(r.number, r.cost.params, r.value) for r in records if r.state == "finished" and r.cost and r.value]
    return [points[index][0] for index in pareto_front([(params, value) for _, params, value in points])]


class Study:
    """An open study: reading its records, and the Optuna study and storage themselves for the coordinator."""

    def __init__(self, where: StudyPlace, inner: optuna.Study, storage: RDBStorage) -> None:
        self.where = where
        self.inner = inner
        self.storage = storage

    @property
    def settings(self) -> Settings:
        """The settings that the study was made with. Raises StudyError if budgetnet did not make it."""
        stored = self.inner.user_attrs.get("settings")
        if not isinstance(stored, dict) or set(stored) != set(Settings.__dataclass_fields__):
            raise StudyError(f"{self.where.shown}: study {self.where.name} was not made by this version of budgetnet")
        return Settings(**stored)

    def records(self) -> list[TrialRecord]:
        """Every trial, in the order of their numbers."""
        with storage_errors(self.where):
            trials = self.inner.get_trials(deepcopy=False)
        again = {trial.user_attrs.get("again") for trial in trials}  # numbers of trials that were queued again
        records = [_record(trial) for trial in trials]
        return [replace(r, reason="interrupted; queued again") if r.number in again else r for r in records]

    def record(self, number: int) -> TrialRecord:
        """One trial. Raises StudyError when there is no such trial."""
        records = self.records()
        if not 0 <= number < len(records):
            have = f"has trials 0 to {len(records) - 1}" if records else "has no trials"
            raise StudyError(f"trial {number}: no such trial; study {self.where.name} {have}")
        return records[number]

    def runs(self, trial: int) -> list[SeedRun]:
        """What ``confirm`` has kept of a trial, in the order of the seeds and all in one precision.

        Seeds in bfloat16 no longer count once there is one in float32. Raises StudyError for a broken record.
        """
        with storage_errors(self.where):
            attrs = self.inner.user_attrs
        start = f"confirm:{trial}:"
        try:
            runs = [SeedRun.from_dict(attrs[key]["run"], key) for key in attrs if key.startswith(start)]
        except (ModelError, TypeError, KeyError) as error:
            raise StudyError(f"{self.where.shown}: a run of trial {trial} cannot be read: {error}") from None
        exact = [run for run in runs if run.machine.precision == FLOAT32]
        return sorted(exact or runs, key=lambda run: run.seed)

    def confirmed(self) -> list[int]:
        """Numbers of the trials of which ``confirm`` has kept some seed, in order."""
        with storage_errors(self.where):
            attrs = self.inner.user_attrs
        return sorted({int(key.split(":")[1]) for key in attrs if re.fullmatch(r"confirm:\d+:\d+", key)})

    def keep_run(self, trial: int, run: SeedRun) -> None:
        """Keep one seed of a trial's confirmation, with the hash of its weights if they lie where ``weights`` says."""
        with storage_errors(self.where):
            kept = {"run": run.to_dict(), "weights": sha256(self.weights(trial, run.seed))}
            self.inner.set_user_attr(f"confirm:{trial}:{run.seed}", kept)

    def recognise(self, **parts: Fingerprint) -> None:
        """Keep what the images of the ``training`` or the ``test`` part are, the first time that they are seen.

        Raises StudyError where they are no longer the same, since what was measured before then compares with nothing.
        """
        self.check_images(**parts)
        with storage_errors(self.where):
            for part, images in parts.items():
                if not self.inner.user_attrs.get(f"images:{part}"):
                    self.inner.set_user_attr(f"images:{part}", asdict(images))

    def check_images(self, **parts: Fingerprint) -> None:
        """As ``recognise``, but keeps nothing."""
        with storage_errors(self.where):
            attrs = self.inner.user_attrs
        for part, images in parts.items():
            known = attrs.get(f"images:{part}") or asdict(images)
            if Fingerprint(**known) != images:
                now = "as many, but others" if known["count"] == images.count else f"{images.count:,}"
                raise StudyError(
                    f"study {self.where.name} has seen {known['count']:,} {part} images of {self.settings.data}, "
                    f"and now there are {now}; bring those back, or search these under another --study NAME"
                )

    def images(self, part: str) -> str:
        """SHA-256 of somebody's own images of the ``training`` or the ``test`` part; empty where none were seen."""
        with storage_errors(self.where):
            return str((self.inner.user_attrs.get(f"images:{part}") or {}).get("sha256", ""))

    def weights(self, trial: int, seed: int) -> Path:
        """Where the weights of a confirmed seed belong."""
        return self.where.home / "weights" / f"trial_{trial}_seed_{seed}.safetensors"

    def unfinished_seed(self, trial: int, seed: int) -> Unfinished:
        """What ``confirm`` keeps of a seed while it is trained."""
        return self._unfinished(self.where.home / "weights", f"trial_{trial}_seed_{seed}")

    def unfinished_trial(self, seed: int) -> Unfinished:
        """What the search keeps of the trial with this seed while it is trained, or waits to be trained again."""
        return self._unfinished(self.where.home, f"seed_{seed}")

    def forget_unfinished_trials(self, but: Collection[int | None]) -> None:
        """Remove what a search that was killed could not, all but that of these seeds."""
        for path in self._unfinished(self.where.home, "seed_*").files():
            seed = path.name.split("_")[1]
            if seed.isdecimal() and int(seed) not in but:
                self.unfinished_trial(int(seed)).forget()

    def _unfinished(self, folder: Path, name: str) -> Unfinished:
        """Studies of several databases may share a folder."""
        mark = "" if self.where.is_default else f"_{hashlib.sha256(self.where.url.encode()).hexdigest()[:6]}"
        return Unfinished(folder / f"{name}_unfinished{mark}")

    def has_weights(self, trial: int, seed: int) -> bool:
        """Whether the weights that were kept of a seed are there, byte for byte."""
        with storage_errors(self.where):
            kept = self.inner.user_attrs.get(f"confirm:{trial}:{seed}", {})
            found = sha256(self.weights(trial, seed))
        return found is not None and found == kept.get("weights")

    def _repr_html_(self) -> str:
        from budgetnet.notebook import study_html

        return study_html(self)

    def leaderboard(self) -> list[TrialRecord]:
        """Finished trials, the best first."""
        return sorted((r for r in self.records() if r.state == "finished"), key=lambda r: -(r.value or 0.0))


def open_study(name: str | None = None, storage: str | None = None, root: Path = STUDIES) -> Study:
    """Open a study that exists; by default the one written last. Raises StudyError, and makes no database."""
    if name is None and storage is not None:
        raise StudyError("--storage needs --study NAME: a database may hold many studies")
    where = place(name or newest(root), storage, root)
    if where.database is not None and not where.database.is_file():
        have = ", ".join(sorted(names(root))) or "none"
        raise StudyError(f"no study {where.name!r} in {where.shown}; under {root}{os.sep} there is {have}")
    with storage_errors(where):
        try:
            database = storage_of(where)
            return Study(where, optuna.load_study(study_name=where.name, storage=database), database)
        except KeyError:
            have = ", ".join(sorted(optuna.get_all_study_names(database))) or "none"
            remedy = "; its folder must be called as the study is" if where.is_default else ""
            raise StudyError(f"no study {where.name!r} in {where.shown}, which has {have}{remedy}") from None


def create_or_open(where: StudyPlace, settings: Settings) -> Study:
    """The study at ``where``, made if it is not there. Raises StudyError if its settings are other ones."""
    with storage_errors(where):
        storage = storage_of(where)
        inner = optuna.create_study(study_name=where.name, storage=storage, direction="maximize", load_if_exists=True)
        study = Study(where, inner, storage)
        ours = inner.directions == [StudyDirection.MAXIMIZE] and not inner.get_trials(deepcopy=False)
        if "settings" not in inner.user_attrs and ours:
            inner.set_user_attr("settings", asdict(settings))
    if changes := study.settings.changes(settings):
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        raise StudyError(
            f"study {where.name} was made with other settings: {'; '.join(changes[:3])}{more}; "
            "choose another --study NAME"
        )
    return study


def storage_of(where: StudyPlace) -> RDBStorage:
    """Optuna's storage at a place; closed with the last who holds it. Raises StudyError for a missing driver."""
    with driver_errors(where):
        storage = RDBStorage(where.url)
    weakref.finalize(storage, storage.engine.dispose)  # or its connections stay open until somebody finds them
    return storage


@contextmanager
def driver_errors(where: StudyPlace) -> Iterator[None]:
    """Turn a missing database driver, and a database of another Optuna, into a StudyError."""
    try:
        yield
    except RuntimeError as error:
        raise StudyError(f"{where.shown}: {' '.join(str(error).split())}") from None
    except ImportError as error:
        hint = "; for PostgreSQL: pip install 'budgetnet[postgresql]'" if "psycopg" in str(error) else ""
        raise StudyError(f"{where.shown}: its database driver is not installed: {error}{hint}") from None


@contextmanager
def storage_errors(where: StudyPlace) -> Iterator[None]:
    """Turn what the storage raises into a StudyError of one line; what was written before stays."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.OptunaError, OSError) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.OptunaError) else error
        text = " ".join(str(getattr(cause, "orig", None) or cause or error).split())
        raise StudyError(f"{where.shown}: the study cannot be read or written: {text}") from None


# --- records ----------------------------------------------------------------------------------------------------------

STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def _record(trial: FrozenTrial) -> TrialRecord:
    attrs = trial.user_attrs
    params, macs, peak = (attrs.get(name) for name in ("params", "macs", "peak_activations"))
    return TrialRecord(
        number=trial.number,
        state=attrs.get("state", STATES[trial.state]),
        value=trial.value,
        architecture=Architecture.from_dict(attrs["architecture"]) if "architecture" in attrs else None,
        recipe=Recipe.from_dict(attrs["recipe"]) if "recipe" in attrs else None,
        cost=None if params is None or macs is None or peak is None else Cost(params, macs, peak),
        receptive_field=attrs.get("receptive_field"),
        curve=tuple(trial.intermediate_values[step] for step in sorted(trial.intermediate_values)),
        reason=attrs.get("reason"),
        seed=attrs.get("seed", 0),
        seconds=attrs.get("seconds", 0.0),
        drawn=trial.params,
    )
