"""Confirmation by a tiny executor that plays back epochs, and its numbers worked out by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from budgetnet.confirm import confirm
from budgetnet.errors import WorkerError
from budgetnet.executor import InProcess
from budgetnet.jobs import MAX_LOSSES, EpochDone, Event, Failed, Finished, Job, Lost, SeedDone, Stopped
from budgetnet.notation import parse
from budgetnet.recipe import Recipe
from tests.records import epoch, run

NETWORK = parse("4 M 8")
RECIPE = Recipe(epochs=3)


class Playback:
    """Runs up to ``slots`` jobs, an epoch a call of ``events`` each; epoch e of seed s gets 9,900 + 10 s + e right."""

    def __init__(self, slots: int = 1, fails: int | None = None, takes_seeds_together: bool = False) -> None:
        self.slots = slots
        self.takes_seeds_together = takes_seeds_together
        self.jobs: list[Job] = []
        self.stopped: list[int] = []
        self._fails = fails
        self._running: dict[int, deque[Event]] = {}

    def submit(self, job: Job) -> None:
        assert len(self._running) < self.slots
        self.jobs.append(job)
        done: list[Event] = [
            EpochDone(job.id, seed, epoch(number, 9_900 + 10 * seed + number))
            for number in range(1, job.recipe.epochs + 1)
            for seed in job.seeds
        ]
        for seed in job.seeds:
            last = run(seed, *(9_900 + 10 * seed + number for number in range(1, job.recipe.epochs + 1)))
            done.append(SeedDone(job.id, seed, last.outcome, last.machine))
        failed = self._fails == job.seed
        self._running[job.id] = deque([done[0], Failed(job.id, "loss is nan")] if failed else [*done, Finished(job.id)])

    def stop(self, job: int) -> None:
        self.stopped.append(job)

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        for job, events in list(self._running.items()):
            event = events.popleft()
            if not events:
                del self._running[job]
                if isinstance(event, Finished) and (path := next(j.weights for j in self.jobs if j.id == job)):
                    Path(path).write_text("weights")
            yield event

    def close(self) -> None:
        self._running.clear()


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_every_seed_is_trained_on_all_images_and_reported_in_order(tmp_path: Path, slots: int) -> None:
    executor, told, ended = Playback(slots), [], []
    weights = tmp_path / "first.safetensors"
    confirmation = confirm(
        executor,
        NETWORK,
        RECIPE,
        data="mnist",
        seeds=[0, 1, 2],
        weights=weights,
        on_epoch=lambda seed, result: told.append((seed, result.epoch)),
        on_run=lambda ended_run: ended.append(ended_run.seed),
    )
    assert confirmation.runs == (run(0, 9901, 9902, 9903), run(1, 9911, 9912, 9913), run(2, 9921, 9922, 9923))
    assert {(job.split, job.data, job.architecture, job.recipe) for job in executor.jobs} == {
        ("final", "mnist", NETWORK, RECIPE)
    }
    assert [(job.seed, job.weights) for job in executor.jobs] == [(0, str(weights)), (1, None), (2, None)]
    assert sorted(told) == [(seed, number) for seed in range(3) for number in (1, 2, 3)]
    assert (ended, executor.stopped, weights.read_text()) == ([0, 1, 2], [], "weights")


def test_steps_in_bfloat16_are_asked_for_and_recorded(small_mnist: Path) -> None:
    executor = Playback()
    confirm(executor, NETWORK, RECIPE, data="mnist", seeds=[0, 1], bf16=True)
    assert [job.bf16 for job in executor.jobs] == [True, True]
    runs = {
        bf16: confirm(InProcess("cpu"), NETWORK, RECIPE, data=str(small_mnist), seeds=[0], bf16=bf16).runs[0]
        for bf16 in (False, True)
    }
    assert [runs[bf16].machine.precision for bf16 in (False, True)] == ["float32", "bfloat16"]
    assert runs[False].epochs[0].train_loss != runs[True].epochs[0].train_loss
    assert runs[False].epochs[0].train_loss == pytest.approx(runs[True].epochs[0].train_loss, abs=0.2)


def test_a_gpu_takes_all_seeds_that_are_missing_in_one_job(tmp_path: Path) -> None:
    executor = Playback(takes_seeds_together=True)
    weights = tmp_path / "first.safetensors"
    done = [run(1, 1, 2, 3)]
    confirmation = confirm(executor, NETWORK, RECIPE, data="mnist", seeds=[0, 1, 2], weights=weights, done=done)
    assert [(job.seed, job.beside, job.weights) for job in executor.jobs] == [(0, (2,), str(weights))]
    assert confirmation.runs == (run(0, 9901, 9902, 9903), run(1, 1, 2, 3), run(2, 9921, 9922, 9923))
    again = Playback(takes_seeds_together=True)
    confirm(again, NETWORK, RECIPE, data="mnist", seeds=[0, 1, 2], weights=weights, done=confirmation.runs)
    assert again.jobs == []


def test_runs_that_are_done_are_not_repeated(tmp_path: Path) -> None:
    executor = Playback()
    done = [run(0, 1, 2, 3), run(2, 4, 5, 6), run(9, 6, 7, 8)]  # nobody asks for seed 9
    confirmation = confirm(
        executor, NETWORK, RECIPE, data="mnist", seeds=[0, 1, 2], weights=tmp_path / "first.safetensors", done=done
    )
    assert [(job.seed, job.weights) for job in executor.jobs] == [(1, None)]
    assert confirmation.runs == (done[0], run(1, 9911, 9912, 9913), done[1])


def test_a_failing_seed_stops_the_others() -> None:
    executor = Playback(slots=2, fails=1)
    with pytest.raises(WorkerError, match=r"^seed 1: loss is nan$"):
        confirm(executor, NETWORK, RECIPE, data="mnist", seeds=[0, 1, 2])
    assert executor.stopped == [0]


def test_a_job_that_somebody_stopped_is_an_error() -> None:
    class Stopping(Playback):
        def events(self, timeout: float | None = None) -> Iterator[Event]:
            return iter([Stopped(0)])

    with pytest.raises(WorkerError, match=r"^seed 5: stopped$"):
        confirm(Stopping(), NETWORK, RECIPE, data="mnist", seeds=[5])


class Losing(Playback):
    """Loses jobs of seed 1 in their second epoch, so many times."""

    def __init__(self, times: int, slots: int = 2) -> None:
        super().__init__(slots)
        self._left = times

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        for event in super().events(timeout):
            if isinstance(event, EpochDone) and (event.seed, event.result.epoch) == (1, 2) and self._left:
                self._left -= 1
                del self._running[event.job]
                yield Lost(event.job, "node 10.0.0.7 died")
            else:
                yield event


def test_a_seed_that_is_lost_with_its_machine_is_trained_again() -> None:
    told: list[tuple[int, int]] = []
    reasons: list[tuple[Sequence[int], str]] = []
    executor = Losing(times=MAX_LOSSES - 1)
    lost = confirm(
        executor, NETWORK, RECIPE, data="mnist", seeds=[0, 1, 2],
        on_epoch=lambda seed, e: told.append((seed, e.epoch)), on_lost=lambda *what: reasons.append(what),
    )  # fmt: skip
    assert lost == confirm(Playback(), NETWORK, RECIPE, data="mnist", seeds=[0, 1, 2])
    assert [epoch for seed, epoch in told if seed == 1] == [1, 1, 1, 2, 3]
    assert reasons == [((1,), "node 10.0.0.7 died")] * (MAX_LOSSES - 1)
    assert [job.seed for job in executor.jobs].count(1) == MAX_LOSSES
    assert len({job.id for job in executor.jobs}) == len(executor.jobs)


def test_a_seed_that_is_lost_again_and_again_is_an_error() -> None:
    executor = Losing(times=MAX_LOSSES)
    with pytest.raises(WorkerError, match=r"^seed 1: node 10.0.0.7 died$"):
        confirm(executor, NETWORK, RECIPE, data="mnist", seeds=[1])
    assert len(executor.jobs) == MAX_LOSSES


def test_ctrl_c_stops_what_runs() -> None:
    class Interrupted(Playback):
        def events(self, timeout: float | None = None) -> Iterator[Event]:
            raise KeyboardInterrupt

    executor = Interrupted(slots=2)
    with pytest.raises(KeyboardInterrupt):
        confirm(executor, NETWORK, RECIPE, data="mnist", seeds=[0, 1, 2])
    assert executor.stopped == [0, 1]
