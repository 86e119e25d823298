"""The samplers: Optuna's own proposals while a study is small, and no slower ones when it is large."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.trial import Trial, TrialState

from budgetnet import samplers
from budgetnet.samplers import KEPT, MEMORY, STARTUP, Forgetting, make_sampler


def draw(trial: Trial) -> float:
    """Two parameters, and a third on some of the way."""
    x = trial.suggest_float("x", 1e-3, 1.0, log=True)
    kind = trial.suggest_categorical("kind", ("a", "b"))
    depth = trial.suggest_int("depth", 1, 9) if kind == "a" else 4
    return -abs(x - 0.1) - abs(depth - 5) / 10


def run(sampler: optuna.samplers.BaseSampler, trials: int, **options: Any) -> optuna.Study:
    """Some trials rejected, some pruned after an epoch, the rest finished."""
    study = optuna.create_study(direction="maximize", sampler=sampler, **options)
    for number in range(trials):
        trial = study.ask()
        value = draw(trial)
        if number % 7 == 3:
            trial.set_constraint("too large", 1.0)
            study.tell(trial, state=TrialState.PRUNED)
        elif number % 3 == 1:
            trial.report(value, 1)
            trial.should_prune()
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, value)
    return study


def test_a_study_within_memory_gets_the_proposals_of_optunas_own_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "STARTUP", 0)
    own = TPESampler(seed=3, n_startup_trials=0, multivariate=True, constant_liar=False)
    theirs, ours = run(own, MEMORY - 30), run(make_sampler("tpe", 3), MEMORY - 30)
    assert [trial.params for trial in ours.trials] == [trial.params for trial in theirs.trials]


def test_tpe_is_shown_the_best_and_the_latest_of_a_long_study() -> None:
    sampler = make_sampler("tpe", 0)
    assert isinstance(sampler, Forgetting)
    study = run(sampler, 3 * MEMORY)
    study.ask()
    assert sampler._study is not None
    shown = sampler._study.get_trials(deepcopy=False)
    ended = study.get_trials(deepcopy=False)[:-1]
    assert KEPT <= len(shown) <= MEMORY
    assert [trial.params for trial in shown[-60:]] == [trial.params for trial in ended[-60:]]
    finished = sorted((t for t in ended if t.state == TrialState.COMPLETE), key=lambda t: -t.values[0])
    best = [trial.values[0] for trial in finished[:12]]
    assert set(best) <= {trial.values[0] for trial in shown if trial.state == TrialState.COMPLETE}
    assert any(trial.constraints for trial in shown)


def test_a_search_that_goes_on_shows_all_that_memory_holds() -> None:
    study = run(make_sampler("tpe", 0), MEMORY - 20)
    study.sampler = sampler = make_sampler("tpe", 1)
    study.ask()
    assert isinstance(sampler, Forgetting)
    assert sampler._study is not None
    assert len(sampler._study.get_trials(deepcopy=False)) == MEMORY - 20 > KEPT


@pytest.mark.parametrize("pruner", [optuna.pruners.HyperbandPruner(1, 9), optuna.pruners.NopPruner()])
def test_what_is_shown_is_what_the_pruner_lets_a_trial_see(pruner: optuna.pruners.BasePruner) -> None:
    """Hyperband parts the study into brackets."""
    sampler = make_sampler("tpe", 0)
    assert isinstance(sampler, Forgetting)
    wanted: list[int] = []
    shown: list[int] = []
    before = sampler.before_trial

    def noted(study: Any, trial: Any) -> None:
        before(study, trial)
        if sampler._study is not None:
            wanted.append(len(study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))))
            shown.append(len(sampler._study.trials))

    sampler.before_trial = noted  # type: ignore[method-assign]
    run(sampler, 60, pruner=pruner, study_name="parted")
    assert wanted
    assert shown == wanted
    parted = any(later < earlier for earlier, later in pairwise(wanted))
    assert parted == isinstance(pruner, optuna.pruners.HyperbandPruner)


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_the_learner_begins_when_enough_trials_have_finished(name: str) -> None:
    random, sampler = make_sampler("random", 5), make_sampler(name, 5)
    ends: list[Callable[[Trial], dict[str, Any]]] = [
        lambda trial: {"values": draw(trial)},
        lambda trial: {"state": TrialState.PRUNED},
    ]
    studies = [optuna.create_study(direction="maximize", sampler=each) for each in (random, sampler)]
    for number in range(2 * STARTUP + 3):
        for study in studies:
            trial = study.ask()
            value = draw(trial)
            trial.report(value, 1)
            study.tell(trial, **ends[number % 2](trial))
    theirs, ours = ([trial.params for trial in study.trials] for study in studies)
    assert ours[: 2 * STARTUP - 1] == theirs[: 2 * STARTUP - 1]
    assert ours[2 * STARTUP :] != theirs[2 * STARTUP :]
