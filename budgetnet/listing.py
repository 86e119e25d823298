"""Trials as a table, as CSV, as JSON: which of them, in which order, and who is on the Pareto front."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from budgetnet.display import percent
from budgetnet.errors import StudyError
from budgetnet.study import TrialRecord

STATES = ("finished", "pruned", "rejected", "duplicate", "failed", "running", "waiting", "added")
MARK = "*"
LEGEND = f"{MARK} Pareto front: none finished is as good with fewer params or better with as few"

# What --sort takes: the quantity, None where a trial has none, and whether the largest comes first.
SORTS: dict[str, tuple[Callable[[TrialRecord], float | None], bool]] = {
    "value": (lambda record: record.value, True),
    "params": (lambda record: record.cost.params if record.cost else None, False),
    "macs": (lambda record: record.cost.macs if record.cost else None, False),
    "field": (lambda record: record.receptive_field, True),
    "number": (lambda record: record.number, False),
    "seconds": (lambda record: record.seconds if record.curve else None, False),
}


@dataclass(frozen=True)
class Selection:
    """Which trials to list, and in which order.

    states: any if empty. min_value: in percent. limit: so many at most. By value, finished trials come before all
    others, whose last epoch is no result; whatever the order, trials without the quantity come last.
    """

    sort: str = "value"
    reverse: bool = False
    states: tuple[str, ...] = ("finished",)
    max_params: int | None = None
    min_value: float | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.sort not in SORTS:
            raise StudyError(f"--sort must be one of {', '.join(SORTS)}, but got {self.sort!r}")
        for state in self.states:
            if state not in STATES:
                raise StudyError(f"--state must be one of {', '.join(STATES)}, but got {state!r}")
        if self.min_value is not None and not 1 <= self.min_value <= 100:
            raise StudyError(f"--min-value must be in percent, from 1 to 100, but got {self.min_value:g}")
        for option, number in (("--max-params", self.max_params), ("--limit", self.limit)):
            if number is not None and number < 1:
                raise StudyError(f"{option} must be at least 1, but got {number}")

    def of(self, records: Iterable[TrialRecord]) -> list[TrialRecord]:
        """Those of the records that are wanted, in order."""
        return self._ordered([record for record in records if self._wants(record)])[: self.limit]

    def _wants(self, record: TrialRecord) -> bool:
        return (
            (not self.states or record.state in self.states)
            and (self.max_params is None or (record.cost is not None and record.cost.params <= self.max_params))
            # a hundredth of an image is forgiven, since 99.2 / 100 is not quite 0.992
            and (self.min_value is None or (record.value is not None and record.value >= self.min_value / 100 - 1e-9))
        )

    def _ordered(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        quantity, largest_first = SORTS[self.sort]
        sign = -1 if largest_first != self.reverse else 1

        def key(record: TrialRecord) -> tuple[bool, bool, float]:
            value = quantity(record)
            unfinished = self.sort == "value" and record.state != "finished"
            return unfinished, value is None, 0.0 if value is None else sign * value

        return sorted(records, key=key)


# --- as a table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A column of the table; ``at``: the width from which it is shown."""

    heading: str
    text: Callable[[TrialRecord], str]
    at: int = 0
    left: bool = False


def trials_table(
    records: Sequence[TrialRecord],
    budget: int,
    title: str | None = None,
    *,
    front: Collection[int] = (),
    width: int = 80,
) -> Table:
    """Trials with notation, exact params, MACs, receptive field and validation accuracy, for so many columns.

    front: numbers of the trials that get a mark. The network may fold into several lines.
    """
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", expand=False)
    columns = [column for column in _columns(records, budget, front) if column.at <= width]
    for column in columns:
        table.add_column(column.heading, justify="left" if column.left else "right", no_wrap=True)
    table.add_column("network", overflow="fold")
    for record in records:
        network = str(record.architecture) if record.architecture else record.reason or ""
        # rich would read the settings in square brackets as markup
        table.add_row(*(column.text(record) for column in columns), Text(network))
    return table


def _columns(records: Sequence[TrialRecord], budget: int, front: Collection[int]) -> list[Column]:
    partly = any(record.state not in ("finished", "rejected", "duplicate") for record in records)
    return [
        *([Column("", lambda record: MARK if record.number in front else "")] if front else []),
        Column("trial", lambda record: str(record.number)),
        Column("val %", lambda record: percent(record.value)),
        Column(f"params / {budget:,}", lambda record: f"{record.cost.params:,}" if record.cost else "–"),
        Column("MACs", lambda record: f"{record.cost.macs:,}" if record.cost else "–", at=64),
        Column("field", lambda record: str(record.receptive_field or "–"), at=72),
        *([Column("epochs", lambda record: str(len(record.curve) or "–"), at=72)] if partly else []),
        Column("seconds", lambda record: f"{record.seconds:,.0f}" if record.curve else "–", at=120),
        Column("state", lambda record: record.state, left=True),
    ]


# --- for programs -----------------------------------------------------------------------------------------------------


def trials_csv(records: Iterable[TrialRecord], front: Collection[int] = ()) -> str:
    """Every trial as a CSV row; the curve is validation accuracies by spaces, recipe and what was drawn are JSON."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = "trial,state,value,params,macs,receptive_field,network,curve,recipe,drawn,pareto,seconds,reason"
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
                str(record.number in front).lower(),
                record.seconds,
                record.reason or "",
            )
        )
    return out.getvalue()


def trials_json(records: Iterable[TrialRecord], front: Collection[int] = ()) -> list[dict[str, Any]]:
    """Every trial as an object, ``pareto`` among its keys."""
    return [{**record.to_dict(), "pareto": record.number in front} for record in records]
