"""The search: asks Optuna for shapes, fits them to the budget, has them trained, and tells what came of it.

One writer: only the coordinator talks to the study; workers only train. ``Search.run`` is a generator of events, so a
terminal, a notebook or a test can watch.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

from optuna.trial import Trial, TrialState

from budgetnet.architecture import Architecture
from budgetnet.cost import cost
from budgetnet.errors import ArchitectureError, BudgetError, WorkerError
from budgetnet.executor import Executor, choose_device, local
from budgetnet.fields import extent, feature_field
from budgetnet.jobs import Audited, EpochDone, Event, Failed, Finished, Job, Stopped
from budgetnet.plan import Plan, Request, make_pruner, make_sampler
from budgetnet.recipe import Recipe
from budgetnet.results import EpochResult
from budgetnet.space import SearchSpace
from budgetnet.study import VALUE_EPOCHS, Study, TrialRecord, create_or_open, locked, storage_errors

MAX_IDLE = 300  # proposals in a row that bring nothing new before the space counts as exhausted
MAX_FAILURES = 10  # trials in a row that fail before the search gives up
LISTEN = 1.0  # seconds between two looks for events, so that Ctrl-C is heard everywhere

# --- what a watcher sees ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Started:
    """A trial begins to train."""

    record: TrialRecord


@dataclass(frozen=True)
class Progressed:
    """A trial has finished an epoch."""

    number: int
    result: EpochResult


@dataclass(frozen=True)
class Ended:
    """A trial has been told: finished, pruned, rejected, duplicate or failed."""

    record: TrialRecord


SearchEvent = Started | Progressed | Ended


@dataclass
class Tally:
    """What became of the proposals of this run; ``rejected`` and ``failed`` by reason."""

    sampled: int = 0
    finished: int = 0
    pruned: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)


# --- the search -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Candidate:
    architecture: Architecture
    recipe: Recipe

    @property
    def key(self) -> str:
        """Equal for equal networks with equal recipes."""
        return json.dumps([self.architecture.to_dict(), self.recipe.to_dict()], sort_keys=True)


@dataclass(frozen=True)
class _Rejection:
    """Why a proposal is not trained, in a word for the tally and in full."""

    kind: str
    reason: str


@dataclass
class _Running:
    trial: Trial
    record: TrialRecord
    key: str
    results: list[EpochResult] = field(default_factory=list)
    pruned: bool = False


class Search:
    """One run of a search on an open study. The study's lock must be held."""

    def __init__(self, study: Study, space: SearchSpace, plan: Plan, executor: Executor) -> None:
        self.study = study
        self.plan = plan
        self.tally = Tally()
        self.timed_out = False
        self.exhausted = False  # so many proposals in a row were rejected or known that there seems to be nothing new
        self._space = space
        self._executor = executor
        self._settings = study.settings
        self._running: dict[int, _Running] = {}
        self._known: dict[str, TrialRecord] = {}
        self._trained = 0
        self._rejections = 0
        self._failures_in_a_row = 0

    def run(self) -> Generator[SearchEvent, None, None]:
        """Search until the plan's trials are trained. Closing the generator early stops the workers and keeps the
        study: trials under way are queued again. Raises StudyError, WorkerError."""
        deadline = None if self.plan.timeout is None else time.monotonic() + self.plan.timeout
        with storage_errors(self.study.where):
            self._take_stock()
            try:
                while not self._is_late(deadline):
                    while len(self._running) < self._executor.slots and self._wants_more():
                        yield from self._launch(deadline)
                    if not self._running:
                        return
                    for event in self._executor.events(LISTEN):
                        yield from self._handle(event)
            finally:
                self._give_back()

    @property
    def trained(self) -> int:
        """Trials of the study that were finished or pruned; what ``--trials`` counts."""
        return self._trained

    def _wants_more(self) -> bool:
        open_trials = self.plan.trials - self._trained - len(self._running)
        return open_trials > 0 and not self.exhausted and not self.timed_out

    def _is_late(self, deadline: float | None) -> bool:
        self.timed_out = deadline is not None and time.monotonic() >= deadline
        return self.timed_out

    # --- before and after ---------------------------------------------------------------------------------------------

    def _take_stock(self) -> None:
        """Read what is there; queue again what a crash left running; set the sampler and pruner."""
        self._requeue_running()
        for record in self.study.records():
            if record.architecture is not None and record.recipe is not None and record.trained:
                self._known[_Candidate(record.architecture, record.recipe).key] = record
            self._trained += record.trained
            self._rejections += record.state == "rejected"
        self.study.inner.pruner = make_pruner(self.plan.pruner, self._settings.epochs)
        self._reset_sampler()

    def _reset_sampler(self) -> None:
        """A rejected trial must not use up one of the sampler's random start-up trials."""
        count = len(self.study.inner.get_trials(deepcopy=False))
        self.study.inner.sampler = make_sampler(
            self.plan.sampler, seed=self._settings.seed + count, spared=self._rejections
        )

    def _requeue_running(self) -> None:
        """Queue again, with its seed, every trial that the study has as running, and end it there.

        In this order: a crash between the two leaves a trial that is queued twice, and the second time it is answered
        from the record.
        """
        inner = self.study.inner
        for trial in inner.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            seed = trial.user_attrs.get("seed", self._settings.seed + trial.number)
            inner.enqueue_trial(params, user_attrs={"again": trial.number, "seed": seed})
            inner.tell(trial.number, state=TrialState.FAIL)

    def _give_back(self) -> None:
        """Stop what still runs and queue it again."""
        for number in self._running:
            self._executor.stop(number)
        self._running.clear()
        self._requeue_running()

    # --- proposals ----------------------------------------------------------------------------------------------------

    def _launch(self, deadline: float | None) -> Iterator[SearchEvent]:
        """Ask until a new, valid candidate comes, and have it trained."""
        for _ in range(MAX_IDLE):
            if self._is_late(deadline):
                return
            trial = self.study.inner.ask()
            self.tally.sampled += 1
            candidate = self._draw(trial)
            if isinstance(candidate, _Rejection):
                yield Ended(self._reject(trial, candidate))
            elif candidate.key in self._known:
                yield Ended(self._answer(trial, candidate, self._known[candidate.key]))
            elif twin := next((r for r in self._running.values() if r.key == candidate.key), None):
                yield Ended(self._answer(trial, candidate, twin.record))
            else:
                yield Started(self._submit(trial, candidate))
                return
        self.exhausted = True

    def _draw(self, trial: Trial) -> _Candidate | _Rejection:
        try:
            draft, recipe = self._space.sample(trial)
            architecture = draft.fit(self._settings.limits)
        except BudgetError as error:
            return _Rejection("over budget", str(error))
        except ArchitectureError as error:
            return _Rejection("map vanished", str(error))
        if missed := self._space.shortcoming(architecture):
            return _Rejection(*missed)
        return _Candidate(architecture, replace(recipe, epochs=self._settings.epochs))

    def _reject(self, trial: Trial, rejection: _Rejection) -> TrialRecord:
        self.tally.rejected[rejection.kind] += 1
        self._rejections += 1
        trial.set_constraint(rejection.kind, 1.0)
        trial.set_user_attr("state", "rejected")
        trial.set_user_attr("reason", rejection.reason)
        self.study.inner.tell(trial, state=TrialState.PRUNED)
        self._reset_sampler()
        return TrialRecord(trial.number, "rejected", reason=rejection.reason)

    def _answer(self, trial: Trial, candidate: _Candidate, known: TrialRecord) -> TrialRecord:
        """Tell the value of an equal trial instead of training it again; nothing yet where that is still running."""
        self.tally.duplicates += 1
        reason = f"equal to trial {known.number}"
        trial.set_user_attr("state", "duplicate")
        trial.set_user_attr("reason", reason)
        if known.state == "finished" and known.value is not None:
            self.study.inner.tell(trial, known.value)
        else:
            self.study.inner.tell(trial, state=TrialState.PRUNED if known.state == "pruned" else TrialState.FAIL)
        return replace(known, number=trial.number, state="duplicate", reason=reason)

    def _submit(self, trial: Trial, candidate: _Candidate) -> TrialRecord:
        _, field_ = feature_field(candidate.architecture)
        record = TrialRecord(
            number=trial.number,
            state="running",
            architecture=candidate.architecture,
            recipe=candidate.recipe,
            cost=cost(candidate.architecture),
            receptive_field=min(extent(field_)),
            seed=trial.user_attrs.get("seed", self._settings.seed + trial.number),
        )
        trial.set_user_attr("notation", str(candidate.architecture))
        trial.set_user_attr("architecture", candidate.architecture.to_dict())
        trial.set_user_attr("recipe", candidate.recipe.to_dict())
        trial.set_user_attr("receptive_field", record.receptive_field)
        trial.set_user_attr("seed", record.seed)
        self._running[trial.number] = _Running(trial, record, candidate.key)
        self._executor.submit(
            Job(
                trial.number,
                candidate.architecture,
                candidate.recipe,
                self._settings.data,
                "search",
                record.seed,
                images=self._settings.images,
            )
        )
        return record

    # --- what training brings -----------------------------------------------------------------------------------------

    def _handle(self, event: Event) -> Iterator[SearchEvent]:
        running = self._running.get(event.job)
        if running is None:
            return
        if isinstance(event, Audited):
            self._audited(running, event)
        elif isinstance(event, EpochDone):
            yield self._epoch(running, event.result)
        elif isinstance(event, Failed):
            record = self._fail(running.trial, running.record, event.reason)
            del self._running[event.job]
            yield Ended(record)
        elif isinstance(event, Finished | Stopped):
            record = self._end(running)
            del self._running[event.job]
            yield Ended(record)

    def _audited(self, running: _Running, event: Audited) -> None:
        """What fvcore counted is what is recorded."""
        running.record = replace(running.record, cost=event.cost)
        for name, value in asdict(event.cost).items():
            running.trial.set_user_attr(name, value)

    def _epoch(self, running: _Running, result: EpochResult) -> Progressed:
        running.results.append(result)
        running.record = replace(
            running.record,
            curve=(*running.record.curve, result.accuracy),
            seconds=running.record.seconds + result.seconds,
        )
        running.trial.report(result.accuracy, result.epoch)
        last = result.epoch == self._settings.epochs
        if not last and not running.pruned and running.trial.should_prune():
            running.pruned = True
            self._executor.stop(running.trial.number)
        return Progressed(running.trial.number, result)

    def _end(self, running: _Running) -> TrialRecord:
        complete = len(running.results) == self._settings.epochs
        running.trial.set_user_attr("seconds", round(running.record.seconds, 3))
        running.trial.set_user_attr("epochs", [result.to_dict() for result in running.results])
        if complete:
            value = sum(running.record.curve[-VALUE_EPOCHS:]) / len(running.record.curve[-VALUE_EPOCHS:])
            self.study.inner.tell(running.trial, value)
            record = replace(running.record, state="finished", value=value)
            self.tally.finished += 1
        else:
            reason = f"pruned after epoch {len(running.results)}"
            running.trial.set_user_attr("reason", reason)
            self.study.inner.tell(running.trial, state=TrialState.PRUNED)
            record = replace(running.record, state="pruned", value=running.record.curve[-1], reason=reason)
            self.tally.pruned += 1
        self._trained += 1
        self._failures_in_a_row = 0
        self._known[running.key] = record
        return record

    def _fail(self, trial: Trial, record: TrialRecord, reason: str) -> TrialRecord:
        """A failed trial fails alone, unless trial after trial fails. Raises WorkerError then."""
        self.tally.failed[reason.split(":")[0]] += 1
        self._failures_in_a_row += 1
        trial.set_user_attr("reason", reason)
        self.study.inner.tell(trial, state=TrialState.FAIL)
        if self._failures_in_a_row >= MAX_FAILURES:
            raise WorkerError(f"{MAX_FAILURES} trials in a row failed; the last: {reason}")
        return replace(record, state="failed", reason=reason)


# --- the whole of it --------------------------------------------------------------------------------------------------


@contextmanager
def opened(request: Request) -> Iterator[Search]:
    """Check the request, take the study's lock, start the executor; on leaving, stop and free all of it.

    Raises BudgetnetError before anything is written when the request cannot be met.
    """
    space, settings, plan = request.check()
    device = choose_device(request.device)
    where = request.place(space)
    with locked(where):
        study = create_or_open(where, settings)
        executor = local(request.workers, device)
        try:
            yield Search(study, space, plan, executor)
        finally:
            executor.close()


def search(request: Request | None = None, **options: object) -> Study:
    """Run a search to its end and return the study: ``budgetnet.search(budget=8000, trials=14)``.

    ``options`` are the fields of Request. In a script, call it under ``if __name__ == "__main__":``, since worker
    processes import the script. Raises BudgetnetError.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself looks for it
        raise WorkerError('a worker imported the script that searches; call search under if __name__ == "__main__":')
    asked = replace(request or Request(), **options)  # type: ignore[arg-type]
    with opened(asked) as running:
        for _ in running.run():
            pass
        return running.study
