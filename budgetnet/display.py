"""What a person sees: the live board of a search, and tables of trials. Nothing here computes."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterable, Sequence
from math import log10
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from budgetnet.coordinator import Search
from budgetnet.progress import Progressed, SearchEvent, Started, Tally
from budgetnet.study import TrialRecord

SPARKS = "▁▂▃▄▅▆▇█"
BEST = 5  # trials on the board


def percent(fraction: float | None) -> str:
    """0.9943 → "99.43"; a dash for nothing."""
    return "–" if fraction is None else f"{100 * fraction:.2f}"


def duration(seconds: float) -> str:
    """75 → "1:15"; 3700 → "1:01:40"."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def spark(curve: Sequence[float]) -> str:
    """A learning curve in one line, scaled by the logarithm of its error: 90 % is the floor, 99.9 % the top."""
    levels = (len(SPARKS) - 1) / 2  # two decades of error, 10 % to 0.1 %
    heights = (levels * log10(0.1 / max(1 - accuracy, 1e-6)) for accuracy in curve)
    return "".join(SPARKS[round(min(max(height, 0), len(SPARKS) - 1))] for height in heights)


def tally_line(tally: Tally) -> str:
    """Counters of a run in one line."""
    parts = [f"{tally.sampled} sampled", f"{tally.finished} finished", f"{tally.pruned} pruned"]
    for name, reasons in (("rejected before training", tally.rejected), ("failed", tally.failed)):
        if total := sum(reasons.values()):
            parts.append(f"{total} {name} ({', '.join(f'{reason} {n}' for reason, n in reasons.most_common())})")
    if tally.duplicates:
        parts.append(f"{tally.duplicates} answered from the record")
    if tally.lost:
        parts.append(f"{tally.lost} lost with their machine, queued again")
    return " · ".join(parts)


def trials_table(records: Iterable[TrialRecord], budget: int, title: str | None = None) -> Table:
    """Trials with notation, exact params, MACs, receptive field and validation accuracy."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", expand=False)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("val %", justify="right", no_wrap=True)
    table.add_column(f"params / {budget:,}", justify="right", no_wrap=True)
    table.add_column("MACs", justify="right", no_wrap=True)
    table.add_column("field", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("network", overflow="fold")
    for record in records:
        cost = record.cost
        table.add_row(
            str(record.number),
            percent(record.value),
            f"{cost.params:,}" if cost else "–",
            f"{cost.macs:,}" if cost else "–",
            str(record.receptive_field or "–"),
            record.state,
            # rich would read the settings in square brackets as markup
            Text(str(record.architecture) if record.architecture else record.reason or ""),
        )
    return table


def trials_csv(records: Iterable[TrialRecord]) -> str:
    """Every trial as a CSV row; the curve is validation accuracies by spaces, recipe and what was drawn are JSON."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = "trial,state,value,params,macs,receptive_field,network,curve,recipe,drawn"
    writer.writerow(columns.split(","))
    for record in records:
        cost = record.cost
        writer.writerow(
            (
                record.number,
                record.state,
                "" if record.value is None else f"{record.value:.6f}",
                cost.params if cost else "",
                cost.macs if cost else "",
                record.receptive_field or "",
                record.architecture or "",
                " ".join(f"{accuracy:.6f}" for accuracy in record.curve),
                json.dumps(record.recipe.to_dict()) if record.recipe else "",
                json.dumps(record.drawn),
            )
        )
    return out.getvalue()


class Watcher(Protocol):
    """Follows a search event by event."""

    def __enter__(self) -> Watcher: ...

    def __exit__(self, *exception: object) -> None: ...

    def update(self, event: SearchEvent) -> None:
        """Show what happened."""


