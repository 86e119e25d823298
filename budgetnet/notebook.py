"""What a notebook shows of an architecture and of a study, as HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from budgetnet.architecture import Architecture
from budgetnet.columns import COLUMNS, times
from budgetnet.errors import BudgetnetError
from budgetnet.markup import paragraph, table
from budgetnet.table import Row
from budgetnet.tabulate import receptive_field

if TYPE_CHECKING:
    from budgetnet.study import Study, TrialRecord

BEST = 5  # trials of a study
_BESIDE = frozenset(("BatchNorm", "ReLU", "Dropout", "Flatten"))  # what goes without saying
_SEEN = next(column.text for column in COLUMNS if column.heading == "field")


def architecture_html(architecture: Architecture) -> str:
    """A row for every stage: its layers, the shape that leaves it, what it costs, and what a cell of it sees."""
    try:
        found = receptive_field(architecture)
    except BudgetnetError as error:
        return paragraph([str(architecture), str(error)])
    stages = [(name, list(rows)) for name, rows in groupby(found.rows, lambda row: row.name.partition(".")[0])]
    shown = [(name, *_stage(rows)) for name, rows in stages]
    caption = f"{architecture} · input {times(architecture.input_shape)}"
    heading = ("stage", "layers", "output", "params", "MACs", "field")
    totals = [line for line in found.totals() if not line.startswith("without MACs")]
    return table(caption, heading, shown, ("stage", "layers")) + paragraph(totals)


def _stage(rows: Sequence[Row]) -> tuple[str, ...]:
    params, macs = sum(row.params for row in rows), sum(row.macs for row in rows)
    return ", ".join(_layers(rows)), times(rows[-1].output), f"{params:,}", f"{macs:,}", _SEEN(rows[-1])


def _layers(rows: Sequence[Row]) -> Iterator[str]:
    """The layers that shape a stage; equal neighbours are counted."""
    told = [_layer(row) for row in rows if row.type not in _BESIDE]
    for text, same in groupby(told):
        count = len(list(same))
        yield f"{count} × {text}" if count > 1 else text


def _layer(row: Row) -> str:
    """``Conv 3×3 → 12``; ``MaxPool 2×2``."""
    window = f" {times(row.kernel)}" if row.kernel else ""
    strided = f"/{row.stride[0]}" if row.stride and row.params and row.stride[0] > 1 else ""
    return f"{row.type}{window}{strided}" + (f" → {row.output[0]}" if row.macs else "")


def study_html(study: Study) -> str:
    """What is searched for, what became of the trials, and the best of them."""
    try:
        settings, records = study.settings, study.records()
    except BudgetnetError as error:
        return paragraph([str(error)])
    best = sorted((r for r in records if r.state == "finished"), key=lambda r: -(r.value or 0.0))[:BEST]
    states = Counter(record.state for record in records).most_common()
    caption = f"study {study.where.name} · params < {settings.budget:,} · {settings.data} · {settings.epochs} epochs"
    heading = ("trial", "val %", "params", "MACs", "field", "network")
    told = " · ".join(f"{count:,} {state}" for state, count in states) or "no trials yet"
    return table(caption, heading, map(_trial, best), ("network",)) + paragraph([told])


def _trial(record: TrialRecord) -> tuple[str, ...]:
    cost = record.cost
    return (
        str(record.number),
        f"{100 * (record.value or 0.0):.2f}",
        f"{cost.params:,}" if cost else "",
        f"{cost.macs:,}" if cost else "",
        str(record.receptive_field or ""),
        str(record.architecture or ""),
    )
