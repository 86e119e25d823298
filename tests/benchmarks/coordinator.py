"""What a search costs beside training: trials a second with jobs that take no time, and where the time goes.

    python tests/benchmarks/coordinator.py [--rounds 3]

500 trials of the default space, 15 epochs each, eight worker processes on this machine, SQLite in a temporary folder;
sampling, fitting, pruning, saving and the way to and from the workers are all real, only ``run_job`` is replaced by one
that answers at once. The workers are started before the clock is. Rounds of the samplers take turns.

Before the ledger, when every parameter, attribute and epoch was a transaction of Optuna's storage, a first try gave 2.6
trials/s under a profiler. Expected of the ledger: 50. Measured on two quiet cores, pruner halving:

    tpe: 60.2 ± 9.0 trials/s (n=3)
        sampling and fitting             12.67 ms a trial
        saving                            1.28 ms a trial
        pruner                            0.23 ms a trial
        waiting for and hearing workers   0.34 ms a trial
        sending jobs                      0.23 ms a trial
        the rest                          2.11 ms a trial
    random: 178.5 ± 8.3 trials/s (n=3)
        sampling and fitting              2.44 ms a trial
        saving                            1.46 ms a trial
        pruner                            0.26 ms a trial
        waiting for and hearing workers   0.33 ms a trial
        sending jobs                      0.13 ms a trial
        the rest                          1.00 ms a trial

TPE takes the longer the more trials it looks at; 500 trials, one process, no workers, took it so long (trials/s, n=2,
quiet): all trials 42 (as Optuna 5 has it by default), without running trials and at most 250 trials 53, at most 150
trials, as now, 61; in groups and 250 trials 59; each parameter by itself 20, and 29 with 250 trials.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[2]))

from optuna.trial import Trial

from budgetnet import coordinator
from budgetnet.coordinator import Search
from budgetnet.executor import LocalProcesses
from budgetnet.jobs import Finished, Job
from budgetnet.ledger import Ledger
from budgetnet.lock import locked
from budgetnet.notation import parse
from budgetnet.plan import Request
from budgetnet.recipe import Recipe
from budgetnet.samplers import SAMPLERS
from budgetnet.study import create_or_open
from tests.instant import instant_job

TRIALS, WORKERS = 500, 8
PARTS = {
    "sampling and fitting": (coordinator, "draw"),
    "saving": (Ledger, "save"),
    "pruner": (Trial, "should_prune"),
    "waiting for and hearing workers": (LocalProcesses, "events"),
    "sending jobs": (LocalProcesses, "submit"),
}


@contextmanager
def timed(spent: dict[str, float]) -> Iterator[None]:
    """Add up the seconds that each part takes."""

    def watch(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                result = function(*arguments, **options)
                return iter(list(result)) if name.startswith("waiting") else result
            finally:
                spent[name] += time.perf_counter() - start

        return watched

    patches = [patch.object(place, name, watch(part, getattr(place, name))) for part, (place, name) in PARTS.items()]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def warm(executor: LocalProcesses) -> None:
    """Start all workers: each has answered once."""
    for number in range(executor.slots):
        executor.submit(Job(number, parse("4 M 6"), Recipe(epochs=1), "none", "search", seed=number))
    open_jobs = executor.slots
    while open_jobs:
        open_jobs -= sum(isinstance(event, Finished) for event in executor.events(1.0))


def run(executor: LocalProcesses, sampler: str) -> tuple[float, dict[str, float]]:
    """(trials a second, seconds by part) of one search."""
    with tempfile.TemporaryDirectory() as folder:
        request = replace(Request(), trials=TRIALS, sampler=sampler, root=Path(folder))
        space, settings, plan = request.check()
        where = request.place(space)
        spent: dict[str, float] = defaultdict(float)
        with locked(where), timed(spent):
            search = Search(create_or_open(where, settings), space, plan, executor)
            start = time.perf_counter()
            for _ in search.run():
                pass
            seconds = time.perf_counter() - start
        assert search.trained == TRIALS
    spent["the rest"] = seconds - sum(spent.values())
    return TRIALS / seconds, spent


def main() -> None:
    """Print trials a second, and milliseconds a trial by part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samplers", nargs="+", default=[name for name in SAMPLERS if name != "gp"])
    asked = parser.parse_args()
    found: dict[str, list[tuple[float, dict[str, float]]]] = defaultdict(list)
    with closing(LocalProcesses(WORKERS, run=instant_job)) as executor:
        warm(executor)
        for _ in range(asked.rounds):
            for sampler in asked.samplers:
                found[sampler].append(run(executor, sampler))
    for sampler, rounds in found.items():
        rates = [rate for rate, _ in rounds]
        spread = statistics.stdev(rates) if len(rates) > 1 else 0.0
        print(f"{sampler}: {statistics.fmean(rates):.1f} ± {spread:.1f} trials/s (n={len(rates)})")
        for part in (*PARTS, "the rest"):
            print(f"    {part:<32}{1000 * statistics.fmean(s[part] for _, s in rounds) / TRIALS:6.2f} ms a trial")


if __name__ == "__main__":
    main()
