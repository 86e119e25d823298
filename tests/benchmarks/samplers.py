"""Which sampler and which pruner should be the default: searches replayed on recorded candidates.

    python tests/benchmarks/samplers.py [--repetitions 40] [--curves studies/landscape/curves.csv]

The table holds candidates of the space ``mnist`` under 8,000 params, drawn at random and trained to the end. A search
is replayed on it: a sampler proposes, the nearest candidate that this search has not had yet (Gower's distance over
what was drawn) takes the proposal's place, the sampler is told that candidate's own parameters, and its curve is paid
for epoch by epoch while the pruner lets it live. A proposal that cannot be trained is rejected and told as in a search.
A repetition has a pool of its own, a random three quarters of the table, and the same random start-up for all samplers.
As the nearest candidate blunts what a sampler wants, "choosing" takes the candidate of the pool that the sampler's own
criterion puts first: l/g of TPE, expected improvement of the GP.

Expected beforehand, with 50 curves recorded and none replayed:
- The pruner matters more than the sampler: the median is within 0.05 points of the best in half the epochs that no
  pruner needs; Hyperband and halving come close and lose the best more often, since epoch 1 says next to nothing.
- Samplers differ by less than 0.02 points at 150 epochs, within two standard errors; fewer start-up trials help little.
- Leave-one-out: TPE 0.2, GP 0.3, ridge on features 0.5. Accuracy at epoch 3 with the final value: 0.6, at epoch 8 0.85.
- Stopping what cannot reach the best any more saves less than the median (40 %) and never loses the best.

Came out (--repetitions 20; some of random's rows left out):

    64 candidates, 15 epochs; eight in ten end between 98.49 and 99.09 %, the best at 99.173 %
    rank correlation with the final value, by epoch:
           1     2     3     4     5     6     7     8     9    10    11    12    13    14
        0.49  0.51  0.53  0.50  0.58  0.56  0.52  0.65  0.74  0.76  0.89  0.87  0.99  0.99

    rank correlation of what a sampler thinks of unseen candidates with their final values, 20 splits
    criterion             after 10      after 20      after 40   leave one out
    tpe                0.09 ± 0.03   0.17 ± 0.03   0.05 ± 0.04           -0.05
    univariate         0.09 ± 0.04   0.24 ± 0.04   0.23 ± 0.05            0.29
    gp                 0.21 ± 0.04   0.50 ± 0.04   0.62 ± 0.03            0.65
    ridge              0.31 ± 0.02   0.39 ± 0.03   0.59 ± 0.04            0.68

    pruners, random order to the end of the pool, 20 repetitions
    pruner           epochs saved  best survives  regret in the end  95th pct
    median                   62%            80%       0.007 ± 0.003     0.033
    percentile               54%            65%       0.011 ± 0.003     0.033
    hyperband                61%            85%       0.005 ± 0.003     0.033
    halving                  56%            75%       0.008 ± 0.003     0.033
    none                      0%           100%       0.000 ± 0.000     0.000
    median from 2            68%            80%       0.007 ± 0.003     0.033
    median from 8            35%            95%       0.002 ± 0.002     0.002
    halving from 1           78%            70%       0.009 ± 0.003     0.033
    halving from 2           65%            95%       0.001 ± 0.001     0.001
    thirds from 2            69%            65%       0.011 ± 0.003     0.033
    reach                    67%            75%       0.008 ± 0.003     0.034
    reach of 0.9             71%            65%       0.011 ± 0.003     0.037

    searches: regret in points of accuracy after so many epochs; area: mean regret over the first 300;
    Δ area: paired difference to tpe after 10 finished + median; close: epochs until within 0.05 of the best
    sampler               pruner           n     75    150    300    450    600    area          Δ area     close
    tpe after 10 finished median          20  0.101  0.041  0.012  0.007  0.007   0.111  +0.000 ± 0.000   119 ± 2
    tpe after 10 finished none            20  0.100  0.054  0.033  0.025  0.012   0.122  +0.011 ± 0.003   182 ± 3
    tpe after 10 finished hyperband       20  0.093  0.037  0.014  0.005  0.005   0.104  -0.007 ± 0.003   100 ± 1
    tpe after 10 finished halving from 2  20  0.070  0.026  0.001  0.001  0.001   0.098  -0.013 ± 0.004    90 ± 1
    random                median          20  0.101  0.041  0.013  0.007  0.007   0.111  -0.000 ± 0.000   117 ± 2
    random                hyperband       20  0.093  0.037  0.014  0.005  0.005   0.104  -0.007 ± 0.003   100 ± 1
    random                none            20  0.100  0.054  0.030  0.022  0.013   0.122  +0.011 ± 0.003   173 ± 4
    random                halving from 2  20  0.070  0.026  0.006  0.001  0.001   0.099  -0.012 ± 0.004    91 ± 1
    tpe                   none            20  0.100  0.054  0.033  0.025  0.012   0.122  +0.011 ± 0.003   182 ± 3
    tpe                   median          20  0.101  0.038  0.011  0.007  0.007   0.108  -0.003 ± 0.002   102 ± 1
    tpe                   hyperband       20  0.093  0.037  0.011  0.008  0.008   0.104  -0.007 ± 0.003    98 ± 1
    tpe                   halving from 2  20  0.070  0.027  0.003  0.003  0.003   0.097  -0.014 ± 0.005    85 ± 1
    tpe after 5           none            20  0.100  0.046  0.030  0.015  0.010   0.121  +0.010 ± 0.007   140 ± 3
    tpe after 5           median          20  0.101  0.039  0.010  0.005  0.005   0.109  -0.002 ± 0.005    98 ± 1
    tpe after 5           hyperband       20  0.093  0.034  0.008  0.008  0.008   0.103  -0.007 ± 0.003    92 ± 1
    tpe after 5           halving from 2  20  0.081  0.030  0.005  0.005  0.005   0.099  -0.012 ± 0.005    93 ± 1
    univariate tpe        none            20  0.100  0.054  0.027  0.016  0.010   0.119  +0.009 ± 0.003   146 ± 2
    univariate tpe        median          20  0.101  0.028  0.010  0.007  0.007   0.107  -0.004 ± 0.002   100 ± 1
    univariate tpe        hyperband       20  0.093  0.037  0.016  0.011  0.011   0.106  -0.005 ± 0.003    99 ± 1
    univariate tpe        halving from 2  20  0.070  0.027  0.008  0.008  0.008   0.098  -0.013 ± 0.005    87 ± 1

    and later, against random with halving from 2 (lift: the ten candidates after the start-up against the pool's mean):
  sampler               pruner  n     75    150    300    450    600   area         Δ area    close           lift
  random                halving 20  0.070  0.026  0.006  0.001  0.001  0.099   +0.000 ± 0.000  91 ± 18 +0.017 ± 0.014
  univariate tpe        halving 20  0.070  0.027  0.008  0.008  0.008  0.098   -0.001 ± 0.003  87 ± 15 +0.013 ± 0.014
  tpe ungrouped         halving 20  0.070  0.032  0.003  0.003  0.003  0.098   -0.001 ± 0.002  90 ± 15 +0.008 ± 0.010
  ungrouped, 5 finished halving 20  0.070  0.026  0.008  0.005  0.005  0.098   -0.001 ± 0.002  87 ± 16 +0.011 ± 0.012
  tpe, choosing         halving 20  0.070  0.020  0.005  0.005  0.005  0.098   -0.001 ± 0.004  84 ± 13 +0.020 ± 0.013
  univariate, choosing  halving 20  0.070  0.034  0.006  0.006  0.006  0.100   +0.001 ± 0.003  98 ± 18 +0.021 ± 0.016
  gp, choosing          halving 20  0.070  0.034  0.006  0.005  0.005  0.098   -0.000 ± 0.003  87 ± 14 +0.016 ± 0.016

Chosen: successive halving from epoch 2 by factor 2, for it saves the most of those that keep the best, and its area is
0.012 ± 0.004 points below the median's with the random sampler and as much with TPE. Chosen: TPE as Optuna 5 has it by
default, multivariate without groups, after five finished trials, for no sampler's area differs from random's by more
than two standard errors, and this one costs least (coordinator.py).
The GP ranks unseen candidates far better when 40 have been trained to the end (0.62), but even where it may choose from
the table it finds nothing sooner: after halving it has a handful of finished trials to learn from. Its proposals take
minutes a search (five for one replay; three of twenty were run), so it is no default.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from math import ceil, log, nan
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import numpy as np
import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, MedianPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.samplers._tpe.sampler import _split_trials, default_gamma
from optuna.study import Study
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial
from scipy.stats import spearmanr

from budgetnet.candidates import Candidate, Rejection, draw
from budgetnet.cost import cost
from budgetnet.dimension import RandomDraw
from budgetnet.fields import extent, feature_field
from budgetnet.plan import PRUNERS, make_pruner
from budgetnet.space_files import load_space
from budgetnet.study import VALUE_EPOCHS, Settings

CURVES = Path(__file__).parents[2] / "studies" / "landscape" / "curves.csv"
EPOCHS = 15
SPACE = load_space("mnist")
SETTINGS = Settings(SPACE.to_plain(), 8000, None, None, "mnist", 20_000, EPOCHS, 1)
CHECKPOINTS = (75, 150, 300, 450, 600)  # epochs spent
AREA = 300  # epochs over which regret is averaged
POOL = 0.75  # share of the table that a repetition can find
CLOSE = 0.05  # points below the best of the pool: what one seed cannot tell from it
AFTER = 10  # candidates after the start-up whose mean final value is the sampler's "lift"
NEVER = 10**9
HEADS = "".join(f"{epochs:>7}" for epochs in CHECKPOINTS) + f"{'area':>7}{'against first':>17}{'close':>9}"
COMPLETE, PRUNED = (TrialState.COMPLETE,), (TrialState.COMPLETE, TrialState.PRUNED)

Params = dict[str, Any]


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Recorded candidates: what was drawn, the same as numbers, features of the network, and the whole curve."""

    drawn: list[Params]
    distributions: dict[str, BaseDistribution]
    rows: np.ndarray  # candidates × parameters, 0 to 1 or the number of the choice; NaN where there was nothing to draw
    features: np.ndarray
    curves: np.ndarray  # candidates × epochs, validation accuracy

    @property
    def values(self) -> np.ndarray:
        """Final values, as the search defines them."""
        return self.curves[:, -VALUE_EPOCHS:].mean(1)

    def distances(self, drawn: Params) -> np.ndarray:
        """Gower's, to every candidate: the mean over parameters that either side has; 1 where one side has none."""
        row = as_numbers(drawn, self.distributions)
        chosen = np.array([isinstance(d, CategoricalDistribution) for d in self.distributions.values()])
        here, there = np.isnan(self.rows), np.isnan(row)
        apart = np.where(here | there, 1.0, np.where(chosen, self.rows != row, np.abs(self.rows - row)))
        return np.where(here & there, 0.0, apart).sum(1) / (~(here & there)).sum(1)

    def complete(self, drawn: Params) -> Params:
        """With the lowest value of what there was nothing to draw for."""
        return {
            name: drawn.get(name, d.choices[0] if isinstance(d, CategoricalDistribution) else d.low)  # type: ignore[attr-defined]
            for name, d in self.distributions.items()
        }


