"""What pictures of accuracy against parameters share: marks of trials, winners and public records, and the axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from budgetnet.catalogue import same_data
from budgetnet.display import percent
from budgetnet.drawing import ORANGE, VERMILION, error
from budgetnet.page import table
from budgetnet.public_records import DATA, RECORDS, PublicRecord
from budgetnet.study import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

USUAL_EPOCHS = 15
MOST_TICKS = 8


def records_of(data: str) -> tuple[PublicRecord, ...]:
    """The public records that were measured on these data."""
    return RECORDS if same_data(data, DATA) else ()


def reached(record: TrialRecord) -> float:
    """The validation accuracy of a trial: its value, or where it stopped."""
    return record.curve[-1] if record.value is None or record.state != "finished" else record.value


def params(record: TrialRecord) -> int:
    """Those of a trial that was counted."""
    assert record.cost is not None
    return record.cost.params


def scatter(axes: Axes, records: Sequence[TrialRecord], size: float, colour: str, alpha: float, label: str) -> None:
    """A dot for each trial, where there are any; ``size``: its area in square points."""
    if records:
        heights = [error(reached(record)) for record in records]
        axes.scatter(
            list(map(params, records)),
            heights,
            s=size,
            color=colour,
            alpha=alpha,
            linewidths=0,
            label=label,
        )


def diamond(axes: Axes, record: TrialRecord, mean: float, ends: tuple[float, float], label: str | None) -> None:
    """A confirmed trial at its mean over seeds, with a bar from one accuracy to another."""
    low, high = ends
    bar = [[error(mean) - error(high)], [error(low) - error(mean)]]
    axes.errorbar(params(record), error(mean), bar, fmt="D", color=VERMILION, markersize=6, capsize=4, label=label)


def public_marks(axes: Axes, public: Sequence[PublicRecord]) -> None:
    """Lettered triangles, full for those of the usual number of epochs."""
    for usual, label in ((True, "public records (table below)"), (False, f"the same, more than {USUAL_EPOCHS} epochs")):
        some = [record for record in public if (record.epochs <= USUAL_EPOCHS) == usual]
        if some:
            axes.scatter(
                [record.params for record in some],
                [error(record.shown) for record in some],
                s=42,
                marker="^",
                facecolors=ORANGE if usual else "none",
                edgecolors=ORANGE,
                label=label,
            )
    for letter, record in lettered(public):
        axes.annotate(letter, (record.params, error(record.shown)), (5, 3), textcoords="offset points", fontsize=8)


def lettered(public: Iterable[PublicRecord]) -> list[tuple[str, PublicRecord]]:
    """Records with the letters that stand for them in the picture."""
    return [(chr(ord("a") + index), record) for index, record in enumerate(public)]


def params_axis(axes: Axes, counts: Sequence[int]) -> None:
    """Params from 0, or by their logarithm where they span decades."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    axes.set_xlabel("trainable parameters")
    if max(counts) > 30 * min(counts):
        axes.set_xscale("log")
        low, high = min(counts) / 1.2, 1.2 * max(counts)
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(FixedLocator(_decades(low, high)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, 1.06 * max(counts))
        axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _decades(low: float, high: float) -> list[int]:
    """Round numbers from low to high, as fine as leaves room for their labels."""
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10**power for power in range(10) for step in steps if low <= step * 10**power <= high]
        if len(ticks) <= MOST_TICKS:
            break
    return ticks


def records_table() -> str:
    """The public records, with the letters that stand for them in a picture."""
    rows = [
        (
            letter,
            record.what,
            f"{record.params:,}",
            f"{record.epochs:,}",
            percent(record.best),
            percent(record.last),
            percent(record.lowest),
            record.how,
        )
        for letter, record in lettered(RECORDS)
    ]
    return table(("", "public record", "params>", "epochs>", "best %>", "last %>", "last five %>", "how"), rows)
