"""What a search tells those who watch it: its events, and the tally of what became of its proposals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from budgetnet.results import EpochResult
from budgetnet.study import TrialRecord


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
