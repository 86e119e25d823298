"""Retrains a network over seeds fixed in advance, on all training images; the test set reports and chooses nothing."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from budgetnet.architecture import Architecture
from budgetnet.errors import WorkerError
from budgetnet.executor import Executor
from budgetnet.files import Unfinished
from budgetnet.jobs import MAX_LOSSES, EpochDone, Failed, Finished, Job, Lost, SeedDone, Stopped
from budgetnet.recipe import Recipe
from budgetnet.results import Confirmation, EpochResult, SeedRun

POLL = 1.0  # seconds between two looks for events, so that Ctrl-C is heard


def confirm(
    executor: Executor,
    architecture: Architecture,
    recipe: Recipe,
    *,
    data: str,
    seeds: Sequence[int],
    weights: Path | None = None,
    unfinished: Callable[[int], Unfinished] | None = None,
    done: Sequence[SeedRun] = (),
    bf16: bool = False,
    on_epoch: Callable[[int, EpochResult], None] | None = None,
    on_run: Callable[[SeedRun], None] | None = None,
    on_lost: Callable[[Sequence[int], str], None] | None = None,
) -> Confirmation:
    """Train ``architecture`` once a seed on all training images and read the test set once an epoch, for the report.

    weights: file for the state dict of the first seed's last epoch. unfinished(seed): where the whole epochs of a job
    are kept whose first seed this is, until all its seeds have been told; a job goes on with them. done: runs of some
    of the seeds, which are not repeated. bf16: compute the steps of the others in bfloat16. on_epoch(seed, result) and
    on_run(run) tell as it goes on, on_lost(seeds, reason) that some were lost with their machine and begin anew, as do
    their epochs. Raises WorkerError when a seed fails, or is lost MAX_LOSSES times; the others are told to stop, and
    the executor is to be closed.
    """
    kept = {run.seed: run for run in done}
    missing = [seed for seed in seeds if seed not in kept]
    groups = [missing] if missing and executor.takes_seeds_together else [[seed] for seed in missing]
    jobs = [
        Job(
            index, architecture, recipe, data, "final", group[0], beside=tuple(group[1:]), bf16=bf16,
            weights=str(weights) if weights is not None and group[0] == seeds[0] else None,
            checkpoint=None if unfinished is None else str(unfinished(group[0]).start),
        )
        for index, group in enumerate(groups)
    ]  # fmt: skip
    for run in _runs(executor, jobs, on_epoch or (lambda seed, result: None), on_lost or (lambda seeds, reason: None)):
        kept[run.seed] = run
        if on_run is not None:
            on_run(run)
    return Confirmation(tuple(kept[seed] for seed in seeds))


def _runs(
    executor: Executor,
    jobs: Sequence[Job],
    on_epoch: Callable[[int, EpochResult], None],
    on_lost: Callable[[Sequence[int], str], None],
) -> Iterator[SeedRun]:
    """Run the jobs, as many at once as there are slots, and yield every seed of each that ends."""
    waiting = deque(jobs)
    running: dict[int, Job] = {}
    epochs: dict[int, dict[int, EpochResult]] = {seed: {} for job in jobs for seed in job.seeds}
    ended: dict[int, SeedDone] = {}
    losses: Counter[int] = Counter()  # by first seed
    numbers = count(len(jobs))
    try:
        while waiting or running:
            while waiting and len(running) < executor.slots:
                job = waiting.popleft()
                running[job.id] = job
                executor.submit(job)
            for event in executor.events(POLL):
                if event.job not in running:
                    continue
                job = running[event.job]
                if isinstance(event, EpochDone):
                    epochs[event.seed][event.result.epoch] = event.result
                    on_epoch(event.seed, event.result)
                elif isinstance(event, SeedDone):
                    ended[event.seed] = event
                elif isinstance(event, Lost) and losses[job.seed] < MAX_LOSSES - 1:
                    del running[job.id]
                    losses[job.seed] += 1
                    waiting.append(replace(job, id=next(numbers)))
                    on_lost(job.seeds, event.reason)
                elif isinstance(event, Failed | Lost | Stopped):
                    del running[job.id]
                    named = " ".join(map(str, job.seeds))
                    raise WorkerError(f"seed {named}: {'stopped' if isinstance(event, Stopped) else event.reason}")
                elif isinstance(event, Finished):
                    del running[job.id]
                    for seed in job.seeds:
                        results = tuple(result for _, result in sorted(epochs[seed].items()))
                        yield SeedRun(seed, results, ended[seed].outcome, ended[seed].machine)
                    if job.checkpoint is not None:
                        Unfinished(Path(job.checkpoint)).forget()
    finally:
        for job_id in running:
            executor.stop(job_id)
