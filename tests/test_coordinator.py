"""The search: what is counted, told, resumed, requeued and refused – with real trials on real images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from budgetnet.architecture import Architecture
from budgetnet.coordinator import Ended, Progressed, Search, Started, opened, search
from budgetnet.errors import BudgetError, BudgetnetError, DataError, SpaceError, StudyError, WorkerError
from budgetnet.executor import Audited, EpochDone, Event, Failed, Finished, Job, Stopped
from budgetnet.plan import PRUNERS, SAMPLERS, STARTUP, make_pruner, make_sampler
from budgetnet.recipe import EpochResult
from budgetnet.study import create_or_open, locked, open_study
from tests.tiny import TINY, tiny_request, write_space


class Replay:
    """An executor that trains nothing: epochs come from a function of (job, epoch). For what is not about training."""

    slots = 1

    def __init__(
        self, accuracy: Callable[[Job, int], float], fail: Callable[[Job], str | None] = lambda job: None
    ) -> None:
        self.submitted: list[Job] = []
        self._accuracy, self._fail = accuracy, fail
        self._events: Iterator[Event] = iter(())
        self._stop = False

    def submit(self, job: Job) -> None:
        self._stop = False
        self.submitted.append(job)
        self._events = self._run(job)

    def _run(self, job: Job) -> Iterator[Event]:
        from budgetnet.cost import cost

        yield Audited(job.id, cost(job.architecture))
        if reason := self._fail(job):
            yield Failed(job.id, reason)
            return
        for epoch in range(1, job.recipe.epochs + 1):
            if self._stop:
                yield Stopped(job.id)
                return
            accuracy = self._accuracy(job, epoch)
            yield EpochDone(
                job.id, EpochResult(epoch, 0.1, 1.0, accuracy, accuracy, 1.0, round(accuracy * 1000), 1000, 0.1)
            )
        yield Finished(job.id)

    def stop(self, job: int) -> None:
        self._stop = True

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        event = next(self._events, None)
        return iter(() if event is None else (event,))

    def close(self) -> None:
        pass


@pytest.fixture
def replayed(tmp_path: Path, small_mnist: Path) -> Callable[..., Search]:
    """A search over the tiny space with a Replay executor; the study persists between calls."""

    def make(executor: Replay, **options: object) -> Search:
        request = tiny_request(tmp_path, small_mnist, **options)
        space, settings, plan = request.check()
        return Search(create_or_open(request.place(space), settings), space, plan, executor)  # type: ignore[arg-type]

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


def test_rejected_trials_do_not_use_up_the_samplers_random_start() -> None:
    sampler = make_sampler("tpe", 0, spared=7)
    assert sampler._n_startup_trials == STARTUP + 7  # type: ignore[attr-defined]


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


def test_an_equal_candidate_is_answered_from_the_record(tmp_path: Path, small_mnist: Path) -> None:
    fixed = {"learning_rate": 0.1, "batch_size": 64}
    network = {"stages": [{"depth": {"min": 1, "max": 3}}]}
    write_space(tmp_path, network=network, recipe=fixed)
    request = tiny_request(tmp_path, small_mnist, trials=3)
    space, settings, plan = request.check()
    executor = Replay(rising)
    search = Search(create_or_open(request.place(space), settings), space, plan, executor)  # type: ignore[arg-type]
    list(search.run())
    assert len(executor.submitted) == 3
    duplicates = [record for record in search.study.records() if record.state == "duplicate"]
    assert len(duplicates) == search.tally.duplicates > 0
    more = Search(search.study, space, replace(plan, trials=4), Replay(rising))  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="the space seems to be exhausted"):
        list(more.run())


def test_a_failed_trial_fails_alone_and_does_not_count(replayed: Callable[..., Search]) -> None:
    search = replayed(Replay(rising, fail=lambda job: "epoch 1: NaN" if job.id == 1 else None), trials=3)
    list(search.run())
    failed = [record for record in search.study.records() if record.state == "failed"]
    assert [record.reason for record in failed] == ["epoch 1: NaN"]
    assert search.trained == 3


def test_trial_after_trial_failing_ends_the_search(replayed: Callable[..., Search]) -> None:
    search = replayed(Replay(rising, fail=lambda job: "out of memory"), trials=3)
    with pytest.raises(WorkerError, match="10 trials in a row failed; the last: out of memory"):
        list(search.run())


def test_what_was_running_when_the_search_stopped_is_queued_again(replayed: Callable[..., Search]) -> None:
    first = replayed(Replay(rising), trials=2)
    with closing(first.run()) as events:
        started = next(event for event in events if isinstance(event, Started))
    states = [record.state for record in first.study.records()]
    assert "running" not in states
    assert states[-1] == "waiting"
    second = replayed(Replay(rising), trials=2)
    resumed = next(event for event in second.run() if isinstance(event, Started))
    assert resumed.record.architecture == started.record.architecture


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
        ({"epochs": 0}, StudyError, "--epochs must be at least 1, but got 0"),
        ({"seed": -1}, StudyError, "--seed must be at least 0, but got -1"),
        ({"timeout": -1.0}, StudyError, "--timeout must be above 0 seconds, but got -1"),
        ({"workers": -1}, WorkerError, "--workers must be at least 0, but got -1"),
        ({"sampler": "best"}, StudyError, "--sampler must be one of tpe, gp, random, but got 'best'"),
        ({"pruner": "best"}, StudyError, "--pruner must be one of median"),
        ({"space": "nowhere"}, SpaceError, "unknown space 'nowhere'"),
        ({"study": "../x"}, StudyError, "--study must be a plain name"),
        ({"data": "nowhere.npz"}, DataError, "nowhere.npz"),
        ({"device": "tpu"}, WorkerError, "--device must be auto, cpu, cuda or mps"),
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
    with opened(request), pytest.raises(StudyError, match=f"is being searched by process {os.getpid()} on "):
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


def test_the_lock_is_free_again_after_an_error(tmp_path: Path, small_mnist: Path) -> None:
    request = tiny_request(tmp_path, small_mnist)
    where = request.place(request.check()[0])
    with pytest.raises(RuntimeError), locked(where):
        raise RuntimeError
    with locked(where):
        pass


def test_every_named_sampler_and_pruner_can_be_made() -> None:
    for name in SAMPLERS:
        assert isinstance(make_sampler(name, 0), optuna.samplers.BaseSampler)
    for name in PRUNERS:
        assert isinstance(make_pruner(name, 15), optuna.pruners.BasePruner)