def read_table(path: Path) -> Table:
    """The finished trials of ``budgetnet trials --all --csv``."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["state"] == "finished"]
    drawn = [json.loads(row["drawn"]) for row in rows]
    distributions = {name: d for params in drawn for name, d in distributions_of(params).items()}
    return Table(
        drawn,
        distributions,
        np.array([as_numbers(params, distributions) for params in drawn]),
        np.array([features(params) for params in drawn]),
        np.array([[float(accuracy) for accuracy in row["curve"].split()] for row in rows]),
    )


def distributions_of(drawn: Params) -> dict[str, BaseDistribution]:
    """What Optuna was asked for these."""
    SPACE.sample(trial := FixedTrial(drawn))
    return trial.distributions


def as_numbers(drawn: Params, distributions: dict[str, BaseDistribution]) -> np.ndarray:
    """A range from 0 to 1, by its logarithm where the space says so; the number of a choice; NaN for nothing."""
    return np.array([_number(drawn[name], d) if name in drawn else nan for name, d in distributions.items()])


def _number(value: Any, distribution: BaseDistribution) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.to_internal_repr(value)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    return log(value / low) / log(high / low) if distribution.log else (value - low) / (high - low)


def features(drawn: Params) -> list[float]:
    """The recipe, the shape, and what follows from it: depth, cost, receptive field, last map."""
    candidate = draw(SPACE, SETTINGS, FixedTrial(drawn))
    assert isinstance(candidate, Candidate)
    network, recipe = candidate.architecture, candidate.recipe
    counted, (shape, seen) = cost(network), feature_field(network)
    kinds = [block.kind for block in network.blocks]
    return [
        log(recipe.learning_rate), log(recipe.batch_size), log(recipe.weight_decay), recipe.rotation, recipe.scale,
        recipe.shift, recipe.shear, recipe.label_smoothing, recipe.ema > 0, recipe.ema > 0.997, drawn["dropout"],
        drawn["fill"], drawn["stem.width"], drawn["stem.kernel"] == "5x5", drawn.get("stage2.squeeze", 0.0) > 0,
        *(float(drawn.get(f"stage{n}.{what}", 0)) for n in (1, 2, 3) for what in ("width", "depth")),
        *(float(drawn.get(f"{place}.padding") == "valid") for place in ("stem", "stage1", "stage2", "stage3")),
        *(float(drawn.get(f"stage{n}.downsample") == "stride") for n in (2, 3)),
        "residual" in kinds, kinds.count("separable"), len(kinds), log(counted.macs), log(counted.peak_activations),
        log(min(extent(seen))), log(shape[1]), network.blocks[-1].width, max(block.width for block in network.blocks),
    ]  # fmt: skip


# --- from proposals to the table --------------------------------------------------------------------------------------


class Draw:
    """A trial that is none: ``answer`` says what is drawn, and ``params`` what was."""

    def __init__(self, answer: Callable[[str, BaseDistribution], Any]) -> None:
        self._answer = answer
        self.params: Params = {}

    def _once(self, name: str, distribution: BaseDistribution) -> Any:
        if name not in self.params:
            self.params[name] = self._answer(name, distribution)
        return self.params[name]

    def suggest_categorical(self, name: str, choices: Any, /) -> Any:
        return self._once(name, CategoricalDistribution(choices))

    def suggest_int(self, name: str, low: int, high: int, /, *, step: int = 1, log: bool = False) -> Any:
        return self._once(name, IntDistribution(low, high, log, step))

    def suggest_float(self, name: str, low: float, high: float, /, *, step: Any = None, log: bool = False) -> Any:
        return self._once(name, FloatDistribution(low, high, log, step))


def is_trainable(trial: Any) -> bool:
    """Whether what the trial suggests may be trained; all of it is then drawn."""
    return isinstance(draw(SPACE, SETTINGS, trial), Candidate)


@cache
def at_random(seed: int) -> tuple[Params, bool]:
    """A random draw, and whether it can be trained."""
    trial = RandomDraw(seed)
    return trial.params, is_trainable(trial)


class Scores:
    """A sampler that says what it thinks of candidates of the table instead of proposing: mixed into Optuna's."""

    table: Table

    def scores(self, study: Study, trial: FrozenTrial, among: np.ndarray) -> np.ndarray:
        """Higher is better."""
        raise NotImplementedError


