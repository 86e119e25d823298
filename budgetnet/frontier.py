"""Accuracy against parameters over several studies: the confirmed winners of all, as a picture and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from budgetnet.aim import Aim
from budgetnet.display import percent
from budgetnet.drawing import GREY, VERMILION, Picture, accuracy_axis, error, figure, picture
from budgetnet.front_marks import diamond, params, params_axis, public_marks, reached, records_of, scatter
from budgetnet.page import table
from budgetnet.public_records import PublicRecord
from budgetnet.results import FLOAT32, LAST, Confirmation
from budgetnet.statistics import pareto_front
from budgetnet.survey import Champion, Survey
from budgetnet.words import target_words, the_last

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

Place = tuple[float, tuple[int, int], str, str]


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
        scatter(
            axes, inside, 10, GREY, 0.5, f"finished trials, validation ({len(inside)} of {len(finished)}, rest below)"
        )
        _winners(axes, champions)
        public_marks(axes, public)
        trained = [*finished, *(champion.record for champion in champions)]
        params_axis(axes, [*map(params, trained), *(record.params for record in public)])
        accuracy_axis(axes, "test accuracy", accuracies)
        drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        _name(drawn, axes, surveys, public)
        return picture(drawn, "frontier", "Accuracy against parameters", _told_winners(champions, bool(public)))


def _winners(axes: Axes, champions: Sequence[Champion]) -> None:
    """Means over seeds with their range, joined where no cheaper winner is as good."""
    points = [(params(champion.record), champion.runs.mean) for champion in champions]
    line = [points[index] for index in pareto_front(points)]
    xs, ys = [x for x, _ in line], [error(y) for _, y in line]
    axes.step(xs, ys, where="post", color=VERMILION, linewidth=1.4)
    label: str | None = "winners, confirmed: test, mean and range over seeds"
    for champion in champions:
        finals = champion.runs.finals
        diamond(axes, champion.record, champion.runs.mean, (min(finals), max(finals)), label)
        label = None


def _name(drawn: Figure, axes: Axes, surveys: Sequence[Survey], public: Sequence[PublicRecord]) -> None:
    """The name of each study beside its diamond, where it hides the least; to the left where it hides nothing there."""
    drawn.draw_without_rendering()  # so that it is known what lies where
    champions = [(survey.name, survey.champion) for survey in surveys if survey.champion is not None]
    taken = [_box(axes, record.params, record.shown, record.shown) for record in public]
    taken += [letter.get_window_extent() for letter in axes.texts]
    taken += [_box(axes, params(one.record), min(one.runs.finals), max(one.runs.finals)) for _, one in champions]
    for study, champion in sorted(champions, key=lambda each: params(each[1].record)):
        name = study.rpartition("/")[2].replace("_", " ")
        taken.append(_place(axes, name, champion, taken))


def _place(axes: Axes, name: str, champion: Champion, taken: Sequence[Bbox]) -> Bbox:
    """Write the name beside the winner; returns where it lies, in pixels."""
    text = axes.annotate(name, (0, 0), (0, 0), textcoords="offset points", fontsize=8)

    def move(place: Place) -> Bbox:
        y, offset, side, edge = place
        text.xy = (params(champion.record), error(y))
        text.set(position=offset, horizontalalignment=side, verticalalignment=edge)
        return text.get_window_extent()

    def hidden(place: Place) -> int:
        box = move(place)
        return box.count_overlaps(taken) + (0 if _inside(axes, box) else len(taken) + 1)

    return move(min(_places(champion.runs), key=hidden))


def _places(runs: Confirmation) -> Sequence[Place]:
    """Around a diamond and its whiskers, the best first: an accuracy, points from there, how the text is aligned."""
    mean, low, high = runs.mean, min(runs.finals), max(runs.finals)
    return (
        (mean, (-8, 0), "right", "center"),
        (mean, (8, 7), "left", "center"),
        (high, (0, 8), "center", "bottom"),
        (low, (0, -8), "center", "top"),
        (high, (-6, 4), "right", "bottom"),
        (high, (6, 4), "left", "bottom"),
        (low, (-6, -4), "right", "top"),
        (low, (6, -4), "left", "top"),
        (high, (-6, 16), "right", "bottom"),
        (high, (6, 16), "left", "bottom"),
    )


def _box(axes: Axes, x: float, low: float, high: float) -> Bbox:
    """Where the mark of a winner or a record lies, with its whiskers, in pixels."""
    from matplotlib.transforms import Bbox

    ends = axes.transData.transform([(x, error(low)), (x, error(high))])
    return Bbox([ends.min(0), ends.max(0)]).padded(5)


def _inside(axes: Axes, box: Bbox) -> bool:
    return bool(axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1 and axes.bbox.y0 < box.y0 and box.y1 < axes.bbox.y1)


def _told_winners(champions: Sequence[Champion], public: bool) -> str:
    chosen = "" if any(one.record.value is None for one in champions) else "chosen on validation, "
    told = (
        f"Diamonds: the winner of each study, {chosen}trained again on all training images; the mean last "
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
    shown = {min(LAST, survey.champion.runs.epochs) for survey in surveys if survey.champion is not None}
    columns = (
        "study",
        "params>",
        "budget>",
        "seeds>",
        "last epoch, test %>",
        f"lowest of the last {'epochs' if len(shown) > 1 else min(shown)} %>",
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
