"""Who follows a search event by event: a board on a terminal, lines for logs and pipes, JSON for programs, nobody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console

from budgetnet.board import Board
from budgetnet.coordinator import Search
from budgetnet.display import percent, why_in_full
from budgetnet.progress import Ended, Fate, Progress, Progressed, SearchEvent, Started

if TYPE_CHECKING:
    from budgetnet.study import TrialRecord


class Watcher(Protocol):
    """Follows a search event by event."""

    def __enter__(self) -> Watcher: ...

    def __exit__(self, *exception: object) -> None: ...

    def update(self, event: SearchEvent) -> None:
        """Show what happened."""


class Quiet:
    """Shows nothing."""

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def update(self, event: SearchEvent) -> None:
        """Nothing."""


class Lines(Quiet):
    """A line for everything that happens: for logs and pipes."""

    def __init__(self, console: Console, search: Search) -> None:
        self._console, self._progress = console, Progress(search)
        self._settings = self._progress.settings

    def update(self, event: SearchEvent) -> None:
        """Print one line; a rejected candidate is only counted."""
        self._progress.update(event)
        if isinstance(event, Progressed):
            self._print(event.number, self._epoch(event))
        elif isinstance(event, Started):
            self._print(event.record.number, self._start(event.record))
        elif event.record.state == "duplicate":
            self._print(event.record.number, f"duplicate, {event.record.reason}")
        elif event.record.state != "rejected":
            self._print(event.record.number, self._end(self._progress.ended[0]))

    def _start(self, record: TrialRecord) -> str:
        params = record.cost.params if record.cost else 0
        return f"{record.architecture} ({params:,} / {self._settings.budget:,} params)"

    def _epoch(self, event: Progressed) -> str:
        result, epochs = event.result, self._settings.epochs
        return f"epoch {result.epoch}/{epochs} val {percent(result.accuracy)} % in {result.seconds:.1f} s"

    def _end(self, fate: Fate) -> str:
        record, rank = fate.record, fate.rank
        value = f", val {percent(record.value)} %" if record.trained else ""
        return f"{why_in_full(record, rank)}{value} [{self._progress.trained}/{self._progress.trials}]"

    def _print(self, trial: int, what: str) -> None:
        self._console.print(f"trial {trial}: {what}", markup=False, highlight=False, soft_wrap=True)


class JsonLines(Quiet):
    """A JSON object a line for every event; the command adds the result at the end."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def update(self, event: SearchEvent) -> None:
        """Print the event, and have it out at once."""
        put_json(_told(event, self._search))


def _told(event: SearchEvent, search: Search) -> dict[str, Any]:
    epochs, counted = search.study.settings.epochs, {"trained": search.trained, "trials": search.plan.trials}
    if isinstance(event, Progressed):
        return {"event": "epoch", "trial": event.number, **event.result.to_dict(), "epochs": epochs}
    told = event.record.to_dict()
    if isinstance(event, Ended):
        names: tuple[str, ...] = ("state", "value", "reason", "notation", "seconds")
        return {"event": "ended", "trial": event.record.number, **{name: told[name] for name in names}, **counted}
    names = ("notation", "architecture", "recipe", "cost", "receptive_field", "seed", "drawn")
    return {"event": "started", "trial": event.record.number, **{name: told[name] for name in names}}


def result_of(search: Search) -> dict[str, Any]:
    """The last line of ``--json-lines``: the ten best trials, the counters of this run, and how it came to an end."""
    return {
        "event": "result",
        "study": search.study.where.name,
        "storage": search.study.where.shown,
        "best": [record.to_dict() for record in search.study.leaderboard()[:10]],
        "tally": search.tally.to_dict(),
        "trained": search.trained,
        "trials": search.plan.trials,
        "timed_out": search.timed_out,
        "exhausted": search.exhausted,
    }


def put_json(told: Mapping[str, Any]) -> None:
    """Print an object as one line and flush it. JSON has no NaN: a loss that is none is null."""
    finite = {name: None if isinstance(v, float) and not isfinite(v) else v for name, v in told.items()}
    print(json.dumps(finite, allow_nan=False), flush=True)


def watcher(console: Console, search: Search, *, quiet: bool = False, json_lines: bool = False) -> Watcher:
    """A board on a terminal that can move its cursor, lines elsewhere; JSON or nothing where that is asked for."""
    if json_lines:
        return JsonLines(search)
    if quiet:
        return Quiet()
    drawable = console.is_interactive and console.file.isatty()  # FORCE_COLOR makes no terminal of a pipe
    return Board(console, search) if drawable else Lines(console, search)