class FromTable(BaseSampler):
    """Asks a sampler, and gives a candidate of the pool that was not given yet. Random until ``ready``.

    pick: the candidate's number in the table, or None when the proposal cannot be trained. learns: no longer random.
    """

    def __init__(self, table: Table, pool: np.ndarray, contender: Contender, seed: int) -> None:
        self._table, self._contender, self._seed = table, contender, seed
        self._learner = contender.make(table, seed)
        self.left = np.isin(np.arange(len(table.drawn)), pool)
        self.pick: int | None = None
        self.learns = False

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._table.distributions

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: object) -> Params:
        self.learns = self.learns or self._contender.is_ready(study)  # Hyperband shows the trial's bracket alone
        if self.learns and isinstance(self._learner, Scores):
            among = np.flatnonzero(self.left)
            self.pick = int(among[self._learner.scores(study, trial, among).argmax()])
        else:
            params, trainable = self._propose(study, trial)
            if not trainable:
                self.pick = None
                return params
            self.pick = int(np.where(self.left, self._table.distances(params), np.inf).argmin())
        self.left[self.pick] = False
        return self._table.drawn[self.pick]

    def _propose(self, study: Study, trial: FrozenTrial) -> tuple[Params, bool]:
        if not self.learns or isinstance(self._learner, RandomSampler):
            return at_random(1000 * self._seed + trial.number)
        asked = proposal(self._learner, study, trial)
        return asked.params, is_trainable(asked)

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        raise AssertionError(f"{name} should have been drawn with the rest")


