"""Accuracy against parameters: the trials of one study, or the winners of several, beside the public records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from budgetnet.aim import Aim
from budgetnet.catalogue import same_data
from budgetnet.display import percent
from budgetnet.drawing import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    VERMILION,
    Picture,
    accuracy_axis,
    error,
    figure,
    picture,
)
from budgetnet.page import table
from budgetnet.public_records import DATA, RECORDS, PublicRecord
from budgetnet.results import FLOAT32, LAST, Confirmation
from budgetnet.statistics import pareto_front
from budgetnet.study import TrialRecord, pareto
from budgetnet.survey import Champion, Survey
from budgetnet.words import target_words, the_last

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

USUAL_EPOCHS = 15
CROWDED = 0.25  # trials whose params differ by a smaller part than that get a panel of their own


def records_of(data: str) -> tuple[PublicRecord, ...]:
    """The public records that were measured on these data."""
    return RECORDS if same_data(data, DATA) else ()


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
        _params_axis(panels[0], survey, public)
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
    _scatter(axes, shown, 14, GREY, 0.5, f"pruned: where it stopped ({len(shown)} of {len(stopped)})")
    _scatter(axes, finished, 26, BLUE, 0.85, f"finished: validation ({len(finished)})")
    _front(axes, finished)
    _confirmed(axes, survey)
    _public(axes, public)
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


def reached(record: TrialRecord) -> float:
    return record.curve[-1] if record.value is None or record.state != "finished" else record.value


def params(record: TrialRecord) -> int:
    assert record.cost is not None
    return record.cost.params


def _scatter(axes: Axes, records: Sequence[TrialRecord], size: float, colour: str, alpha: float, label: str) -> None:
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
        _diamond(axes, survey.records[number], runs.mean, (runs.mean - spread, runs.mean + spread), label)
        label = None


def _diamond(axes: Axes, record: TrialRecord, mean: float, ends: tuple[float, float], label: str | None) -> None:
    """A confirmed trial at its mean over seeds, with a bar from one accuracy to another."""
    low, high = ends
    bar = [[error(mean) - error(high)], [error(low) - error(mean)]]
    axes.errorbar(params(record), error(mean), bar, fmt="D", color=VERMILION, markersize=6, capsize=4, label=label)


def _public(axes: Axes, public: Sequence[PublicRecord]) -> None:
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


def _params_axis(axes: Axes, survey: Survey, public: Sequence[PublicRecord]) -> None:
    confirmed = [survey.records[number] for number in survey.confirmed]
    counts = [*map(params, [*survey.trained, *confirmed]), *(record.params for record in public)]
    _scale(axes, [*counts, survey.settings.budget])


def _scale(axes: Axes, counts: Sequence[int]) -> None:
    """Params from 0, or by their logarithm where they span decades."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    axes.set_xlabel("trainable parameters")
    if max(counts) > 30 * min(counts):
        axes.set_xscale("log")
        axes.set_xlim(min(counts) / 1.2, 1.2 * max(counts))
        ticks = [step * 10**power for power in range(2, 8) for step in (1, 2, 5)]
        axes.xaxis.set_major_locator(
            FixedLocator([tick for tick in ticks if min(counts) / 1.2 <= tick <= 1.2 * max(counts)])
        )
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, 1.06 * max(counts))
        axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _told_front(survey: Survey, public: bool) -> str:
    best = survey.finished[0] if survey.finished else None
    text = "Trials by the mean validation accuracy of their last epochs; nothing was chosen on test. "
    if best is not None:
        text += f"The best is trial {best.number}: {100 * (best.value or 0):.2f} % with {params(best):,} params. "
    if public:
        text += "Public records are single runs, chosen and measured on the test set, which flatters them."
    return text.strip()


# --- several studies --------------------------------------------------------------------------------------------------


def frontier(surveys: Sequence[Survey]) -> Picture:
    """The confirmed winners of studies of the same data, their trials faintly behind them, and the public records."""
    public = records_of(surveys[0].settings.data)
    champions = [survey.champion for survey in surveys if survey.champion is not None]
    finished = [record for survey in surveys for record in survey.finished]
    accuracies = [record.shown for record in public]
    for champion in champions:
        accuracies += [min(champion.runs.finals), max(champion.runs.finals)]
    inside = [record for record in finished if reached(record) >= min(accuracies, default=0.0)]
    with figure(7.6, 5.2) as drawn:
        axes = drawn.subplots()
        _scatter(
            axes, inside, 10, GREY, 0.5, f"finished trials, validation ({len(inside)} of {len(finished)}, rest below)"
        )
        _winners(axes, champions)
        _public(axes, public)
        trained = [*finished, *(champion.record for champion in champions)]
        _scale(axes, [*map(params, trained), *(record.params for record in public)])
        accuracy_axis(axes, "test accuracy", accuracies)
        drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        _name(drawn, axes, surveys, public)
        return picture(drawn, "frontier", "Accuracy against parameters", _told_winners(bool(public)))


