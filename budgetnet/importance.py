"""Which hyperparameters mattered in a study, each with the spread of the estimate and with what chance alone gives.

PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023; conditional hyperparameters as in Optuna 5) asks how differently the
best quarter of the trials has drawn a hyperparameter. Its spread is that over resampled trials; chance is what remains
when the trials' ranks are shuffled, so that nothing can matter.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from budgetnet.study import Study, storage_errors

LEAST = 12  # trained trials; the best quarter of fewer says nothing
BEST_SHARE = 0.25
RESAMPLES = 40
SPREAD = (10, 90)  # percentiles over the resamples
CHANCE = 95  # percentile over the shuffles


@dataclass(frozen=True)
class Importance:
    """How much a hyperparameter mattered, as a share of the sum over all.

    low, high: 80 % of resampled studies lie between, each a share of its own sum. chance: 95 % of shuffled studies lie
    below, measured in this study's sum, so that of a study in which little mattered it can pass 1.
    """

    name: str
    share: float
    low: float
    high: float
    chance: float

    @property
    def beyond_chance(self) -> bool:
        return self.share > self.chance


def importances(study: Study) -> list[Importance]:
    """The largest first; empty where fewer than LEAST trials have trained, or all of them came equally far."""
    with storage_errors(study.where):
        trials = [trial for trial in study.inner.get_trials(deepcopy=False) if _trained(trial)]
    ranks = ranks_of(trials)
    if len(trials) < LEAST or len(set(ranks)) < 2 or not any(_open(trial) for trial in trials):
        return []
    found = _ped_anova(trials, ranks)
    whole = sum(found.values())
    if whole <= 0:
        return []
    generator = np.random.default_rng(0)
    size = len(trials)
    resampled = [
        _shares(_ped_anova([trials[i] for i in drawn], [ranks[i] for i in drawn]))
        for drawn in (generator.integers(0, size, size) for _ in range(RESAMPLES))
    ]
    shuffled = [
        _shares(_ped_anova(trials, [ranks[i] for i in generator.permutation(size)]), whole) for _ in range(RESAMPLES)
    ]

    def percentile(of: Sequence[Mapping[str, float]], name: str, q: float) -> float:
        return float(np.percentile([one.get(name, 0.0) for one in of], q))

    return [
        Importance(
            name,
            value / whole,
            percentile(resampled, name, SPREAD[0]),
            percentile(resampled, name, SPREAD[1]),
            percentile(shuffled, name, CHANCE),
        )
        for name, value in found.items()
    ]


def _shares(found: Mapping[str, float], whole: float | None = None) -> dict[str, float]:
    """Each as a share of ``whole``, by default of their sum; nothing of nothing."""
    whole = sum(found.values()) if whole is None else whole
    return {name: value / whole for name, value in found.items()} if whole > 0 else {}


def _trained(trial: FrozenTrial) -> bool:
    trained = trial.user_attrs.get("state") is None and trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return trained and bool(trial.intermediate_values)


def ranks_of(trials: Sequence[FrozenTrial]) -> list[float]:
    """Trials by how far they came, and by validation accuracy among those that came as far: pruning is a verdict."""
    keys = [
        (len(trial.intermediate_values), trial.value if trial.value is not None else _last(trial)) for trial in trials
    ]
    order = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return [float(order[key]) for key in keys]


def _last(trial: FrozenTrial) -> float:
    return trial.intermediate_values[max(trial.intermediate_values)]


def _open(trial: FrozenTrial) -> dict[str, BaseDistribution]:
    """The distributions that leave a choice."""
    return {name: each for name, each in trial.distributions.items() if not each.single()}


def _ped_anova(trials: Sequence[FrozenTrial], ranks: Sequence[float]) -> dict[str, float]:
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        create_trial(params={name: trial.params[name] for name in _open(trial)}, distributions=_open(trial), value=rank)
        for trial, rank in zip(trials, ranks, strict=True)
    )
    evaluator = PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of normalize
        warnings.filterwarnings("ignore", "PedAnovaImportanceEvaluator computes", UserWarning)  # low is good: it is
        warnings.filterwarnings("ignore", "Target and region quantiles select", UserWarning)  # of a resample of equals
        warnings.filterwarnings("ignore", "Some regimes for parameter", UserWarning)  # too few trials: the spread tells
        return get_param_importances(
            study, evaluator=evaluator, target=lambda trial: -(trial.value or 0.0), normalize=False
        )