def proposal(sampler: BaseSampler, study: Study, trial: FrozenTrial) -> Draw:
    """What a sampler would draw for a trial, without the trial getting it."""
    relative = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
    alone = partial(sampler.sample_independent, study, trial)
    return Draw(lambda name, distribution: relative[name] if name in relative else alone(name, distribution))


# --- a search, replayed -----------------------------------------------------------------------------------------------


@dataclass
class Replay:
    """What a search did. finished: epochs spent and value of each. learnt: final values of what was chosen after the
    start-up, pruned or not."""

    best: float  # of the pool
    worst: float
    middle: float
    spent: int = 0
    trained: int = 0
    finished: list[tuple[int, float]] = field(default_factory=list)
    learnt: list[float] = field(default_factory=list)

    def regret(self, epochs: int = NEVER) -> float:
        """Points of accuracy between the best of the pool and the best finished."""
        return 100 * (self.best - max([self.worst, *(value for spent, value in self.finished if spent <= epochs)]))

    def area(self) -> float:
        """Mean regret over the first epochs."""
        return fmean(map(self.regret, range(1, AREA + 1)))

    def close(self) -> int:
        """Epochs until within CLOSE of the best; the last checkpoint where that was not reached."""
        enough = self.best - CLOSE / 100 - 1e-9
        return min([CHECKPOINTS[-1], *(spent for spent, value in self.finished if value >= enough)])

    def lift(self) -> float:
        """Points that the first candidates after the start-up are above the pool's mean; NaN if there were none."""
        return 100 * (fmean(self.learnt[:AFTER]) - self.middle) if self.learnt else nan

    def is_settled(self) -> bool:
        """Whether nothing that is printed can change any more."""
        found = bool(self.finished) and max(value for _, value in self.finished) == self.best
        return self.spent >= CHECKPOINTS[-1] or (found and len(self.learnt) >= AFTER)


