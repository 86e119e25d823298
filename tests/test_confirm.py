"""Confirmation by a tiny executor that plays back epochs, and its numbers worked out by hand."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from budgetnet.confirm import Confirmation, SeedRun, confirm
from budgetnet.errors import ModelError, WorkerError
from budgetnet.jobs import EpochDone, Event, Failed, Finished, Job, Stopped
from budgetnet.notation import parse
from budgetnet.recipe import EpochResult, Recipe

NETWORK = parse("4 M 8")
RECIPE = Recipe(epochs=3)


def epoch(number: int, correct: int, total: int = 10_000, train: float = 0.98) -> EpochResult:
    return EpochResult(number, 0.01, 0.05, train, correct / total, 0.02, correct, total, 1.0)


def run(seed: int, *correct: int) -> SeedRun:
    return SeedRun(seed, tuple(epoch(number, images) for number, images in enumerate(correct, 1)))


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
    weights = tmp_path / "first.safetensors"
    weights.write_text("kept")
    executor = Playback()
    done = [run(0, 1, 2, 3), run(2, 4, 5), run(9, 6, 7, 8)]  # seed 2 is incomplete, nobody asks for seed 9
    confirmation = confirm(executor, NETWORK, RECIPE, data="mnist", seeds=[0, 1, 2], weights=weights, done=done)
    assert [job.seed for job in executor.jobs] == [1, 2]
    assert confirmation.runs[0] == done[0]
    assert confirmation.seeds == (0, 1, 2)


def test_the_first_seed_is_repeated_when_its_weights_are_gone(tmp_path: Path) -> None:
    executor = Playback()
    done = [run(0, 1, 2, 3), run(1, 4, 5, 6)]
    confirm(executor, NETWORK, RECIPE, data="mnist", seeds=[0, 1], weights=tmp_path / "gone", done=done)
    assert [(job.seed, job.weights) for job in executor.jobs] == [(0, str(tmp_path / "gone"))]


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


def test_ctrl_c_stops_what_runs() -> None:
    class Interrupted(Playback):
        def events(self, timeout: float | None = None) -> Iterator[Event]:
            raise KeyboardInterrupt

    executor = Interrupted(slots=2)
    with pytest.raises(KeyboardInterrupt):
        confirm(executor, NETWORK, RECIPE, data="mnist", seeds=[0, 1, 2])
    assert executor.stopped == [0, 1]


def test_numbers_by_hand() -> None:
    confirmation = Confirmation((run(0, 9900, 9950, 9940, 9942), run(1, 9901, 9939, 9960, 9946)))
    assert confirmation.finals == (0.9942, 0.9946)
    assert confirmation.mean == pytest.approx(0.9944)
    assert confirmation.std == pytest.approx(0.0004 / 2**0.5)  # two values: their distance / sqrt 2
    assert confirmation.interval is not None
    assert confirmation.interval.high - confirmation.mean == pytest.approx(12.7062 * 0.0002, rel=1e-4)  # t(0.975; 1)
    assert confirmation.lowest(3) == (0.9940, 0.9939)
    assert confirmation.lowest(99) == (0.9900, 0.9901)
    assert (confirmation.best_test, confirmation.best_train) == (0.9960, 0.98)
    assert confirmation.by_epoch()[:2] == pytest.approx((0.99005, 0.99445))
    held = confirmation.holds(0.994, last=3)
    assert (held.passes, held.n) == (1, 2)
    assert (round(held.interval.low, 4), round(held.interval.high, 4)) == (0.0945, 0.9055)  # ± z / (2 sqrt(2 + z²))


@pytest.mark.parametrize("target", [0.994, 99.4 / 100])  # the second is 0.9940000000000001
def test_a_target_is_reached_at_the_very_image(target: float) -> None:
    assert run(0, 9940).holds(target)
    assert not run(0, 9939).holds(target)


def test_one_seed_has_no_spread() -> None:
    confirmation = Confirmation((run(0, 9940),))
    assert (confirmation.std, confirmation.interval) == (None, None)


def test_json_round_trip() -> None:
    confirmation = Confirmation((run(3, 9900, 9950), run(1, 9901, 9939)))
    assert Confirmation.from_dict(json.loads(json.dumps(confirmation.to_dict()))) == confirmation


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ((), "at least one seed"),
        ((run(1, 5), run(1, 6)), "needs different seeds, but got 1, 1"),
        ((run(1, 5, 6), run(2, 6)), "needs the epochs 1 … 2, but 2 differs"),
        ((SeedRun(1, (epoch(2, 5),)),), "needs the epochs 1 … 1, but 1 differs"),
        ((SeedRun(1, (EpochResult(1, 0, 0, 0, 0.5, float("nan"), 1, 2, 0),)),), "the loss of epoch 1 is not finite"),
    ],
)
def test_impossible_confirmations_are_refused(runs: tuple[SeedRun, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Confirmation(runs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("runs"), r"confirmation\.runs must be a list"),
        (lambda data: data["runs"][0].update(seed="a"), r"runs\[0\]\.seed must be a whole number, but is 'a'"),
        (lambda data: data["runs"][0]["epochs"][0].pop("loss"), r"epochs\[0\] must have the fields epoch, "),
        (lambda data: data["runs"][0]["epochs"][0].update(correct=1.5), r"epochs\[0\]\.correct must be a number"),
        (lambda data: data["runs"][0]["epochs"][0].update(correct=9941), r"accuracy must be 9,941 / 10,000, but is"),
    ],
)
def test_broken_records_are_refused_by_place(change: Any, message: str) -> None:
    data = Confirmation((run(0, 9940),)).to_dict()
    change(data)
    with pytest.raises(ModelError, match=message):
        Confirmation.from_dict(data)
