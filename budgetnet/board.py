"""The live board of a search on a terminal: how far it is, what trains, what has ended and why, the best so far.

It has the terminal's other screen to itself, as an editor has: a terminal that is made narrower breaks the lines of its
first screen anew, and whoever draws there in place leaves litter. What is drawn is made to the size of the moment.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr
from dataclasses import dataclass, replace
from textwrap import wrap
from threading import Lock
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult
from rich.control import Control
from rich.live import Live
from rich.text import Text

from budgetnet.display import cut, duration, narrow_spark, percent, tally_line, why, why_in_full
from budgetnet.place import StudyPlace
from budgetnet.progress import ENDED, Progress, Running, SearchEvent
from budgetnet.study import TrialRecord

if TYPE_CHECKING:
    from budgetnet.coordinator import Search

HEAD = 2  # lines of a section before its rows: an empty one and the headings
ROOMY = 16  # lines from which the counters get two
LEAST = (5, 3, 2)  # rows of what runs, of the best and of what has ended, before one of them gets more
GAP = "  "  # between two columns


@dataclass(frozen=True)
class Column:
    """A column of the board. ``least``: its least width; ``at``: the width of the terminal from which it is shown."""

    heading: str
    least: int = 0
    at: int = 0
    left: bool = False


NETWORK = Column("network", left=True)


@dataclass(frozen=True)
class Section:
    """Rows under one heading, () for an empty one; the last column takes what is left of the line, and is cut there.

    counts_rest: whether a last line tells how many rows there was no room for.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    counts_rest: bool = True

    def lines(self, width: int, count: int) -> list[Text]:
        """The headings and ``count`` lines for a terminal of ``width``."""
        shown = [place for place, column in enumerate(self.columns) if column.at <= width]
        kept = self.rows[: count - (self.counts_rest and len(self.rows) > count)]
        cells = [[row[place] if row else "" for place in shown] for row in kept]
        columns = [self.columns[place] for place in shown]
        widths = [max(c.least, len(c.heading), *(len(row[i]) for row in cells), 0) for i, c in enumerate(columns)]
        lines = [_line([column.heading for column in columns], columns, widths, "bold")]
        lines += [_line(row, columns, widths) for row in cells]
        if self.counts_rest and len(kept) < len(self.rows):
            lines.append(_text(f"… and {len(self.rows) - len(kept)} more", "dim"))
        return lines + [_text("")] * (count + 1 - len(lines))


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], style: str = "") -> Text:
    *fixed, last = (
        cell.ljust(width) if column.left else cell.rjust(width)
        for cell, column, width in zip(cells, columns, widths, strict=True)
    )
    return _text(GAP.join([*fixed, last.rstrip()]), style)


def _text(line: str, style: str = "") -> Text:
    return Text(line, style, no_wrap=True, overflow="ellipsis")


def shares(rows: int, wants: Sequence[int], least: Sequence[int] = LEAST) -> list[int]:
    """How many of so many lines go to the rows of each section, the most important first.

    Each gets its ``least`` with its head, as far as it goes – 0 leaves it out –, and then what it wants.
    """
    given = []
    for want, few in zip(wants, least, strict=True):
        given.append(max(min(want, few, rows - HEAD), 0))
        rows -= given[-1] + HEAD if given[-1] else 0
    for place, want in enumerate(wants):
        more = min(want - given[place], rows) if given[place] else 0
        given[place] += more
        rows -= more
    return given