def replay(table: Table, contender: Contender, pruner: BasePruner, seed: int, *, to_the_end: bool = False) -> Replay:
    """One search, until nothing more can change; ``to_the_end``: until the pool is empty."""
    pool = np.random.default_rng(seed).permutation(len(table.drawn))[: ceil(POOL * len(table.drawn))]
    values = table.values[pool]
    sampler, result = FromTable(table, pool, contender, seed), Replay(values.max(), values.min(), values.mean())
    study = optuna.create_study(study_name=f"replay-{seed}", direction="maximize", sampler=sampler, pruner=pruner)
    while sampler.left.any() and (to_the_end or not result.is_settled()):
        trial = study.ask()
        drawn = draw(SPACE, SETTINGS, trial)
        if sampler.pick is None:
            assert isinstance(drawn, Rejection)
            trial.set_constraint(drawn.kind, 1.0)
            study.tell(trial, state=TrialState.PRUNED)
            continue
        trial.set_user_attr("pick", sampler.pick)
        train(study, trial, table.curves[sampler.pick], result)
        if sampler.learns:
            result.learnt.append(table.values[sampler.pick])
    return result


def train(study: Study, trial: optuna.Trial, curve: np.ndarray, result: Replay) -> None:
    """Pay for the curve, epoch by epoch, as far as the pruner lets it."""
    result.trained += 1
    for epoch, accuracy in enumerate(map(float, curve), 1):
        result.spent += 1
        trial.report(accuracy, epoch)
        if epoch < len(curve) and trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return
    value = float(curve[-VALUE_EPOCHS:].mean())
    study.tell(trial, value)
    result.finished.append((result.spent, value))


# --- contenders -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    """A sampler, and how many trials it begins after: trained ones, or ones that must have finished."""

    name: str
    make: Callable[[Table, int], BaseSampler | Scores]
    startup: int = 10
    finished: bool = False

    def is_ready(self, study: Study) -> bool:
        """Whether the start-up is over. A rejected trial never counts; learning needs three that have finished."""
        trials = [t for t in study.get_trials(deepcopy=False, states=PRUNED) if "pick" in t.user_attrs]
        finished = sum(t.state == TrialState.COMPLETE for t in trials)
        return finished >= self.startup if self.finished else len(trials) >= self.startup and finished >= 3


class Reach(BasePruner):
    """Stops a trial that could not beat the best with the greatest gain that finished trials made from this epoch on.

    A gain is the share of the error that went. ``quantile``: 0.9 takes the gain that nine in ten did not exceed.
    """

    def __init__(self, quantile: float = 1.0, startup: int = 4) -> None:
        self._quantile, self._startup = quantile, startup

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        finished, step = study.get_trials(deepcopy=False, states=COMPLETE), trial.last_step
        if len(finished) < self._startup or step is None:
            return False
        left = [(1 - t.values[0]) / (1 - t.intermediate_values[step]) for t in finished]
        least = float(np.quantile(left, 1 - self._quantile)) * (1 - trial.intermediate_values[step])
        return 1 - least < max(t.values[0] for t in finished)


class Evolution(BaseSampler):
    """One of the best five that finished, each of its choices drawn again with probability 0.15."""

    def __init__(self, seed: int, best: int = 5, rate: float = 0.15) -> None:
        self._random, self._fresh, self._best, self._rate = random.Random(seed), RandomSampler(seed), best, rate

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: object) -> Params:
        finished = study.get_trials(deepcopy=False, states=COMPLETE)
        parent = self._random.choice(sorted(finished, key=lambda t: -t.values[0])[: self._best])
        return {name: value for name, value in parent.params.items() if self._random.random() > self._rate}

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        return self._fresh.sample_independent(study, trial, name, distribution)


