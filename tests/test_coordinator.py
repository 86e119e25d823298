"""The search: what is counted, told, resumed, requeued and refused – with real trials on real images."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from budgetnet import coordinator, samplers
from budgetnet.architecture import Architecture
from budgetnet.coordinator import Ended, Progressed, Search, Started, opened, search
from budgetnet.cost import cost
from budgetnet.errors import BudgetError, BudgetnetError, DataError, SpaceError, StudyError, WorkerError
from budgetnet.executor import LocalProcesses
from budgetnet.files import STAGING, clear_staging
from budgetnet.jobs import MAX_LOSSES, Audited, EpochDone, Event, Failed, Finished, Job, Lost, Stopped
from budgetnet.ledger import judged
from budgetnet.lock import locked
from budgetnet.machine import cores
from budgetnet.place import place
from budgetnet.plan import PRUNERS, Request, make_pruner
from budgetnet.results import EpochResult
from budgetnet.samplers import SAMPLERS, STARTUP
from budgetnet.study import Settings, Study, create_or_open, open_study
from tests.tiny import TINY, tiny_request, write_space


class Replay:
    """An executor that trains nothing: epochs come from a function of (job, epoch). For what is not about training."""

    def __init__(
        self,
        accuracy: Callable[[Job, int], float],
        slots: int = 1,
        fail: Callable[[Job], str | None] = lambda job: None,
        macs: int = 0,
    ) -> None:
        self.slots = slots
        self.submitted: list[Job] = []
        self._accuracy, self._fail, self._macs = accuracy, fail, macs
        self._events: dict[int, Iterator[Event]] = {}
        self._stopped: set[int] = set()

    def submit(self, job: Job) -> None:
        assert len(self._events) < self.slots
        self.submitted.append(job)
        self._events[job.id] = self._run(job)

    def _run(self, job: Job) -> Iterator[Event]:
        spent = cost(job.architecture)
        yield Audited(job.id, replace(spent, macs=spent.macs + self._macs))
        if reason := self._fail(job):
            yield Failed(job.id, reason)
            return
        for epoch in range(1, job.recipe.epochs + 1):
            if job.id in self._stopped:
                yield Stopped(job.id)
                return
            accuracy = self._accuracy(job, epoch)
            images = round(accuracy * 1000)
            yield EpochDone(job.id, job.seed, EpochResult(epoch, 0.1, 1.0, accuracy, accuracy, 1.0, images, 1000, 0.1))
        yield Finished(job.id)

    def stop(self, job: int) -> None:
        self._stopped.add(job)

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        for job, events in list(self._events.items()):
            event = next(events, None)
            if event is None or isinstance(event, Finished | Stopped | Failed):
                del self._events[job]
            if event is not None:
                yield event

    def close(self) -> None:
        pass


def ready(request: Request, settings: Settings) -> Study:
    """The study of a request; its folder is what the lock makes in a real search."""
    where = request.place(request.check()[0])
    where.folder.mkdir(parents=True, exist_ok=True)
    return create_or_open(where, settings)


@pytest.fixture
def replayed(tmp_path: Path, small_mnist: Path) -> Callable[..., Search]:
    """A search over the tiny space with a Replay executor; the study persists between calls."""

    def make(executor: Replay, **options: object) -> Search:
        request = tiny_request(tmp_path, small_mnist, **options)
        space, settings, plan = request.check()
        return Search(ready(request, settings), space, plan, executor)  # type: ignore[arg-type]

    return make


def rising(job: Job, epoch: int) -> float:
    return 0.9 + 0.001 * epoch + 0.001 * (job.id % 7)


# --- with real training -----------------------------------------------------------------------------------------------


def test_a_search_trains_valid_networks_under_the_budget_and_resumes(tmp_path: Path, small_mnist: Path) -> None:
    request = tiny_request(tmp_path, small_mnist)
    study = search(request)
    records = [record for record in study.records() if record.state == "finished"]
    assert len(records) == 3
    for record in records:
        assert record.cost is not None
        assert record.value is not None
        assert record.cost.params < 600
        assert record.receptive_field is not None
        assert record.receptive_field >= 5
        assert len(record.curve) == 3
        assert record.value == pytest.approx(sum(record.curve) / 3)
        assert record.recipe is not None
        assert record.recipe.epochs == 3
    again = search(replace(request, trials=5))
    assert sum(record.state == "finished" for record in again.records()) == 5
    assert again.records()[: len(study.records())][0].value == records[0].value
    assert len(search(replace(request, trials=5)).records()) == len(again.records())  # nothing left to do


def test_the_value_of_a_trial_is_the_mean_of_its_last_three_epochs(replayed: Callable[..., Search]) -> None:
    running = replayed(Replay(lambda job, epoch: 0.5 + 0.01 * epoch**2), trials=1, epochs=6)
    list(running.run())
    assert running.study.records()[-1].value == pytest.approx(0.5 + 0.01 * (16 + 25 + 36) / 3)


def test_a_limit_on_macs_holds_for_every_trial(replayed: Callable[..., Search]) -> None:
    def macs(**options: object) -> list[int]:
        running = replayed(Replay(rising), trials=8, **options)
        list(running.run())
        return sorted(record.cost.macs for record in running.study.records() if record.trained and record.cost)

    free = macs()
    limited = macs(study="limited", max_macs=free[3])
    assert len(limited) == 8
    assert limited[-1] <= free[3] < free[-1]


def test_a_search_never_reads_the_test_images(tmp_path: Path, small_mnist: Path) -> None:
    arrays = dict(np.load(small_mnist))
    arrays["x_test"], arrays["y_test"] = np.zeros((2, 3)), np.zeros(1)  # unreadable as images
    spoilt = tmp_path / "spoilt.npz"
    np.savez(spoilt, **arrays)
    study = search(tiny_request(tmp_path, spoilt, trials=1))
    assert study.records()[-1].state == "finished"
    from budgetnet.data import load

    with pytest.raises(DataError):  # the same file, once somebody does read the test images
        load(str(spoilt)).final_splits()


def test_halving_asks_after_2_4_and_8_of_15_epochs() -> None:
    """Each trial is better than those before while it lasts, and falls behind all of them at an epoch of its own."""
    study = optuna.create_study(direction="maximize", pruner=make_pruner("halving", 15))
    ended = [epochs_of(study.ask(), 0.9 + 0.01 * number, fall) for number, fall in enumerate((99, 1, 3, 5, 9))]
    assert ended == [15, 2, 4, 8, 15]


def verdicts(search: Search) -> Counter[tuple[int, str]]:
    """How often halving has each seed's verdict on an epoch."""
    trials = search._ledger.study.get_trials(deepcopy=False)
    return Counter((t.user_attrs["seed"], name) for t in trials for name in t.system_attrs if "rung" in name)