class Lines:
    """A line for everything that happens: for logs and pipes."""

    def __init__(self, console: Console, search: Search) -> None:
        self._console, self._search = console, search
        self._settings, self._trials = search.study.settings, search.plan.trials

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def update(self, event: SearchEvent) -> None:
        """Print one line; a rejected candidate is only counted."""
        if isinstance(event, Progressed):
            result = event.result
            self._print(
                f"trial {event.number}: epoch {result.epoch}/{self._settings.epochs} "
                f"val {percent(result.accuracy)} % in {result.seconds:.1f} s"
            )
        elif isinstance(event, Started):
            record = event.record
            params = record.cost.params if record.cost else 0
            self._print(f"trial {record.number}: {record.architecture} ({params:,} / {self._settings.budget:,} params)")
        elif event.record.state != "rejected":
            record = event.record
            what = f"val {percent(record.value)} %" if record.state == "finished" else record.reason
            self._print(f"trial {record.number}: {record.state}, {what} [{self._search.trained}/{self._trials}]")

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class Quiet(Lines):
    """Shows nothing until the end."""

    def update(self, event: SearchEvent) -> None:
        """Nothing."""


class Board:
    """A board that is redrawn in place: progress, running trials, the best so far, counters."""

    def __init__(self, console: Console, search: Search) -> None:
        self._search, self._settings, self._trials = search, search.study.settings, search.plan.trials
        self._running: dict[int, tuple[TrialRecord, list[float]]] = {}
        self._best = search.study.leaderboard()[:BEST]
        self._started = time.monotonic()
        self._epochs = 0
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Watcher:
        self._live.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.__exit__(None, None, None)

    def update(self, event: SearchEvent) -> None:
        """Take note; the next refresh shows it."""
        if isinstance(event, Started):
            self._running[event.record.number] = (event.record, [])
        elif isinstance(event, Progressed):
            self._running[event.number][1].append(event.result.accuracy)
            self._epochs += 1
        else:
            self._running.pop(event.record.number, None)
            if event.record.state == "finished":
                self._best = sorted([*self._best, event.record], key=lambda r: -(r.value or 0))[:BEST]

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = [self._progress(), self._running_table()]
        if self._best:
            parts += [Text(""), trials_table(self._best, self._settings.budget, "best so far")]
        parts += [Text(""), Text(tally_line(self._search.tally), style="dim")]
        return Group(*parts)

    def _progress(self) -> Text:
        done, elapsed = self._search.trained, time.monotonic() - self._started
        width = 24
        filled = round(width * min(done / self._trials, 1))
        bar = "━" * filled + "─" * (width - filled)
        return Text.assemble(
            ("trials ", "bold"),
            (bar, "cyan"),
            f" {done}/{self._trials}  {duration(elapsed)}{self._left(elapsed)}",
        )

    def _left(self, elapsed: float) -> str:
        """Time left if no more trials are pruned, from the epochs trained in this run."""
        if not self._epochs:
            return ""
        epochs = self._settings.epochs
        open_trials = max(self._trials - self._search.trained - len(self._running), 0)
        left = open_trials * epochs + sum(epochs - len(curve) for _, curve in list(self._running.values()))
        return f"  at most {duration(elapsed / self._epochs * left)} left"

    def _running_table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
        table.add_column("trial", justify="right", no_wrap=True)
        table.add_column("epoch", justify="right", no_wrap=True)
        table.add_column("val %", justify="right", no_wrap=True)
        table.add_column("curve", no_wrap=True, min_width=self._settings.epochs)
        table.add_column("params", justify="right", no_wrap=True)
        table.add_column("network", overflow="fold")
        for number, (record, curve) in list(self._running.items()):  # rich draws in a thread of its own
            table.add_row(
                str(number),
                f"{len(curve)}/{self._settings.epochs}",
                percent(curve[-1] if curve else None),
                spark(curve),
                f"{record.cost.params:,}" if record.cost else "–",
                Text(str(record.architecture)),
            )
        return table


def watcher(console: Console, search: Search, *, quiet: bool = False) -> Watcher:
    """A board on a terminal, lines elsewhere, nothing when quiet."""
    kind = Quiet if quiet else Board if console.is_terminal else Lines
    return kind(console, search)