class TPEScores(TPESampler, Scores):
    """TPE that scores by l/g, summed over what it would sample together."""

    def __init__(self, table: Table, seed: int, *, together: bool) -> None:
        super().__init__(seed=seed, n_startup_trials=0, multivariate=together, group=together)
        self.table = table

    def scores(self, study: Study, trial: FrozenTrial, among: np.ndarray) -> np.ndarray:
        trials = study.get_trials(deepcopy=False, states=PRUNED)
        below, above = _split_trials(study, trials, default_gamma(len(trials)))
        total = np.zeros(len(among))
        for space in self._spaces(study, trial):
            has = [n for n, i in enumerate(among) if space.keys() <= self.table.drawn[i].keys()]
            if has:
                drawn = [self.table.drawn[i] for i in among[has]]
                asked = {name: np.array([d.to_internal_repr(p[name]) for p in drawn]) for name, d in space.items()}
                better, worse = (self._build_parzen_estimator(study, space, of, of is below) for of in (below, above))
                total[has] += self._compute_acquisition_func(asked, better, worse)
        return total

    def _spaces(self, study: Study, trial: FrozenTrial) -> list[dict[str, BaseDistribution]]:
        if not self._group:
            return [{name: distribution} for name, distribution in self.table.distributions.items()]
        self.infer_relative_search_space(study, trial)
        assert self._search_space_group is not None
        return [dict(sorted(space.items())) for space in self._search_space_group.search_spaces]


class GPScores(GPSampler, Scores):
    """The GP that scores by its expected improvement, or by the mean that it predicts."""

    def __init__(self, table: Table, seed: int, *, mean: bool = False) -> None:
        super().__init__(seed=seed, n_startup_trials=0, warn_independent_sampling=False)
        self.table, self._by_mean = table, mean

    def scores(self, study: Study, trial: FrozenTrial, among: np.ndarray) -> np.ndarray:
        self._among = [self.table.complete(self.table.drawn[i]) for i in among]
        self.sample_relative(study, trial, self.infer_relative_search_space(study, trial))
        return self._scores

    def _optimize_acqf(self, acqf: Any, best_params: Any) -> np.ndarray:
        rows = acqf.search_space.get_normalized_params(self._among, self._among)
        with torch.no_grad():
            mean = acqf._gpr.posterior(torch.from_numpy(rows))[0].numpy()
        self._scores = mean if self._by_mean else acqf.eval_acqf_no_grad(rows)
        return rows[0]


class Ridge(Scores):
    """Ridge regression of the log error on features of recipe and network, as strong as there are features.

    A pruned trial counts with the log error of its last epoch and the mean gain of the finished from there.
    """

    def __init__(self, table: Table) -> None:
        self.table = table

    def scores(self, study: Study, trial: FrozenTrial, among: np.ndarray) -> np.ndarray:
        known, errors = self._known(study)
        middle, scale = known.mean(0), known.std(0) + 1e-9
        x, asked = (known - middle) / scale, (self.table.features[among] - middle) / scale
        return -asked @ np.linalg.solve(x.T @ x + x.shape[1] * np.eye(x.shape[1]), x.T @ (errors - errors.mean()))

    def _known(self, study: Study) -> tuple[np.ndarray, np.ndarray]:
        trials = [t for t in study.get_trials(deepcopy=False, states=PRUNED) if "pick" in t.user_attrs]
        curves = self.table.curves[[t.user_attrs["pick"] for t in trials if t.state == TrialState.COMPLETE]]
        gains = np.log(1 - curves[:, -VALUE_EPOCHS:].mean(1, keepdims=True)) - np.log(1 - curves)
        errors = [
            log(1 - t.values[0]) if t.values else log(1 - t.intermediate_values[step]) + gains[:, step - 1].mean()
            for t, step in ((t, t.last_step or EPOCHS) for t in trials)
        ]
        return self.table.features[[t.user_attrs["pick"] for t in trials]], np.array(errors)


def tpe(table: Table, seed: int) -> BaseSampler:
    return TPESampler(seed=seed, n_startup_trials=0, multivariate=True, group=True)


def ungrouped(table: Table, seed: int) -> BaseSampler:
    """As in budgetnet.samplers."""
    return TPESampler(seed=seed, n_startup_trials=0, multivariate=True, constant_liar=False)


def univariate(table: Table, seed: int) -> BaseSampler:
    return TPESampler(seed=seed, n_startup_trials=0, multivariate=False)


def gp(table: Table, seed: int) -> BaseSampler:
    return GPSampler(seed=seed, n_startup_trials=0, warn_independent_sampling=False)


