"""What a search tells those who watch it: its events, the tally of its proposals, and how far it is."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from heapq import heapify, heapreplace
from typing import TYPE_CHECKING, Any

from budgetnet.results import EpochResult
from budgetnet.statistics import mean
from budgetnet.study import VALUE_EPOCHS, TrialRecord

if TYPE_CHECKING:
    from budgetnet.coordinator import Search

BEST = 5  # trials that are kept as the best so far
ENDED = 100  # trials that are kept as those that ended last


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
    """A trial is over, and kept: finished, pruned, rejected, duplicate, failed, or lost with its machine."""

    record: TrialRecord


SearchEvent = Started | Progressed | Ended


@dataclass
class Tally:
    """What became of the proposals of this run; ``rejected`` and ``failed`` by reason. ``lost``: queued again."""

    sampled: int = 0
    finished: int = 0
    pruned: int = 0
    duplicates: int = 0
    lost: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**vars(self), "rejected": dict(self.rejected), "failed": dict(self.failed)}


# --- how far it is ----------------------------------------------------------------------------------------------------


@dataclass
class Running:
    """A trial that trains. ``since``: when its last epoch ended, or it started, by the clock of its Progress."""

    record: TrialRecord
    since: float
    results: list[EpochResult] = field(default_factory=list)

    @property
    def curve(self) -> tuple[float, ...]:
        """Validation accuracy of every epoch so far."""
        return tuple(result.accuracy for result in self.results)


@dataclass(frozen=True)
class Outlook:
    """Seconds still to go: about, if trials go on to be pruned as they were so far; at most, if none is any more."""

    about: float
    most: float


@dataclass(frozen=True)
class Rank:
    """A place among those that came as far, itself included; 1 is the best."""

    place: int
    of: int


@dataclass(frozen=True)
class Fate:
    """How a trial of this run ended, and where it stood then; failed ones stand nowhere."""

    record: TrialRecord
    rank: Rank | None


@dataclass
class _Pace:
    seconds: float = 0.0
    epochs: int = 0


class Progress:
    """What the events of a search add up to, with the study's earlier trials. ``clock`` gives seconds.

    trained: trials of the study that were finished or pruned, what ``--trials`` counts. tally: counters of this run.
    slots: what trains, a trial in its place as long as it runs. best, ended: records, the best and the latest first.
    """

    def __init__(self, search: Search, clock: Callable[[], float] = time.monotonic) -> None:
        self._search, self._clock = search, clock
        self.settings, self.trials = search.study.settings, search.plan.trials
        trained = [record for record in search.study.records() if record.trained]
        finished = (record for record in trained if record.state == "finished")
        self.best = sorted(finished, key=_worst_last)[:BEST]
        self.ended: deque[Fate] = deque(maxlen=ENDED)  # of this run, the latest first
        self.slots: list[Running | None] = []
        self._curves = [record.curve for record in trained]
        self._earlier = _Pace(sum(record.seconds for record in trained), sum(map(len, self._curves)))
        self._pace = _Pace()
        self._started = clock()
        self._count()

    def update(self, event: SearchEvent) -> None:
        """Take note of what happened."""
        self._count()
        if isinstance(event, Started):
            self._place(Running(event.record, self._clock()))
        elif isinstance(event, Progressed):
            self._epoch(event)
        elif event.record.state not in ("rejected", "duplicate"):
            self._end(event.record)

    @property
    def running(self) -> list[Running]:
        """The trials that train, in the order of their slots."""
        return [slot for slot in self.slots if slot is not None]

    @property
    def elapsed(self) -> float:
        """Seconds since the search was watched first."""
        return self._clock() - self._started

    @property
    def epoch_seconds(self) -> float | None:
        """Mean seconds of an epoch of this run; before its first, of the study; None where there was none at all."""
        pace = self._pace if self._pace.epochs else self._earlier
        return pace.seconds / pace.epochs if pace.epochs else None

    def left(self, running: Running) -> float | None:
        """Seconds that a trial takes to its last epoch."""
        if not running.results:
            return None
        each = mean([result.seconds for result in running.results])
        rest = (self.settings.epochs - len(running.results)) * each
        return max(rest - (self._clock() - running.since), 0.0)

    def outlook(self) -> Outlook | None:
        """Seconds still to go; None before the first epoch."""
        each, slots = self.epoch_seconds, max(len(self.slots), 1)
        if each is None:
            return None
        waiting = max(self.trials - self.trained - len(self.running), 0)
        full, lengths = self.settings.epochs, [len(curve) for curve in self._curves]
        begun = [(len(r.results), min((self._clock() - r.since) / each, 1.0)) for r in self.running]
        about = [max(epochs_left(lengths, done, full) - part, 0.0) for done, part in begun]
        most = [max(full - done - part, 0.0) for done, part in begun]
        seconds = [
            each * makespan(about, waiting, epochs_left(lengths, 0, full), slots),
            each * makespan(most, waiting, full, slots),
        ]
        if (limit := self._search.plan.timeout) is not None:
            seconds = [min(value, max(limit - self.elapsed, 0.0)) for value in seconds]
        return Outlook(*seconds)

    def _count(self) -> None:
        """The search's counters as they are now: whoever draws in another thread must not see them change."""
        self.trained, self.tally = self._search.trained, deepcopy(self._search.tally)

    def _place(self, running: Running) -> None:
        if None in self.slots:
            self.slots[self.slots.index(None)] = running
        else:
            self.slots.append(running)

    def _epoch(self, event: Progressed) -> None:
        running = next((r for r in self.running if r.record.number == event.number), None)
        if running is None:
            return
        running.results.append(event.result)
        running.since = self._clock()
        self._pace.seconds += event.result.seconds
        self._pace.epochs += 1

    def _end(self, record: TrialRecord) -> None:
        self.slots = [None if slot and slot.record.number == record.number else slot for slot in self.slots]
        others = [*self._curves, *(running.curve for running in self.running)]
        self.ended.appendleft(Fate(record, rank(record, others)))
        if record.trained:
            self._curves.append(record.curve)
        if record.state == "finished":
            self.best = sorted([*self.best, record], key=_worst_last)[:BEST]


def epochs_left(lengths: Sequence[int], done: int, full: int) -> float:
    """Epochs that a trial which has done so many may expect: the mean of those that got further; else all of ``full``.

    lengths: the epochs of trials that are over.
    """
    further = [length for length in lengths if length > done]
    return mean(further) - done if further else float(full - done)


def makespan(busy: Sequence[float], waiting: int, each: float, slots: int) -> float:
    """When all is done: the time that the busy slots need, and so many waiting jobs that go to the first free slot."""
    ends = [*busy, *[0.0] * (slots - len(busy))]
    heapify(ends)
    for _ in range(waiting):
        heapreplace(ends, ends[0] + each)
    return max(ends)


def rank(record: TrialRecord, others: Iterable[Sequence[float]]) -> Rank | None:
    """Where a trained trial stands among other learning curves: a finished one by its value among those of its length,
    a pruned one by its last epoch among those that came as far; None for any other."""
    if not record.trained or not record.curve:
        return None
    length = len(record.curve)
    if record.state == "finished":
        own, rest = _value(record.curve), [_value(curve) for curve in others if len(curve) == length]
    else:
        own, rest = record.curve[-1], [curve[length - 1] for curve in others if len(curve) >= length]
    return Rank(1 + sum(value > own for value in rest), 1 + len(rest))


def _worst_last(record: TrialRecord) -> float:
    return -(record.value or 0.0)


def _value(curve: Sequence[float]) -> float:
    return mean(curve[-VALUE_EPOCHS:])
