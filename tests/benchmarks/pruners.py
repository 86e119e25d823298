"""Which pruner should be the default: complete learning curves replayed in many random orders.

    python tests/benchmarks/pruners.py [studies/landscape/curves.csv]

The curves are complete (recorded with --pruner none) and drawn by the random sampler, so every order of them is a
search that could have happened. In each order the pruner decides as it would have; what it cuts is not paid for.
Printed, as means over the orders: epochs saved; how often the best candidate of all survives; regret (best value of all
minus best value that survived, in points of accuracy), and its 95th percentile.

Expected beforehand: the median saves a third of the epochs and loses next to nothing. Came out:

    30 complete curves of 15 epochs, 200 orders; best value 99.173 %
    pruner                          epochs saved  best survives   regret  95th pct
    median                                55.9%         100.0%    0.000     0.000
    percentile                            49.1%          82.0%    0.005     0.027
    hyperband                             59.2%          69.5%    0.008     0.027
    halving                               55.5%          97.5%    0.001     0.000
    none                                   0.0%         100.0%    0.000     0.000
    median, 4 start, 2 warm               61.4%         100.0%    0.000     0.000
    median, 4 start, 3 warm               55.9%         100.0%    0.000     0.000
    median, 4 start, 5 warm               46.1%         100.0%    0.000     0.000
    median, 4 start, 8 warm               31.2%         100.0%    0.000     0.000
    best third, 4 start, 3 warm           60.4%          87.5%    0.003     0.027
    best third, 4 start, 5 warm           49.9%          91.5%    0.002     0.027
    best third, 4 start, 8 warm           34.3%          99.0%    0.000     0.000
    halving, from 5, factor 3             43.5%          96.0%    0.001     0.000

Chosen: the median from the third epoch on, after four trials ("median"). It halves the epochs and kept the best
candidate in every order; stricter quantiles and Hyperband save about as much and lose the best in 1 to 30 of 100. Its
risk: a slow starter that would have won. There is none among these 30, and 30 curves on 20,000 images prove no more.
"""

from __future__ import annotations

import csv
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.pruners import BasePruner, MedianPruner, PercentilePruner, SuccessiveHalvingPruner

from budgetnet.plan import PRUNERS, make_pruner
from budgetnet.study import LAST

ORDERS = 200
CURVES = Path(__file__).parents[2] / "studies" / "landscape" / "curves.csv"


def read_curves(path: Path) -> list[list[float]]:
    """Validation accuracies, epoch by epoch, of every finished trial in the file."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [[float(accuracy) for accuracy in row["curve"].split()] for row in rows if row["state"] == "finished"]


def value(curve: Sequence[float]) -> float:
    """A trial's value, as the search defines it."""
    return statistics.fmean(curve[-LAST:])


def replay(curves: Sequence[Sequence[float]], pruner: BasePruner) -> tuple[int, float]:
    """(epochs paid for, best value that survived) of one order."""
    study = optuna.create_study(direction="maximize", pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0))
    spent, best = 0, 0.0
    for curve in curves:
        trial = study.ask()
        for epoch, accuracy in enumerate(curve, 1):
            spent += 1
            trial.report(accuracy, epoch)
            if epoch < len(curve) and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, value(curve))
            best = max(best, value(curve))
    return spent, best


def candidates(epochs: int) -> dict[str, BasePruner]:
    """The pruners that budgetnet names, and neighbours of theirs."""
    named = {name: make_pruner(name, epochs) for name in PRUNERS}
    return {
        **named,
        "median, 4 start, 2 warm": MedianPruner(n_startup_trials=4, n_warmup_steps=2),
        "median, 4 start, 3 warm": MedianPruner(n_startup_trials=4, n_warmup_steps=3),
        "median, 4 start, 5 warm": MedianPruner(n_startup_trials=4, n_warmup_steps=5),
        "median, 4 start, 8 warm": MedianPruner(n_startup_trials=4, n_warmup_steps=8),
        "best third, 4 start, 3 warm": PercentilePruner(33.0, n_startup_trials=4, n_warmup_steps=3),
        "best third, 4 start, 5 warm": PercentilePruner(33.0, n_startup_trials=4, n_warmup_steps=5),
        "best third, 4 start, 8 warm": PercentilePruner(33.0, n_startup_trials=4, n_warmup_steps=8),
        "halving, from 5, factor 3": SuccessiveHalvingPruner(min_resource=5, reduction_factor=3),
    }


def main(path: Path) -> None:
    """Print one line a pruner."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    curves = read_curves(path)
    epochs, best = len(curves[0]), max(map(value, curves))
    print(f"{len(curves)} complete curves of {epochs} epochs, {ORDERS} orders; best value {100 * best:.3f} %")
    print(f"{'pruner':<30}{'epochs saved':>14}{'best survives':>15}{'regret':>9}{'95th pct':>10}")
    for name, pruner in candidates(epochs).items():
        spent, regret = [], []
        for seed in range(ORDERS):
            order = random.Random(seed).sample(curves, len(curves))
            paid, found = replay(order, pruner)
            spent.append(paid / (len(curves) * epochs))
            regret.append(100 * (best - found))
        worst = sorted(regret)[int(0.95 * ORDERS)]
        survives = sum(r == 0 for r in regret) / ORDERS
        saved = 1 - statistics.fmean(spent)
        print(f"{name:<30}{saved:>13.1%} {survives:>14.1%}{statistics.fmean(regret):>9.3f}{worst:>10.3f}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else CURVES)
