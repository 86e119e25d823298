"""Samplers by name: Optuna's, after a random start that only finished trials end, and with a bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

STARTUP = 5  # random trials that must have finished before a sampler learns
MEMORY = 150  # trials that TPE looks at, at most
KEPT = 100  # of them when it would be more: the best finished ones, and the latest
BEST = 25  # as many as Optuna's TPE takes for good at most

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class AfterStartUp(BaseSampler):
    """Random until ``STARTUP`` trials have *finished*, then the sampler that learns.

    Optuna's samplers count pruned trials as well, and a rejected candidate is told as pruned: where most proposals are
    rejected, a sampler would begin to learn from failures alone.
    """

    def __init__(self, learner: BaseSampler, seed: int) -> None:
        self._learner, self._random = learner, RandomSampler(seed=seed)
        self._now: BaseSampler = self._random

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """See BaseSampler."""
        if self._now is self._random:
            finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            self._now = self._learner if len(finished) >= STARTUP else self._random

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """See BaseSampler."""
        return self._now.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See BaseSampler."""
        return self._now.sample_relative(study, trial, search_space)

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """See BaseSampler."""
        return self._now.sample_independent(study, trial, name, distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """See BaseSampler."""
        self._learner.after_trial(study, trial, state, values)


class Forgetting(AfterStartUp):
    """Shows the learner at most ``MEMORY`` trials: all of a small study; of a long one the best and the latest.

    TPE goes through all trials for every group of parameters that it draws, so that each proposal would take longer
    than the one before. Up to ``MEMORY`` trials the proposals are the learner's own. Running trials are not shown, so
    the learner can take no account of them ("constant liar"); an equal proposal is answered from the record anyway.
    """

    def __init__(self, learner: BaseSampler, seed: int) -> None:
        super().__init__(learner, seed)
        self._storage = InMemoryStorage()
        self._shown: set[int] = set()  # numbers of the trials that the learner was shown, or that it was not worth it
        self._study: Study | None = None

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Bring what the learner is shown up to date."""
        super().before_trial(study, trial)
        if self._now is not self._learner:
            return
        ended = study.get_trials(deepcopy=False, states=ENDED)
        numbers = {each.number for each in ended}
        new = [each for each in ended if each.number not in self._shown]
        gone = not self._shown <= numbers  # a pruner that parts the study shows another part
        if self._study is None or gone or len(self._study.get_trials(deepcopy=False)) + len(new) > MEMORY:
            self._study, new = None, list(ended) if len(ended) <= MEMORY else _worth_keeping(ended)
        self._study = self._view(self._study is None)
        self._study.add_trials([_essence(each) for each in new])
        self._shown = numbers

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """See BaseSampler."""
        return super().infer_relative_search_space(self._study or study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See BaseSampler."""
        return super().sample_relative(self._study or study, trial, search_space)

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """See BaseSampler."""
        return super().sample_independent(self._study or study, trial, name, distribution)

    def _view(self, empty: bool) -> Study:
        """A study to show, with what it had or empty; a new object each time, for a Study caches its trials."""
        if empty:
            self._storage = InMemoryStorage()
            return optuna.create_study(study_name="shown", storage=self._storage, direction=StudyDirection.MAXIMIZE)
        return optuna.load_study(study_name="shown", storage=self._storage)


def _worth_keeping(ended: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """KEPT of many: the best finished ones and the latest, in the order of their numbers."""
    finished = [each for each in ended if each.state == TrialState.COMPLETE]
    best = sorted(finished, key=lambda each: each.values[0], reverse=True)[:BEST]
    kept = {each.number: each for each in (*best, *ended[BEST - KEPT :])}
    return [kept[number] for number in sorted(kept)]


def _essence(trial: FrozenTrial) -> FrozenTrial:
    """What TPE reads of a trial."""
    return create_trial(
        state=trial.state,
        values=trial.values,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=dict(sorted(trial.intermediate_values.items())[-1:]),
        constraints=trial.constraints,
    )


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {  # by a seed
    "tpe": lambda seed: Forgetting(
        TPESampler(seed=seed, n_startup_trials=0, multivariate=True, constant_liar=False), seed
    ),
    "gp": lambda seed: AfterStartUp(GPSampler(seed=seed, n_startup_trials=0), seed),
    "random": lambda seed: RandomSampler(seed=seed),
}


def make_sampler(name: str, seed: int) -> BaseSampler:
    """An Optuna sampler by name; one that learns begins after random start-up trials."""
    return SAMPLERS[name](seed)