def test_a_trial_that_was_interrupted_counts_once_in_halving(replayed: Callable[..., Search]) -> None:
    options = {"trials": 4, "epochs": 9, "pruner": "halving"}
    first = replayed(Replay(rising), **options)
    with closing(first.run()) as events:
        next(event for event in events if isinstance(event, Progressed) and event.result.epoch == 5)
        first._ledger.save()
    assert [len(judged(trial)) for trial in first._ledger.study.trials] == [0, 2], (
        "of those after 1, 2 and 4 epochs all but the last"
    )
    again = replayed(Replay(rising), **options)
    list(again.run())
    assert max(verdicts(again).values()) == 1
    later = replayed(Replay(rising), **options)
    assert verdicts(later) == verdicts(again), "also as it is read back"
    names = [key for trial in open_stored(again) for key in trial.system_attrs if "rung" in key]
    assert len(names) == len(verdicts(again)) + 3, "the storage keeps what was"


def open_stored(search: Search) -> list[optuna.trial.FrozenTrial]:
    return open_study(search.study.where.name, root=search.study.where.folder.parent).inner.get_trials()


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "UTC", "America/New_York"])
def test_times_are_those_of_the_clock_in_any_zone(
    replayed: Callable[..., Search], monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        before, search = datetime.now(), replayed(Replay(rising), trials=2)
        list(search.run())
        for trial in open_stored(search):
            assert trial.datetime_start is not None
            assert trial.datetime_complete is not None
            assert before <= trial.datetime_start <= trial.datetime_complete <= datetime.now()
    finally:
        monkeypatch.undo()
        time.tzset()


def epochs_of(trial: optuna.Trial, accuracy: float, fall: int) -> int:
    """Epochs that the pruner leaves to a trial with this accuracy before the epoch ``fall``, and 0.1 from there on."""
    for epoch in range(1, 16):
        trial.report(accuracy if epoch < fall else 0.1, epoch)
        if trial.should_prune():
            trial.study.tell(trial, state=TrialState.PRUNED)
            return epoch
    trial.study.tell(trial, 0.5)
    return 15


def test_the_same_seed_gives_the_same_trials_and_values(tmp_path: Path, small_mnist: Path) -> None:
    def values(name: str, seed: int) -> list[tuple[Architecture | None, float | None]]:
        study = search(tiny_request(tmp_path, small_mnist, study=name, seed=seed))
        return [(record.architecture, record.value) for record in study.records()]

    assert values("a", 3) == values("b", 3)
    assert values("c", 4) != values("a", 3)


# --- with replayed curves ---------------------------------------------------------------------------------------------


def test_trials_counts_trained_trials_and_not_rejected_ones(replayed: Callable[..., Search]) -> None:
    search = replayed(Replay(rising), trials=12)
    search._space = search._space.model_copy(
        update={"require": search._space.require.model_copy(update={"final_map": 11})}
    )
    events = list(search.run())
    ended = [event.record.state for event in events if isinstance(event, Ended)]
    assert ended.count("finished") == 12 == search.trained == search.tally.finished
    assert search.tally.rejected["last map"] == ended.count("rejected") > 0
    rejected = [t for t in search.study.inner.get_trials() if t.user_attrs.get("state") == "rejected"]
    assert all(t.state == optuna.trial.TrialState.PRUNED and t.constraints == {"last map": 1.0} for t in rejected)


class Untouchable(optuna.samplers.BaseSampler):
    """A sampler that must not be asked."""

    def __init__(self, **options: object) -> None: ...

    def infer_relative_search_space(self, *_: object) -> Any:
        raise AssertionError("the sampler has begun to learn")

    sample_relative = sample_independent = infer_relative_search_space


def test_rejected_and_pruned_trials_do_not_use_up_the_samplers_random_start(
    replayed: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = replayed(Replay(rising), trials=STARTUP - 1)
    search._space = search._space.model_copy(
        update={"require": search._space.require.model_copy(update={"final_map": 11})}
    )
    monkeypatch.setattr(samplers, "TPESampler", Untouchable)
    list(search.run())
    assert sum(search.tally.rejected.values()) + search.trained > STARTUP
    monkeypatch.undo()
    learning = replayed(Replay(rising), trials=STARTUP)
    list(learning.run())
    monkeypatch.setattr(samplers, "TPESampler", Untouchable)
    with pytest.raises(AssertionError, match="the sampler has begun to learn"):
        list(replayed(Replay(rising), trials=STARTUP + 1).run())


def test_what_the_audit_counted_is_what_is_recorded(replayed: Callable[..., Search]) -> None:
    search = replayed(Replay(rising, macs=7), trials=1)
    list(search.run())
    record = search.study.records()[-1]
    assert record.architecture is not None
    assert record.cost is not None
    assert record.cost.macs == cost(record.architecture).macs + 7


def test_a_trial_that_was_told_to_stop_in_its_last_epoch_counts_once(replayed: Callable[..., Search]) -> None:
    class Deaf(Replay):
        def stop(self, job: int) -> None:
            """The message comes too late: all epochs are done."""

    search = replayed(
        Deaf(lambda job, epoch: 0.1 if job.id >= 6 else 0.9, slots=2), trials=8, pruner="median", epochs=6
    )
    list(search.run())
    states = [record.state for record in search.study.records() if record.trained]
    assert len(states) == search.trained == 8


def test_every_event_of_a_trial_is_told_in_order(replayed: Callable[..., Search]) -> None:
    events = list(replayed(Replay(rising), trials=1).run())
    assert [type(event) for event in events] == [Started, Progressed, Progressed, Progressed, Ended]


def test_a_hopeless_trial_is_pruned_and_counted(replayed: Callable[..., Search]) -> None:
    def collapsing(job: Job, epoch: int) -> float:
        return 0.1 if job.id >= 6 else 0.9

    executor = Replay(collapsing)
    search = replayed(executor, trials=8, pruner="median", epochs=6)
    list(search.run())
    pruned = [record for record in search.study.records() if record.state == "pruned"]
    assert len(pruned) == search.tally.pruned == 2
    assert all(0 < len(record.curve) < 6 and record.reason for record in pruned)
    assert search.trained == 8


class Deaf(Replay):
    """Trains on when asked to stop, as a worker does that has not heard of it yet."""

    def stop(self, job: int) -> None: ...


@pytest.mark.parametrize("late", [False, True])
def test_what_a_pruned_trial_still_does_before_it_stops_changes_nothing(
    tmp_path: Path, small_mnist: Path, late: bool
) -> None:
    def collapsing(job: Job, epoch: int) -> float:
        return 0.9 if job.id < 6 or epoch == 6 else 0.1 + epoch / 100

    request = tiny_request(tmp_path, small_mnist, trials=8, pruner="median", epochs=6)
    space, settings, plan = request.check()
    executor = (Deaf if late else Replay)(collapsing)
    search = Search(ready(request, settings), space, plan, executor)  # type: ignore[arg-type]
    list(search.run())
    pruned = [record for record in search.study.records() if record.state == "pruned"]
    assert [record.number for record in pruned] == [6, 7]
    assert {record.curve for record in pruned} == {pruned[0].curve}
    assert 0.9 not in pruned[0].curve, "epoch 6 came after the verdict"
    assert len(pruned[0].curve) < 6
    assert {record.reason for record in pruned} == {f"pruned after epoch {len(pruned[0].curve)}"}
    assert search.tally.pruned == 2
    assert not search.tally.failed


@pytest.mark.parametrize("slots", [1, 2])
def test_an_equal_candidate_is_answered_and_a_space_that_runs_dry_ends_the_search(
    tmp_path: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, slots: int
) -> None:
    monkeypatch.setattr(coordinator, "MAX_IDLE", 40)
    fixed = {"learning_rate": 0.1, "batch_size": 64}
    write_space(tmp_path, network={"stages": [{"depth": {"min": 1, "max": 3}}]}, recipe=fixed)
    request = tiny_request(tmp_path, small_mnist, trials=8)
    space, settings, plan = request.check()
    executor = Replay(rising, slots)
    search = Search(ready(request, settings), space, plan, executor)  # type: ignore[arg-type]
    list(search.run())
    assert search.exhausted
    assert len(executor.submitted) == search.trained == 3  # all networks that there are
    records = search.study.records()
    assert sum(record.state == "duplicate" for record in records) == search.tally.duplicates > 0
    assert not any(record.state == "running" for record in records)


def test_a_failed_trial_fails_alone_and_does_not_count(replayed: Callable[..., Search]) -> None:
    search = replayed(Replay(rising, fail=lambda job: "epoch 1: NaN" if job.id == 1 else None), trials=3)
    list(search.run())
    failed = [record for record in search.study.records() if record.state == "failed"]
    assert [record.reason for record in failed] == ["epoch 1: NaN"]
    assert search.trained == 3


def test_trial_after_trial_failing_ends_the_search(replayed: Callable[..., Search]) -> None:
    search = replayed(Replay(rising, fail=lambda job: "out of memory"), trials=3)
    with pytest.raises(WorkerError, match="5 trials in a row failed for the same cause; the last: out of memory"):
        list(search.run())


def test_different_failures_in_a_row_end_the_search_too(replayed: Callable[..., Search]) -> None:
    search = replayed(Replay(rising, fail=lambda job: f"cause {job.id % 3}: details"), trials=3)
    with pytest.raises(WorkerError, match=r"^10 trials in a row failed; the last: cause 0: details$"):
        list(search.run())
    assert search.tally.failed == {"cause 0": 4, "cause 1": 3, "cause 2": 3}


class Losing(Replay):
    """A cluster that loses the machine of every job of which ``loses`` says so, in its first epoch."""

    def __init__(self, loses: Callable[[Job], bool]) -> None:
        super().__init__(rising)
        self._loses = loses

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        for event in super().events(timeout):
            job = next(job for job in self.submitted if job.id == event.job)
            if isinstance(event, EpochDone) and self._loses(job):
                del self._events[job.id]
                yield Lost(job.id, "node 10.0.0.7 died")
            else:
                yield event


def test_what_is_lost_with_its_machine_is_queued_again(replayed: Callable[..., Search]) -> None:
    executor = Losing(lambda job: job.id == 1)
    search = replayed(executor, trials=3)
    ended = [event.record for event in search.run() if isinstance(event, Ended)]
    assert [record.state for record in ended] == ["finished", "failed", "finished", "finished"]
    assert ended[1].reason == "node 10.0.0.7 died; queued again"
    lost, again = executor.submitted[1:3]
    assert (lost.architecture, lost.recipe, lost.seed) == (again.architecture, again.recipe, again.seed)
    assert (search.tally.lost, search.tally.failed.total(), search.trained) == (1, 0, 3)
    assert search.study.records()[1].reason == "interrupted; queued again"


def test_a_job_that_is_lost_again_and_again_fails(replayed: Callable[..., Search]) -> None:
    """It may be the job that brings its machine down."""
    executor = Losing(lambda job: job.seed == 1)
    search = replayed(executor, trials=3)
    list(search.run())
    assert sum(job.seed == 1 for job in executor.submitted) == MAX_LOSSES
    failed = [record for record in search.study.records() if "lost with its machine" in (record.reason or "")]
    assert [record.reason for record in failed] == ["lost with its machine 3 times; the last: node 10.0.0.7 died"]
    assert search.trained == 3


def test_what_was_running_when_the_search_stopped_is_queued_again(replayed: Callable[..., Search]) -> None:
    first = replayed(Replay(rising), trials=2)
    with closing(first.run()) as events:
        started = next(event for event in events if isinstance(event, Started))
    states = [record.state for record in first.study.records()]
    assert "running" not in states
    assert states[-1] == "waiting"
    second = replayed(Replay(rising), trials=2)
    resumed = next(event for event in second.run() if isinstance(event, Started))
    assert resumed.record.number != started.record.number
    assert resumed.record.architecture == started.record.architecture
    assert resumed.record.seed == started.record.seed


def test_what_a_crash_left_running_is_queued_again(replayed: Callable[..., Search]) -> None:
    crashed = replayed(Replay(rising), trials=2)
    trial = crashed.study.inner.ask()
    crashed._space.sample(trial)
    assert [record.state for record in crashed.study.records()] == ["running"]
    after = replayed(Replay(rising), trials=2)
    list(after.run())
    records = after.study.records()
    assert [record.state for record in records] == ["failed", "finished", "finished"]
    assert records[0].reason == "interrupted; queued again"
    assert after.study.inner.trials[1].params == trial.params


@pytest.mark.usefixtures("every_epoch")
def test_a_trial_that_was_interrupted_goes_on_after_its_last_whole_epoch(tmp_path: Path, small_mnist: Path) -> None:
    request = tiny_request(tmp_path, small_mnist, trials=1)
    with opened(request) as running:
        events = running.run()
        told = [next(event for event in events if isinstance(event, Progressed)) for _ in range(2)]
        events.close()
    home = running.study.where.home
    assert len(list(home.glob("seed_*"))) == 1
    (home / "seed_77_unfinished_01234567.safetensors").touch()  # of a search that was killed as a trial ended
    study = search(request)
    (trial,) = study.inner.get_trials(states=(TrialState.COMPLETE,))
    assert trial.user_attrs["epochs"][:2] == [event.result.to_dict() for event in told], "with their seconds"
    assert list(home.glob("seed_*")) == []
    (at_once,) = search(replace(request, root=tmp_path / "other")).leaderboard()
    (gone_on,) = study.leaderboard()
    assert replace(gone_on, number=0, seconds=0) == replace(at_once, seconds=0)


def test_studies_of_two_databases_in_one_folder_keep_their_own(tmp_path: Path) -> None:
    here = Study(place("a", root=tmp_path), None, None)  # type: ignore[arg-type]
    there = Study(place("a", f"sqlite:///{tmp_path}/other.db", tmp_path), None, None)  # type: ignore[arg-type]
    assert here.where.home == there.where.home == tmp_path / "a"
    here.where.home.mkdir()
    for study in (here, there):
        for seed in (1, 2, 11):
            start = study.unfinished_trial(seed).start
            start.with_name(f"{start.name}_01234567.safetensors").touch()
    for study, left in ((here, [1, 0, 0]), (there, [1, 0, 0])):
        study.forget_unfinished_trials({1, None})
        assert [len(study.unfinished_trial(seed).files()) for seed in (1, 2, 11)] == left
    assert len(list((tmp_path / "a").iterdir())) == 2


def test_what_a_killed_process_was_writing_is_cleared_away_when_it_is_old(tmp_path: Path) -> None:
    old, new = (tmp_path / f"{STAGING}{name}" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir()
        (folder / "half").touch()
    os.utime(old, (0, 0))
    clear_staging(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


def test_time_runs_out_and_the_study_goes_on_later(replayed: Callable[..., Search]) -> None:
    search = replayed(Replay(rising), trials=3, timeout=1e-9)
    list(search.run())
    assert search.timed_out
    assert search.trained == 0
    rest = replayed(Replay(rising), trials=3)
    list(rest.run())
    assert rest.trained == 3


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"budget": 10}, BudgetError, "--budget 10: no network of the space tiny can meet it"),
        ({"max_macs": 10}, BudgetError, "--max-macs 10: no network of the space tiny can meet it"),
        ({"budget": 0}, BudgetError, "budget must be at least 1, but got budget=0"),
        ({"trials": 0}, StudyError, "--trials must be at least 1, but got 0"),
        ({"epochs": 0}, StudyError, "--epochs must be between 1 and 10000, but got 0"),
        ({"epochs": 10001}, StudyError, "--epochs must be between 1 and 10000, but got 10001"),
        ({"seed": -1}, StudyError, "--seed must be between 0 and 2147483647, but got -1"),
        ({"seed": 2**32}, StudyError, "--seed must be between 0 and 2147483647, but got 4294967296"),
        ({"timeout": float("nan")}, StudyError, "--timeout must be above 0 seconds, but got nan"),
        ({"storage": "nonsense"}, StudyError, "--storage must be a URL such as sqlite:///study.db, but got 'nonsense'"),
        ({"timeout": -1.0}, StudyError, "--timeout must be above 0 seconds, but got -1"),
        ({"workers": -1}, WorkerError, "--workers must be at least 0, but got -1"),
        ({"sampler": "best"}, StudyError, "--sampler must be one of tpe, gp, random, but got 'best'"),
        ({"pruner": "best"}, StudyError, "--pruner must be one of median"),
        ({"space": "nowhere"}, SpaceError, "unknown space 'nowhere'"),
        ({"study": "../x"}, StudyError, "--study must be a plain name"),
        ({"data": "nowhere.npz"}, DataError, "nowhere.npz"),
        ({"device": "tpu"}, WorkerError, "--device must be auto, cpu, cuda or mps"),
        ({"hang_limit": 1.0}, WorkerError, "--hang-limit must be at least 10 seconds, but got 1"),
        ({"hang_limit": float("nan")}, WorkerError, "--hang-limit must be at least 10 seconds, but got nan"),
        ({"executor": "dask"}, WorkerError, "--executor must be one of local, ray, but got 'dask'"),
        ({"executor": "ray"}, WorkerError, "--workers must be at least 1 with --executor ray, but got 0"),
        ({"ray_address": "auto"}, WorkerError, "--ray-address needs --executor ray"),
        ({"job_gpus": 0.5}, WorkerError, "--job-gpus needs --executor ray"),
    ],
)
def test_a_bad_request_is_refused_and_nothing_is_written(
    tmp_path: Path, small_mnist: Path, options: dict[str, object], error: type[BudgetnetError], message: str
) -> None:
    with pytest.raises(error) as caught:
        search(tiny_request(tmp_path, small_mnist, **options))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "studies").exists()