class View:
    """The board as lines of text for a terminal of any size."""

    def __init__(self, where: StudyPlace, progress: Progress) -> None:
        self._where, self._progress = where, progress

    def lines(self, width: int, height: int) -> list[Text]:
        """At most ``height`` lines, each meant for ``width`` columns."""
        counters = 2 if height >= ROOMY else 1
        sections = (self._running(width), self._best(width), self._ended(width))
        wants = (len(self._progress.slots) or 1, len(self._progress.best) or 1, ENDED)
        lines = [self._title(), self._bar(width), *self._counters(width, counters)]
        for section, count in zip(sections, shares(height - len(lines), wants), strict=True):
            if count:
                lines += [_text(""), *section.lines(width, count)]
        return lines[:height]

    def _title(self) -> Text:
        settings = self._progress.settings
        macs = [] if settings.max_macs is None else [f"MACs ≤ {settings.max_macs:,}"]
        images = "" if settings.images is None else f", {settings.images:,} images"
        what = [f"params < {settings.budget:,}", *macs, f"{settings.data}{images}", f"{settings.epochs} epochs a trial"]
        return _text(" · ".join([self._where.name, *what, self._where.shown]), "bold")

    def _bar(self, width: int) -> Text:
        progress, size = self._progress, 10 if width < 72 else 20 if width < 120 else 40
        filled = round(size * min(progress.trained / progress.trials, 1))
        times = [f"{progress.trained}/{progress.trials} trials", duration(progress.elapsed), *self._left()]
        line = Text(no_wrap=True, overflow="ellipsis")
        return line.append("━" * filled, "cyan").append("─" * (size - filled), "dim").append(f"  {' · '.join(times)}")

    def _left(self) -> list[str]:
        outlook = self._progress.outlook()
        if outlook is None:
            return []
        about, most = duration(outlook.about), duration(outlook.most)
        return [f"about {about} left" + ("" if about == most else f", at most {most}")]

    def _counters(self, width: int, count: int) -> list[Text]:
        lines = wrap(f"this run: {tally_line(self._progress.tally)}", width)
        shown = [*lines[: count - 1], " ".join(lines[count - 1 :])] if len(lines) > count else lines
        return [_text(line, "dim") for line in [*shown, *[""] * (count - len(shown))]]

    def _running(self, width: int) -> Section:
        rows = tuple(self._running_row(slot, width) if slot else () for slot in self._progress.slots)
        return Section((*self._facts("running", width), Column("left", 5, at=92), NETWORK), rows)

    def _running_row(self, running: Running, width: int) -> tuple[str, ...]:
        left = self._progress.left(running)
        record = replace(running.record, curve=running.curve)
        return (*self._row(record, width), "–" if left is None else duration(left), str(record.architecture))

    def _best(self, width: int) -> Section:
        rows = tuple((*self._row(record, width), str(record.architecture)) for record in self._progress.best)
        return Section((*self._facts("best", width), NETWORK), rows, counts_rest=False)

    def _ended(self, width: int) -> Section:
        most = max(width // 4, 18)
        told = why if width < 150 else why_in_full
        rows = tuple(
            (*self._row(fate.record, width), cut(told(fate.record, fate.rank), most), str(fate.record.architecture))
            for fate in self._progress.ended
        )
        columns = (*self._facts("ended", width, curve_at=110), Column("why", 18, left=True), NETWORK)
        return Section(columns, rows, counts_rest=False)

    def _facts(self, name: str, width: int, curve_at: int = 72) -> tuple[Column, ...]:
        """The columns that every section begins with; ``name`` heads the numbers of its trials."""
        epochs = self._progress.settings.epochs
        return (
            Column(name, len("running")),
            Column("epoch", len(f"{epochs}/{epochs}")),
            Column("val %", len("99.99")),
            Column("curve", min(epochs, _signs(width)), at=curve_at, left=True),
            Column("params", len(f"{self._progress.settings.budget:,}"), at=48),
            Column("field", at=108),
            Column("MACs", len("9,999,999"), at=116),
        )

    def _row(self, record: TrialRecord, width: int) -> tuple[str, ...]:
        """What these columns say of a trial."""
        epochs, curve, cost = self._progress.settings.epochs, record.curve, record.cost
        value = record.value if record.value is not None else curve[-1] if curve else None
        return (
            str(record.number),
            f"{len(curve)}/{epochs}",
            percent(value),
            narrow_spark(curve, epochs, _signs(width)),
            f"{cost.params:,}" if cost else "–",
            str(record.receptive_field or "–"),
            f"{cost.macs:,}" if cost else "–",
        )


def _signs(width: int) -> int:
    """Signs of a curve on a terminal of this width."""
    return 15 if width < 120 else 30


class Board:
    """A Watcher that draws the View four times a second; what others write to standard error follows at the end."""

    def __init__(self, console: Console, search: Search) -> None:
        self._progress = Progress(search)
        self._view = View(search.study.where, self._progress)
        self._lock = Lock()  # rich draws in a thread of its own
        self._live = Live(
            self, console=console, screen=True, refresh_per_second=4, redirect_stdout=False, redirect_stderr=False
        )
        self._stack = ExitStack()
        self._over = False

    def __enter__(self) -> Board:
        said = io.StringIO()
        self._stack.callback(lambda: print(said.getvalue(), end="", file=sys.stderr))
        self._stack.enter_context(redirect_stderr(said))
        self._stack.enter_context(self._live)
        self._stack.callback(self._wipe)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def update(self, event: SearchEvent) -> None:
        """Take note; the next refresh shows it."""
        with self._lock:
            self._progress.update(event)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            size = options.max_width, options.height or console.height
            lines = [] if self._over else self._view.lines(*size)
        yield from lines

    def _wipe(self) -> None:
        """Leave nothing: tmux, grown meanwhile, puts what is left on the other screen in front of the first one."""
        with self._lock:
            self._over = True
        self._live.console.control(Control.clear())
