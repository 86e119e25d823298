"""What is asked of a search: limits, data, samplers, pruners – checked before anything is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from math import floor, log
from pathlib import Path

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)

from budgetnet.budget import Limits
from budgetnet.catalogue import known_name
from budgetnet.data import load
from budgetnet.dataset import Fingerprint
from budgetnet.dimension import Dimension
from budgetnet.errors import StudyError
from budgetnet.executor import HANG_LIMIT
from budgetnet.files import expanded
from budgetnet.place import STUDIES, StudyPlace, place
from budgetnet.recipe import RANGES
from budgetnet.samplers import SAMPLERS
from budgetnet.space import SearchSpace
from budgetnet.space_files import load_space, space_names
from budgetnet.study import Settings, plain_path
from budgetnet.tailor import check_enough, followed, with_smaller_batches
from budgetnet.teacher import check_teacher, named_in_full
from budgetnet.workplace import Workplace

MAX_EPOCHS = int(RANGES["epochs"][1])
DEFAULT_SPACE = "mnist"


@dataclass(frozen=True)
class Plan:
    """How far and how to search; may differ from one run of a study to the next."""

    trials: int
    sampler: str = "tpe"
    pruner: str = "halving"
    timeout: float | None = None  # seconds

    def __post_init__(self) -> None:
        _at_least("--trials", self.trials, 1)
        if self.timeout is not None and not self.timeout > 0:  # NaN is not either
            raise StudyError(f"--timeout must be above 0 seconds, but got {self.timeout:g}")
        for option, value, allowed in (("sampler", self.sampler, SAMPLERS), ("pruner", self.pruner, PRUNERS)):
            if value not in allowed:
                raise StudyError(f"--{option} must be one of {', '.join(allowed)}, but got {value!r}")


@dataclass(frozen=True)
class Checked:
    """What a search goes by. ``space`` is made to measure for the data; ``notes``: what a person should know of it;
    ``training``: what its images are, where they are somebody's own files."""

    space: SearchSpace
    settings: Settings
    plan: Plan
    workplace: Workplace
    notes: tuple[str, ...] = ()
    training: Fingerprint | None = None


@dataclass(frozen=True)
class Request:
    """A search as a person asks for it."""

    budget: int = 8000
    space: str = DEFAULT_SPACE
    data: str | None = None  # by default the space's
    images: int | None = None  # train on so many, stratified; all by default
    study: str | None = None  # by default <space>-<budget>, or <data>-<budget> with the default space on other data
    storage: str | None = None  # by default SQLite in the study's folder
    trials: int = 30
    epochs: int = 15
    seed: int = 0
    max_macs: int | None = None
    max_activations: int | None = None
    sampler: str = "tpe"
    pruner: str = "halving"
    timeout: float | None = None  # seconds
    workers: int | None = None  # by default one a core
    device: str = "auto"
    hang_limit: float = HANG_LIMIT  # seconds
    executor: str = "local"
    ray_address: str | None = None  # by default a Ray of our own on this machine
    job_cpus: float = 1.0  # of a Ray task
    job_gpus: float = 0.0
    root: Path = STUDIES

    def check(self) -> tuple[SearchSpace, Settings, Plan]:
        """As ``checked``, without what the images are and what is to be said of them."""
        found = self.checked()
        return found.space, found.settings, found.plan

    def checked(self) -> Checked:
        """Everything that can be checked without training. Raises BudgetnetError; writes nothing."""
        plan = Plan(self.trials, self.sampler, self.pruner, self.timeout)
        limits = Limits(self.budget, self.max_macs, self.max_activations)
        workplace = self.workplace
        check_seed(self.seed)
        if not 1 <= self.epochs <= MAX_EPOCHS:
            raise StudyError(f"--epochs must be between 1 and {MAX_EPOCHS}, but got {self.epochs}")
        if self.images is not None:
            _at_least("--images", self.images, 1)
        space = load_space(self.space)
        self.place(space)
        spec = plain_path(space.data if self.data is None else self.data)
        space, notes, training = self._with_data(space, spec)
        space = _taught(space, spec)
        space.check_reachable(limits)
        settings = Settings(space.to_plain(), *limits.as_tuple(), spec, self.images, self.epochs, self.seed)
        return Checked(space, settings, plan, workplace, notes, training)

    @property
    def workplace(self) -> Workplace:
        """Where the trials are to be trained. Raises WorkerError."""
        return Workplace(
            self.executor,
            self.workers,
            self.device,
            self.hang_limit,
            self.ray_address,
            self.job_cpus,
            self.job_gpus,
        )

    def place(self, space: SearchSpace) -> StudyPlace:
        """Where the study is or will be. Raises StudyError for a name that is no plain folder name."""
        return place(self.study or f"{self._subject(space)}-{self.budget}", self.storage, self.root)

    def _with_data(self, space: SearchSpace, spec: str) -> tuple[SearchSpace, tuple[str, ...], Fingerprint | None]:
        """The space for the data, which can be read and is of the form that the space is for; what is to be said of
        both; and what the images are, where they are somebody's own. Raises DataError."""
        data = load(spec, image_shape=space.input)
        training = None if known_name(spec) else data.training().fingerprint()
        fitting = followed(space, data)
        if known_name(spec) != "mnist":
            check_enough(data)
        if spec == space.data or self.space not in space_names():  # somebody has chosen its batches for the data
            return fitting, data.notes, training
        fitting, notes = with_smaller_batches(fitting, data, self.images)
        return fitting, (*data.notes, *notes), training

    def _subject(self, space: SearchSpace) -> str:
        """What a study is called after: its space, or the data where that is all that was chosen."""
        if self.space != DEFAULT_SPACE or self.data in (None, space.data):
            return space.name
        return plain_name(str(self.data))