def test_a_space_that_changed_since_is_refused_with_what_changed(tmp_path: Path, small_mnist: Path) -> None:
    search(tiny_request(tmp_path, small_mnist, trials=1))
    write_space(tmp_path, require={"receptive_field": 6})
    with pytest.raises(StudyError, match=r"space\.require\.receptive_field: 5 → 6; choose another --study"):
        search(tiny_request(tmp_path, small_mnist, trials=2))
    write_space(tmp_path, about="only words", **{key: TINY[key] for key in ("require",)})
    search(tiny_request(tmp_path, small_mnist, trials=1))
    with pytest.raises(StudyError, match=r"epochs: 3 → 4"):
        search(tiny_request(tmp_path, small_mnist, trials=2, epochs=4))


def test_images_of_another_shape_are_refused(tmp_path: Path, small_mnist: Path) -> None:
    write_space(tmp_path, classes=7)
    with pytest.raises(DataError, match="has classes 10, but the space tiny is for 7"):
        search(tiny_request(tmp_path, small_mnist))


def test_a_second_search_of_a_study_is_refused_and_names_the_first(tmp_path: Path, small_mnist: Path) -> None:
    import os

    request = tiny_request(tmp_path, small_mnist, trials=1)
    with opened(request), pytest.raises(StudyError, match=f"is in use by process {os.getpid()} on "):
        search(request)
    search(request)