def _winners(axes: Axes, champions: Sequence[Champion]) -> None:
    """Means over seeds with their range, joined where no cheaper winner is as good."""
    points = [(params(champion.record), champion.runs.mean) for champion in champions]
    line = [points[index] for index in pareto_front(points)]
    xs, ys = [x for x, _ in line], [error(y) for _, y in line]
    axes.step(xs, ys, where="post", color=VERMILION, linewidth=1.4)
    label: str | None = "winners, confirmed: test, mean and range over seeds"
    for champion in champions:
        finals = champion.runs.finals
        _diamond(axes, champion.record, champion.runs.mean, (min(finals), max(finals)), label)
        label = None


def _name(drawn: Figure, axes: Axes, surveys: Sequence[Survey], public: Sequence[PublicRecord]) -> None:
    """The name of each study beside its diamond, in the first place where it hides nothing, else to the left."""
    drawn.draw_without_rendering()  # so that it is known what lies where
    champions = [(survey.name, survey.champion) for survey in surveys if survey.champion is not None]
    taken = [_box(axes, record.params, record.shown, record.shown) for record in public]
    taken += [_box(axes, params(one.record), min(one.runs.finals), max(one.runs.finals)) for _, one in champions]
    for study, champion in sorted(champions, key=lambda each: params(each[1].record)):
        x, mean, finals = params(champion.record), champion.runs.mean, champion.runs.finals
        places = (
            (mean, (-8, 0), "right", "center"),
            (mean, (8, 7), "left", "center"),
            (max(finals), (0, 8), "center", "bottom"),
            (min(finals), (0, -8), "center", "top"),
        )
        name = study.rpartition("/")[2].replace("_", " ")
        tried = [
            axes.annotate(name, (x, error(y)), offset, textcoords="offset points", fontsize=8, ha=side, va=edge)
            for y, offset, side, edge in places
        ]
        boxes = [text.get_window_extent() for text in tried]
        free = (at for at, box in enumerate(boxes) if not box.count_overlaps(taken) and _inside(axes, box))
        chosen = next(free, 0)
        taken.append(boxes[chosen])
        for at, text in enumerate(tried):
            if at != chosen:
                text.remove()


def _box(axes: Axes, x: float, low: float, high: float) -> Bbox:
    """Where the mark of a winner or a record lies, with its whiskers, in pixels."""
    from matplotlib.transforms import Bbox

    ends = axes.transData.transform([(x, error(low)), (x, error(high))])
    return Bbox([ends.min(0), ends.max(0)]).padded(5)


def _inside(axes: Axes, box: Bbox) -> bool:
    return bool(axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1 and axes.bbox.y0 < box.y0 and box.y1 < axes.bbox.y1)


def _told_winners(public: bool) -> str:
    told = (
        "Diamonds: the winner of each study, chosen on validation, trained again on all training images; the mean last "
        "epoch over its seeds, and its worst and best seed."
    )
    return told + (" Public records are single runs, chosen and measured on the test set." if public else "")


def winners_table(surveys: Sequence[Survey]) -> str:
    """A row for each study, by params."""
    rows = [
        _winner_row(survey, survey.champion)
        for survey in sorted(surveys, key=lambda each: each.settings.budget)
        if survey.champion is not None
    ]
    columns = (
        "study",
        "params>",
        "budget>",
        "seeds>",
        "last epoch, test %>",
        f"lowest of the last {LAST} %>",
        "held",
        "network",
    )
    return table(columns, rows)


def _winner_row(survey: Survey, champion: Champion) -> Sequence[object]:
    """The target, and how many last epochs it is for, are each study's own; the lowest is of as many in every row."""
    runs, last = champion.runs, min(champion.aim.last, champion.runs.epochs)
    seeds, reached, _, held = over_seeds(runs, champion.aim)
    return (
        f"{survey.name}, trial {champion.record.number}",
        f"{params(champion.record):,}",
        f"{survey.settings.budget:,}",
        seeds,
        reached,
        percent(min(runs.lowest(min(LAST, runs.epochs)))),
        f"{held}, {the_last(last)}",
        f"`{champion.record.architecture}`",
    )


def over_seeds(runs: Confirmation, aim: Aim) -> tuple[str, str, str, str]:
    """Cells of a table: number of seeds, mean and spread of the last epoch, lowest of the last ones, how many held.

    The number names a precision of training other than float32.
    """
    last = min(aim.last, runs.epochs)
    held = runs.holds(aim.target, last)
    spread = "" if runs.std is None else f" ± {percent(runs.std)}"
    lowest = percent(min(runs.lowest(last)))
    return (
        str(runs.n) if runs.precision == FLOAT32 else f"{runs.n} in {runs.precision}",
        f"{percent(runs.mean)}{spread}",
        lowest,
        f"{target_words(aim.target)}: {held.passes} of {held.n}",
    )


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
