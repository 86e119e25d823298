"""The search: asks Optuna for shapes, fits them to the budget, has them trained, and tells what came of it.

One writer: only the coordinator talks to the study; workers only train. ``Search.run`` is a generator of events, so a
terminal, a notebook or a test can watch. That a trial has ended is kept in the study before it is told.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Any

from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from budgetnet.candidates import Candidate, Rejection, draw, screened
from budgetnet.cost import cost
from budgetnet.errors import WorkerError
from budgetnet.executor import Executor
from budgetnet.files import clear_staging
from budgetnet.jobs import MAX_LOSSES, Audited, EpochDone, Event, Failed, Finished, Job, Lost, Stopped
from budgetnet.ledger import Ledger, judged, unjudged
from budgetnet.lock import locked
from budgetnet.plan import Plan, Request, make_pruner
from budgetnet.progress import Ended, Progressed, SearchEvent, Started, Tally
from budgetnet.results import EpochResult
from budgetnet.samplers import make_sampler
from budgetnet.space import SearchSpace
from budgetnet.study import VALUE_EPOCHS, Study, TrialRecord, create_or_open, storage_errors

PATIENCE = 20  # rejected proposals in a row before a valid one is looked for among SCREENED random ones
SCREENED = 5000
MAX_IDLE = 300  # proposals in a row that bring nothing new before the space counts as exhausted
MAX_FAILURES = 10  # trials in a row that fail, for whatever cause, before the search gives up
MAX_SAME_FAILURES = 5  # … of one and the same cause
SAVE_AFTER = 0.5  # seconds after which starts and epochs are saved, if no trial has ended before
LISTEN = 1.0  # seconds between two looks for events, so that Ctrl-C is heard everywhere


@dataclass
class _Running:
    trial: Trial
    record: TrialRecord
    key: str
    results: list[EpochResult] = field(default_factory=list)
    pruned: bool = False  # decided; what the job still tells before it stops is left out
    broken: str | None = None  # why the job is being stopped as a failure


class Search:
    """One run of a search on an open study. The study's lock must be held."""

    def __init__(
        self, study: Study, space: SearchSpace, plan: Plan, executor: Executor, notes: tuple[str, ...] = ()
    ) -> None:
        self.study = study
        self.notes = notes  # what a person should know of the data
        self.plan = plan
        self.tally = Tally()
        self.timed_out = False
        self.exhausted = False  # so many proposals in a row were rejected or known that there seems to be nothing new
        self._space = space
        self._executor = executor
        self._settings = study.settings
        with storage_errors(study.where):
            self._ledger = Ledger(study)
        self._running: dict[int, _Running] = {}
        self._over_with: list[int] = []  # seeds of trials that have ended, whose whole epochs are needed no more
        self._known: dict[str, TrialRecord] = {}
        self._trained = 0
        self._saved = time.monotonic()
        self._failures: list[str] = []  # the causes of the failures since a trial last went well

    def run(self) -> Generator[SearchEvent, None, None]:
        """Search until the plan's trials are trained. Closing the generator early stops the workers and keeps the
        study: trials under way are queued again. Raises StudyError, WorkerError."""
        deadline = None if self.plan.timeout is None else time.monotonic() + self.plan.timeout
        with storage_errors(self.study.where):
            self._take_stock()
            try:
                while not self._is_late(deadline):
                    yield from self._kept(self._fill_slots(deadline))
                    if not self._running:
                        return
                    yield from self._kept(e for event in self._executor.events(LISTEN) for e in self._handle(event))
            finally:
                self._give_back()

    @property
    def trained(self) -> int:
        """Trials of the study that were finished or pruned; what ``--trials`` counts."""
        return self._trained

    def _kept(self, events: Iterable[SearchEvent]) -> list[SearchEvent]:
        """The events, once the storage has what must not be lost; starts and epochs may wait for SAVE_AFTER."""
        happened = list(events)
        if any(isinstance(event, Ended) for event in happened) or time.monotonic() - self._saved > SAVE_AFTER:
            self._ledger.save()
            self._saved = time.monotonic()
            while self._over_with:
                self.study.unfinished_trial(self._over_with.pop()).forget()
        return happened

    def _wants_more(self) -> bool:
        open_trials = self.plan.trials - self._trained - len(self._running)
        return open_trials > 0 and not self.exhausted and not self.timed_out

    def _is_late(self, deadline: float | None) -> bool:
        self.timed_out = deadline is not None and time.monotonic() >= deadline
        return self.timed_out

    # --- before and after ---------------------------------------------------------------------------------------------

    def _take_stock(self) -> None:
        """Read what is there; queue again what a crash left running, clear away the rest; set sampler and pruner."""
        self._requeue_running()
        self._ledger.save()
        waiting = self._ledger.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        self.study.forget_unfinished_trials({trial.user_attrs.get("seed") for trial in waiting})
        clear_staging(self.study.where.home)
        records = self.study.records()
        for record in records:
            if record.architecture is not None and record.recipe is not None and record.trained:
                self._known[Candidate(record.architecture, record.recipe).key] = record
            self._trained += record.trained
        if self._trained < self.plan.trials:
            self._queue_starts()
        self._ledger.set(
            make_sampler(self.plan.sampler, self._settings.seed + len(records)),
            make_pruner(self.plan.pruner, self._settings.epochs),
        )

    def _queue_starts(self) -> None:
        """Queue what the space starts with, and what it has been given to start with since the study was made."""
        queued = [trial.system_attrs.get("fixed_params") for trial in self._ledger.study.get_trials(deepcopy=False)]
        for start in self._space.start:
            if start not in queued:
                self._ledger.study.enqueue_trial(start)

    def _requeue_running(self) -> None:
        """Queue again every trial that the study has as running, and end it there."""
        for trial in self._ledger.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._requeue(trial.number)

    def _requeue(self, number: int, losses: int = 0) -> None:
        """Queue a trial again, with its seed, and end it. The ledger keeps both or neither."""
        trial = self._ledger.study.get_trials(deepcopy=False)[number]
        params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        seed = trial.user_attrs.get("seed", self._settings.seed + trial.number)
        again = {"again": trial.number, "seed": seed, "losses": losses or trial.user_attrs.get("losses", 0)}
        known = {"fixed_params": params, **self._passed(trial)}
        trial.system_attrs = unjudged(trial).system_attrs
        self._ledger.study.add_trial(create_trial(state=TrialState.WAITING, system_attrs=known, user_attrs=again))
        self._ledger.study.tell(trial.number, state=TrialState.FAIL)

    def _passed(self, trial: FrozenTrial) -> dict[str, Any]:
        """What halving is not to ask the trial again, which now knows more rivals than when it was asked. Not the last:
        whether that went well is not noted. Hyperband asks by number, so that a new trial is asked other things."""
        return dict(judged(trial)[:-1]) if self.plan.pruner == "halving" else {}

    def _give_back(self) -> None:
        """Stop what still runs and queue it again."""
        for number in self._running:
            self._executor.stop(number)
        self._running.clear()
        self._requeue_running()
        self._ledger.save()

    # --- proposals ----------------------------------------------------------------------------------------------------

    def _fill_slots(self, deadline: float | None) -> Iterator[SearchEvent]:
        while len(self._running) < self._executor.slots and self._wants_more():
            yield from self._launch(deadline)

    def _launch(self, deadline: float | None) -> Iterator[SearchEvent]:
        """Ask until a new, valid candidate comes, and have it trained."""
        rejected = 0  # in a row
        for _ in range(MAX_IDLE):
            if self._is_late(deadline):
                return
            if rejected >= PATIENCE:
                self._help_out()
                rejected = 0
            trial = self._ledger.study.ask()
            self.tally.sampled += 1
            candidate = draw(self._space, self._settings, trial)
            rejected = rejected + 1 if isinstance(candidate, Rejection) else 0
            if isinstance(candidate, Rejection):
                yield Ended(self._reject(trial, candidate))
            elif candidate.key in self._known:
                yield Ended(self._answer(trial, self._known[candidate.key]))
            elif twin := next((r for r in self._running.values() if r.key == candidate.key), None):
                yield Ended(self._answer(trial, twin.record))
            else:
                yield Started(self._submit(trial, candidate))
                return
        self.exhausted = True

    def _help_out(self) -> None:
        """Queue a candidate that is known to be valid, where the sampler finds none."""
        first = self._settings.seed + SCREENED * len(self._ledger.study.get_trials(deepcopy=False))
        if found := screened(self._space, self._settings, range(first, first + SCREENED)):
            self._ledger.study.enqueue_trial(found)

    def _tell(self, trial: Trial, value: float | None = None, state: TrialState | None = None) -> None:
        self._ledger.study.tell(trial, value, state=state)

    def _reject(self, trial: Trial, rejection: Rejection) -> TrialRecord:
        self.tally.rejected[rejection.kind] += 1
        trial.set_constraint(rejection.kind, 1.0)
        trial.set_user_attr("state", "rejected")
        trial.set_user_attr("reason", rejection.reason)
        if rejection.architecture is not None:
            trial.set_user_attr("notation", str(rejection.architecture))
        self._tell(trial, state=TrialState.PRUNED)
        return TrialRecord(trial.number, "rejected", reason=rejection.reason)

    def _answer(self, trial: Trial, known: TrialRecord) -> TrialRecord:
        """Tell the value of an equal trial instead of training it again; nothing yet where that is still running."""
        self.tally.duplicates += 1
        reason = f"equal to trial {known.number}"
        trial.set_user_attr("state", "duplicate")
        trial.set_user_attr("reason", reason)
        trial.set_user_attr("notation", str(known.architecture))
        if known.state == "finished" and known.value is not None:
            self._tell(trial, known.value)
        else:
            self._tell(trial, state=TrialState.PRUNED if known.state == "pruned" else TrialState.FAIL)
        return replace(known, number=trial.number, state="duplicate", reason=reason)

    def _submit(self, trial: Trial, candidate: Candidate) -> TrialRecord:
        record = TrialRecord(
            number=trial.number,
            state="running",
            architecture=candidate.architecture,
            recipe=candidate.recipe,
            cost=cost(candidate.architecture),
            receptive_field=candidate.receptive_field,
            seed=trial.user_attrs.get("seed", self._settings.seed + trial.number),
            drawn=dict(trial.params),
        )
        for name, value in {**candidate.attributes, "seed": record.seed}.items():
            trial.set_user_attr(name, value)
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
                checkpoint=str(self.study.unfinished_trial(record.seed).start),
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
            if running.broken is None and not running.pruned:
                yield from self._epoch(running, event.result)
        elif isinstance(event, Failed | Lost | Finished | Stopped):
            del self._running[event.job]
            yield Ended(self._over(running, event))

    def _over(self, running: _Running, event: Failed | Lost | Finished | Stopped) -> TrialRecord:
        if isinstance(event, Lost) and not running.pruned:
            return self._lose(running, event.reason)
        self._over_with.append(running.record.seed)
        reason = event.reason if isinstance(event, Failed) else running.broken
        return self._end(running) if reason is None or running.pruned else self._fail(running, reason)

    def _audited(self, running: _Running, event: Audited) -> None:
        """What fvcore counted is what is recorded."""
        running.record = replace(running.record, cost=event.cost)
        for name, value in asdict(event.cost).items():
            running.trial.set_user_attr(name, value)

    def _epoch(self, running: _Running, result: EpochResult) -> Iterator[Progressed]:
        if not isfinite(result.accuracy):
            running.broken = f"validation accuracy must be finite: {result.accuracy} in epoch {result.epoch}"
            self._executor.stop(running.trial.number)
            return
        running.results.append(result)
        running.record = replace(
            running.record,
            curve=(*running.record.curve, result.accuracy),
            seconds=running.record.seconds + result.seconds,
        )
        running.trial.report(result.accuracy, result.epoch)
        last = result.epoch == self._settings.epochs
        if not last and running.trial.should_prune():
            running.pruned = True
            self._executor.stop(running.trial.number)
        yield Progressed(running.trial.number, result)

    def _end(self, running: _Running) -> TrialRecord:
        running.trial.set_user_attr("seconds", round(running.record.seconds, 3))
        running.trial.set_user_attr("epochs", [result.to_dict() for result in running.results])
        if not running.pruned:
            value = sum(running.record.curve[-VALUE_EPOCHS:]) / len(running.record.curve[-VALUE_EPOCHS:])
            self._tell(running.trial, value)
            record = replace(running.record, state="finished", value=value)
            self.tally.finished += 1
        else:
            reason = f"pruned after epoch {len(running.results)}"
            running.trial.set_user_attr("reason", reason)
            self._tell(running.trial, state=TrialState.PRUNED)
            record = replace(running.record, state="pruned", value=running.record.curve[-1], reason=reason)
            self.tally.pruned += 1
        self._trained += 1
        self._failures.clear()
        self._known[running.key] = record
        return record

    def _lose(self, running: _Running, reason: str) -> TrialRecord:
        """Queue again what was lost with its machine – unless it was every time: then it fails."""
        losses = running.trial.user_attrs.get("losses", 0) + 1
        if losses >= MAX_LOSSES:
            return self._fail(running, f"lost with its machine {losses} times; the last: {reason}")
        self.tally.lost += 1
        self._requeue(running.trial.number, losses)
        return replace(running.record, state="failed", reason=f"{reason}; queued again")

    def _fail(self, running: _Running, reason: str) -> TrialRecord:
        """A failed trial fails alone, unless trial after trial fails. Raises WorkerError then."""
        cause = reason.split(":")[0]
        self.tally.failed[cause] += 1
        self._failures.append(cause)
        running.trial.set_user_attr("reason", reason)
        self._tell(running.trial, state=TrialState.FAIL)
        same = len(set(self._failures[-MAX_SAME_FAILURES:])) == 1 and len(self._failures) >= MAX_SAME_FAILURES
        if same or len(self._failures) >= MAX_FAILURES:
            alike = " for the same cause" if same else ""
            raise WorkerError(f"{len(self._failures)} trials in a row failed{alike}; the last: {reason}")
        return replace(running.record, state="failed", reason=reason)


# --- the whole of it --------------------------------------------------------------------------------------------------


@contextmanager
def opened(request: Request) -> Iterator[Search]:
    """Check the request, take the study's lock, start the executor; on leaving, stop and free all of it.

    Raises BudgetnetError before anything is written when the request cannot be met.
    """
    asked = request.checked()
    where = request.place(asked.space)
    with closing(asked.workplace.open()) as executor, locked(where):
        study = create_or_open(where, asked.settings)
        if asked.training is not None:
            study.recognise(training=asked.training)
        yield Search(study, asked.space, asked.plan, executor, asked.notes)


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