def test_a_broken_database_is_one_line(tmp_path: Path, small_mnist: Path) -> None:
    request = tiny_request(tmp_path, small_mnist, trials=1, study="broken")
    folder = tmp_path / "studies" / "broken"
    folder.mkdir(parents=True)
    (folder / "study.db").write_bytes(b"this is no database, but it is long enough to be read as one" * 50)
    for attempt in (lambda: search(request), lambda: open_study("broken", root=tmp_path / "studies")):
        with pytest.raises(
            StudyError, match=r"study\.db: the study cannot be read or written: .*not a database"
        ) as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_a_study_of_somebody_else_is_left_alone(tmp_path: Path, small_mnist: Path) -> None:
    url = f"sqlite:///{tmp_path / 'theirs.db'}"
    optuna.create_study(study_name="theirs", storage=url, direction="minimize")
    with pytest.raises(StudyError, match="study theirs was not made by this version of budgetnet"):
        search(tiny_request(tmp_path, small_mnist, storage=url, study="theirs"))
    assert optuna.load_study(study_name="theirs", storage=url).user_attrs == {}


def test_a_study_of_several_objectives_is_left_alone(tmp_path: Path, small_mnist: Path) -> None:
    url = f"sqlite:///{tmp_path / 'theirs.db'}"
    optuna.create_study(study_name="theirs", storage=url, directions=["maximize", "minimize"])
    with pytest.raises(StudyError, match="study theirs was not made by this version of budgetnet"):
        search(tiny_request(tmp_path, small_mnist, storage=url, study="theirs"))


