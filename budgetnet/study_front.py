"""Accuracy against parameters in one study: its trials, what is confirmed of them, and the public records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from budgetnet.drawing import BLUE, GREY, INK, Picture, accuracy_axis, error, figure, picture
from budgetnet.front_marks import diamond, params, params_axis, public_marks, reached, records_of, scatter
from budgetnet.public_records import PublicRecord
from budgetnet.study import TrialRecord, pareto
from budgetnet.survey import Survey

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CROWDED = 0.25  # trials whose params differ by a smaller part than that get a panel of their own


def accuracy_against_params(survey: Survey) -> Picture:
    """Trials by validation accuracy, the Pareto front, what is confirmed on test, and the public records.

    Where the trials fill a small part of the picture, a second panel shows that part alone.
    """
    public = records_of(survey.settings.data)
    counts = list(map(params, survey.trained)) or [0]
    crowded = bool(survey.finished) and max(counts) - min(counts) < CROWDED * max(counts)
    with figure(8.4 if crowded else 7.6, 5.0) as drawn:
        panels = drawn.subplots(1, 2 if crowded else 1, squeeze=False, width_ratios=(3, 2) if crowded else (1,))[0]
        _fill(panels[0], survey, public)
        params_axis(panels[0], _counts(survey, public))
        if crowded:
            _fill(panels[1], survey, [])
            panels[1].set_title("the trials alone", fontsize=10)
            margin = 0.1 * (max(counts) - min(counts)) + 1
            panels[1].set_xlim(min(counts) - margin, max(counts) + margin)
            panels[1].locator_params(axis="x", nbins=4)
            panels[1].set_xlabel("trainable parameters")
        drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        told = _told_front(survey, bool(public))
        return picture(drawn, "accuracy_against_params", "Accuracy against parameters", told)


def _fill(axes: Axes, survey: Survey, public: Sequence[PublicRecord]) -> None:
    from matplotlib.ticker import StrMethodFormatter

    finished, stopped = survey.finished, [record for record in survey.trained if record.state == "pruned"]
    shown = [record for record in stopped if _reaches(record, finished)]
    scatter(axes, shown, 14, GREY, 0.5, f"pruned: where it stopped ({len(shown)} of {len(stopped)})")
    scatter(axes, finished, 26, BLUE, 0.85, f"finished: validation ({len(finished)})")
    _front(axes, finished)
    _confirmed(axes, survey)
    public_marks(axes, public)
    axes.axvline(survey.settings.budget, color=INK, linewidth=1, linestyle=":", label="budget")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    accuracies = [*map(reached, [*finished, *shown]), *(record.shown for record in public)]
    for runs in survey.confirmed.values():
        accuracies += [runs.mean - (runs.std or 0), runs.mean + (runs.std or 0)]
    accuracy_axis(axes, "accuracy", accuracies)


def _reaches(record: TrialRecord, finished: Sequence[TrialRecord]) -> bool:
    """Whether a stopped trial lies near the finished ones; those far below would only press the rest together."""
    floor = min((r.value or 0.0 for r in finished), default=0.0)
    return error(reached(record)) <= 2 * error(floor)


def _front(axes: Axes, finished: Sequence[TrialRecord]) -> None:
    by_number = {record.number: record for record in finished}
    line = [by_number[number] for number in pareto(finished)]
    if line:
        xs, ys = list(map(params, line)), [error(reached(record)) for record in line]
        axes.step(xs, ys, where="post", color=BLUE, linewidth=1.4, label="Pareto front of validation")


def _confirmed(axes: Axes, survey: Survey) -> None:
    label: str | None = "confirmed: test, mean ± standard deviation over seeds"
    for number, runs in survey.confirmed.items():
        spread = runs.std or 0.0
        diamond(axes, survey.records[number], runs.mean, (runs.mean - spread, runs.mean + spread), label)
        label = None


def _counts(survey: Survey, public: Sequence[PublicRecord]) -> list[int]:
    """The params of all that is drawn, and the budget."""
    confirmed = [survey.records[number] for number in survey.confirmed]
    counts = [*map(params, [*survey.trained, *confirmed]), *(record.params for record in public)]
    return [*counts, survey.settings.budget]


def _told_front(survey: Survey, public: bool) -> str:
    best = survey.finished[0] if survey.finished else None
    text = ""
    if best is not None:
        text += "Trials by the mean validation accuracy of their last epochs; nothing was chosen on test. "
        text += f"The best is trial {best.number}: {100 * (best.value or 0):.2f} % with {params(best):,} params. "
    if survey.confirmed:
        text += "Diamonds: the confirmed ones, trained again, by their last epoch on test. "
    if public:
        text += "Public records are single runs, chosen and measured on the test set, which flatters them."
    return text.strip()