PRUNER: dict[str, Callable[[], BasePruner]] = {
    **{name: partial(make_pruner, name, EPOCHS) for name in PRUNERS},
    "median from 2": lambda: MedianPruner(n_startup_trials=4, n_warmup_steps=2),
    "median from 8": lambda: MedianPruner(n_startup_trials=4, n_warmup_steps=8),
    "halving from 1": lambda: SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    "halving from 2": lambda: SuccessiveHalvingPruner(min_resource=2, reduction_factor=2),
    "thirds from 2": lambda: SuccessiveHalvingPruner(min_resource=2, reduction_factor=3),
    "reach": Reach,
    "reach of 0.9": lambda: Reach(0.9),
}
RANDOM = Contender("random", lambda _, seed: RandomSampler(seed))
SCORERS: dict[str, Callable[[Table, int], Scores]] = {
    "tpe": partial(TPEScores, together=True),
    "univariate": partial(TPEScores, together=False),
    "gp": GPScores,
    "ridge": lambda table, _: Ridge(table),
}
CONTENDERS = [
    Contender("tpe after 10 finished", tpe, finished=True),  # with the median the default when this was written
    RANDOM,
    Contender("tpe", tpe),
    Contender("tpe after 5", tpe, startup=5),
    Contender("tpe ungrouped", ungrouped),
    Contender("ungrouped, 5 finished", ungrouped, startup=5, finished=True),
    Contender("univariate tpe", univariate),
    Contender("gp", gp),
    Contender("evolution", lambda _, seed: Evolution(seed)),
    *(Contender(f"{name}, choosing", make) for name, make in SCORERS.items()),
]
MEETS = ("median", "none", "hyperband", "halving from 2")  # pruners that every sampler meets


# --- what is printed --------------------------------------------------------------------------------------------------


def error(numbers: Sequence[float] | np.ndarray) -> float:
    """Standard error of the mean."""
    return float(np.std(numbers, ddof=1) / np.sqrt(len(numbers))) if len(numbers) > 1 else nan


def print_epochs(table: Table) -> None:
    """How early the final value shows."""
    ranks = [spearmanr(curve, table.values)[0] for curve in table.curves.T]
    low, high, best = 100 * np.quantile(table.values, (0.1, 0.9, 1))
    print(
        f"{len(table.drawn)} candidates, {EPOCHS} epochs; eight in ten end between {low:.2f} and {high:.2f} %, ", end=""
    )
    print(f"the best at {best:.3f} %")
    print("rank correlation with the final value, by epoch:")
    print("   " + " ".join(f"{epoch:>5}" for epoch in range(1, EPOCHS)))
    print("   " + " ".join(f"{rank:5.2f}" for rank in ranks[:-1]))


def print_pruners(table: Table, repetitions: int) -> None:
    """Each pruner over random orders of the whole pool."""
    print(
        f"\npruners: random orders, each to the end of its pool, n = {repetitions}; the end: regret of the whole order"
    )
    print(f"{'pruner':<16}{'saved':>7}{'best survives':>15}{'the end':>9}{'95 %':>7}{HEADS}")
    known: np.ndarray | None = None
    for name, make in PRUNER.items():
        runs = [replay(table, RANDOM, make(), seed, to_the_end=True) for seed in range(repetitions)]
        known = areas(runs) if known is None else known
        regrets, saved = [run.regret() for run in runs], fmean(1 - run.spent / (EPOCHS * run.trained) for run in runs)
        ends = f"{fmean(regrets):>9.3f}{np.quantile(regrets, 0.95):>7.3f}"
        survives = fmean(regret < 1e-9 for regret in regrets)
        print(f"{name:<16}{saved:>7.0%}{survives:>15.0%}{ends}{figures(runs, known)}", flush=True)


def print_searches(table: Table, repetitions: int, contenders: Sequence[Contender], pruners: Sequence[str]) -> None:
    """Samplers with pruners."""
    print(f"\nsearches; lift: the {AFTER} candidates after the start-up against the mean of the pool, in points")
    print(f"{'sampler':<22}{'pruner':<15}{'n':>3}{HEADS}{'lift':>15}")
    known: np.ndarray | None = None
    for contender in contenders:
        for pruner in pruners:
            runs = [replay(table, contender, PRUNER[pruner](), seed) for seed in range(repetitions)]
            known = areas(runs) if known is None else known
            lifts = np.array([run.lift() for run in runs if run.learnt])
            lift = f"{lifts.mean():+.3f} ± {error(lifts):.3f}" if len(lifts) > 1 else "–"
            print(f"{contender.name:<22}{pruner:<15}{repetitions:>3}{figures(runs, known)}{lift:>15}", flush=True)