def test_a_database_of_another_optuna_is_one_line(tmp_path: Path) -> None:
    database = tmp_path / "old.db"
    optuna.create_study(study_name="old", storage=f"sqlite:///{database}")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v3.0.0.d'")
    with pytest.raises(StudyError, match=r"old\.db: The runtime optuna version .* is no longer compatible"):
        open_study("old", f"sqlite:///{database}", tmp_path)


def test_a_study_in_a_folder_of_studies_has_one_lock_and_one_home_however_it_is_named(tmp_path: Path) -> None:
    for name in ("x", "f/4000"):
        usual, spelt = place(name, root=tmp_path), place(name, f"sqlite:///{tmp_path / name / 'study.db'}", tmp_path)
        assert (usual.lock, usual.home) == (spelt.lock, spelt.home)
    one, other = (place(f"{folder}/4000", f"sqlite:///{tmp_path / 'all.db'}", tmp_path) for folder in "fg")
    assert one.lock != other.lock


def test_a_start_that_is_added_later_is_tried_when_the_search_goes_on(tmp_path: Path, small_mnist: Path) -> None:
    first = {"learning_rate": 0.05, "stage2.depth": 1}
    write_space(tmp_path, start=first)
    request = tiny_request(tmp_path, small_mnist, trials=2, epochs=1)
    assert search(request).record(0).drawn.items() >= first.items()
    added = {"learning_rate": 0.15, "stage2.depth": 2}
    write_space(tmp_path, start=[first, added])
    records = search(replace(request, trials=3)).records()
    assert [record.drawn.items() >= added.items() for record in records] == [False, False, True]
    assert len(search(replace(request, trials=4)).records()) == 4  # each once
    assert [record.drawn.items() >= first.items() for record in search(replace(request, trials=4)).records()].count(
        1
    ) == 1
    write_space(tmp_path, start=[first, added], require={"receptive_field": 6})
    with pytest.raises(StudyError, match=r"was made with other settings: space\.require\.receptive_field: 5 → 6;"):
        search(replace(request, trials=5))