def _taught(space: SearchSpace, data: str) -> SearchSpace:
    """The space with its teachers' files pinned by their SHA-256.

    Raises RecipeError where one is not there, or has seen the images of ``data`` that validate, ModelError where it is
    no file of weights.
    """
    teachers = space.recipe.get("teacher")
    if teachers is None:
        return space
    assert space.input is not None
    assert space.classes is not None
    pinned = tuple(named_in_full(str(spec)) for spec in teachers.ends())
    for spec in pinned:
        check_teacher(spec, space.input, space.classes, data)
    full = dict(zip(map(str, teachers.ends()), pinned, strict=True))
    starts = tuple({n: full.get(str(v), v) if n == "teacher" else v for n, v in start.items()} for start in space.start)
    return space.model_copy(update={"recipe": {**space.recipe, "teacher": Dimension(pinned)}, "start": starts})


def check_seed(seed: int) -> None:
    """Raise StudyError unless every generator that a seed is given to can take it, a trial's number added."""
    if not 0 <= seed < 2**31:
        raise StudyError(f"--seed must be between 0 and {2**31 - 1}, but got {seed}")


def _at_least(option: str, value: int, least: int) -> None:
    if value < least:
        raise StudyError(f"{option} must be at least {least}, but got {value}")


def plain_name(data: str) -> str:
    """A data set's name as a folder may be called: ``cifar10``, ``my_images`` of ``/data/my images/``."""
    name = known_name(data)
    if name is None:
        path = expanded(data).resolve()
        name = path.stem if path.is_file() else path.name
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("._-")[:80] or "data"


# --- pruners ---------------------------------------------------------------------------------------------


PRUNERS: dict[str, Callable[[int], BasePruner]] = {
    "median": lambda epochs: MedianPruner(n_startup_trials=4, n_warmup_steps=epochs // 5),
    "percentile": lambda epochs: PercentilePruner(25.0, n_startup_trials=5, n_warmup_steps=epochs // 3),
    "hyperband": lambda epochs: HyperbandPruner(1, _counted_right(epochs, 3), reduction_factor=3),
    "halving": lambda epochs: SuccessiveHalvingPruner(max(1, round(2 / 15 * epochs)), reduction_factor=2),
    "none": lambda epochs: NopPruner(),
}


def _counted_right(epochs: int, factor: int) -> int:
    """``epochs``, or one more where Optuna would lose a bracket: it counts them by a logarithm, and log(243, 3) is
    4.999…; the number is used for nothing else."""
    brackets = next(power for power in count() if factor ** (power + 1) > epochs)
    return epochs if floor(log(epochs, factor)) == brackets else epochs + 1


def make_pruner(name: str, epochs: int) -> BasePruner:
    """An Optuna pruner by name, set for curves of ``epochs`` epochs."""
    return PRUNERS[name](epochs)
