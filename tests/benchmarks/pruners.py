"""Which pruner should be the default: complete learning curves replayed in many random orders.

    python tests/benchmarks/pruners.py [studies/landscape/curves.csv]

The curves are complete (recorded with --pruner none) and drawn by the random sampler, so every order of them is a
search that could have happened. In each order the pruner decides as it would have; what it cuts is not paid for.
Printed, as means over the orders: epochs saved; how often the best candidate of all survives; regret (best value of all
minus best value that survived, in points of accuracy), and its 95th percentile.

<!-- RESULT -->
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