def test_one_database_has_one_lock_wherever_the_search_is_started(tmp_path: Path, small_mnist: Path) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"
    request = tiny_request(tmp_path, small_mnist, storage=url, study="one", trials=1)
    elsewhere = replace(request, root=tmp_path / "elsewhere")
    with opened(request), pytest.raises(StudyError, match="study one is in use by process"):
        search(elsewhere)
    assert sum(record.trained for record in search(elsewhere).records()) == 1


def test_reading_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no study 'x' in"):
        open_study("x", f"sqlite:///{tmp_path / 'new.db'}", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_executor_is_what_the_request_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[object, ...]] = []
    monkeypatch.setattr("budgetnet.cluster.RayCluster", lambda *asked: made.append(asked))
    ray = Request(executor="ray", workers=3, device="cuda", ray_address="h:1", job_cpus=2.0, job_gpus=0.5)
    ray.workplace.open()
    assert made == [(3, "cuda", "h:1", 2.0, 0.5)]
    local = Request(workers=2, device="cpu", hang_limit=60.0).workplace.open()
    assert isinstance(local, LocalProcesses)
    assert (local.slots, local.device, local.hang_limit) == (2, "cpu", 60.0)
    assert local.threads == max(1, cores() // 2)
    usual = Request(device="cpu").workplace.open()
    assert isinstance(usual, LocalProcesses)
    assert (usual.slots, usual.threads) == (cores(), 1)


def test_the_lock_is_free_again_after_an_error(tmp_path: Path, small_mnist: Path) -> None:
    request = tiny_request(tmp_path, small_mnist)
    where = request.place(request.check()[0])
    with pytest.raises(RuntimeError), locked(where):
        raise RuntimeError
    with locked(where):
        pass


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_goes_on_after_its_random_start(replayed: Callable[..., Search], name: str) -> None:
    search = replayed(Replay(rising), trials=STARTUP + 2, sampler=name, epochs=1)
    list(search.run())
    assert search.trained == STARTUP + 2


def test_every_named_pruner_can_be_made() -> None:
    for name in PRUNERS:
        assert isinstance(make_pruner(name, 15), optuna.pruners.BasePruner)