def areas(runs: Sequence[Replay]) -> np.ndarray:
    return np.array([run.area() for run in runs])


def figures(runs: Sequence[Replay], known: np.ndarray) -> str:
    """What HEADS names; the difference in area is paired."""
    regrets = "".join(f"{fmean(run.regret(epochs) for run in runs):>7.3f}" for epochs in CHECKPOINTS)
    found, closes = areas(runs), [run.close() for run in runs]
    against = f"{(found - known[: len(runs)]).mean():+.3f} ± {error(found - known[: len(runs)]):.3f}"
    return f"{regrets}{found.mean():>7.3f}{against:>17}{f'{fmean(closes):.0f} ± {error(closes):.0f}':>9}"


def told(table: Table, picks: Sequence[int]) -> tuple[Study, FrozenTrial]:
    """A study in which these have finished, and its next trial."""
    study = optuna.create_study(direction="maximize", sampler=RandomSampler(0))
    for i in picks:
        params, curve = table.drawn[i], dict(enumerate(map(float, table.curves[i]), 1))
        study.add_trial(
            create_trial(
                params=params,
                distributions=distributions_of(params),
                intermediate_values=curve,
                value=float(table.values[i]),
                user_attrs={"pick": int(i)},
            )
        )
    study.ask()
    return study, study.get_trials(deepcopy=False)[-1]


def print_learning(table: Table, splits: int = 20, sizes: Sequence[int] = (10, 20, 40)) -> None:
    """Whether there is anything to learn: rank correlation of a sampler's criterion with unseen final values."""
    print(f"\nrank correlation of what a sampler thinks of unseen candidates with their final values, {splits} splits")
    print(f"{'criterion':<16}" + "".join(f"{f'after {size}':>14}" for size in sizes) + f"{'leave one out':>16}")
    for name, make in (SCORERS | {"gp": partial(GPScores, mean=True)}).items():
        ranks = np.array([[_unseen(table, make, size, seed) for seed in range(splits)] for size in sizes])
        shown = "".join(f"{row.mean():>7.2f} ± {error(row):.2f}" for row in ranks)
        print(f"{name:<16}{shown}{_leave_one_out(table, make):>16.2f}", flush=True)


def _unseen(table: Table, make: Callable[[Table, int], Scores], size: int, seed: int) -> float:
    order = np.random.default_rng(seed).permutation(len(table.drawn))
    seen, rest = order[:size], order[size:]
    return float(spearmanr(make(table, 0).scores(*told(table, seen), rest), table.values[rest])[0])


def _leave_one_out(table: Table, make: Callable[[Table, int], Scores]) -> float:
    everyone = np.arange(len(table.drawn))
    thought = [make(table, 0).scores(*told(table, np.delete(everyone, i)), everyone[i : i + 1])[0] for i in everyone]
    return float(spearmanr(thought, table.values)[0])


def print_costs(table: Table, sizes: Sequence[int] = (15, 60, 500)) -> None:
    """Milliseconds of a proposal, by the trials that the study has."""
    print("\nmilliseconds a proposal" + "".join(f"{f'at {size}':>10}" for size in sizes))
    for contender in CONTENDERS[2:]:
        sampler = contender.make(table, 0)
        if isinstance(sampler, Scores) or contender.finished or contender.startup < 10:
            continue
        print(f"{contender.name:<23}", end="")
        for size in sizes:
            study, trial = told(table, np.random.default_rng(0).integers(0, len(table.drawn), size))
            times = []
            for _ in range(3):
                started = perf_counter()
                is_trainable(proposal(sampler, study, trial))
                times.append(1000 * (perf_counter() - started))
            print(f"{min(times):>10.0f}", end="", flush=True)
        print()


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--curves", type=Path, default=CURVES)
    names = [contender.name for contender in CONTENDERS]
    parser.add_argument("--samplers", nargs="+", choices=names, help="replay searches of these alone")
    parser.add_argument("--pruners", nargs="+", choices=list(PRUNER), default=MEETS, help="with these")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")  # group is experimental
    table = read_table(options.curves)
    if options.samplers:
        asked = [contender for contender in CONTENDERS if contender.name in options.samplers]
        print_searches(table, options.repetitions, asked, options.pruners)
        return
    print_epochs(table)
    print_learning(table)
    print_pruners(table, options.repetitions)
    print_searches(table, options.repetitions, CONTENDERS, options.pruners)
    print_costs(table)


if __name__ == "__main__":
    main()
