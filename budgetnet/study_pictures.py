"""Pictures of a whole study: accuracy against params, learning curves, what mattered, receptive fields, budget use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from budgetnet.drawing import (
    BLUE,
    GREEN,
    GREY,
    INK,
    PURPLE,
    VERMILION,
    Picture,
    accuracy_axis,
    error,
    figure,
    legend_below,
    picture,
)
from budgetnet.front_marks import params, reached
from budgetnet.importance import LEAST
from budgetnet.stages import stages
from budgetnet.study import TrialRecord
from budgetnet.study_front import accuracy_against_params
from budgetnet.survey import Survey
from budgetnet.words import plural, probability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 12  # hyperparameters in the picture of what mattered


def study_pictures(survey: Survey) -> list[Picture]:
    """What there is to draw of a study, in the order of a report; nothing where nothing has trained."""
    if not survey.trained:
        return [accuracy_against_params(survey)] if survey.confirmed else []
    drawn = [accuracy_against_params(survey), learning_curves(survey)]
    if survey.importances:
        drawn.append(what_mattered(survey))
    return [*drawn, receptive_fields(survey), budget_use(survey)]


# --- learning curves --------------------------------------------------------------------------------------------------


def learning_curves(survey: Survey) -> Picture:
    """Validation accuracy by epoch; what was pruned is faded."""
    finished = survey.finished
    pruned = [record for record in survey.trained if record.state == "pruned"]
    with figure() as drawn:
        axes = drawn.subplots()
        groups: tuple[tuple[str, list[TrialRecord], dict[str, Any]], ...] = (
            (f"pruned ({len(pruned)})", pruned, {"color": GREY, "alpha": 0.45, "linewidth": 0.8, "marker": "x"}),
            (f"finished ({len(finished)})", finished[1:], {"color": BLUE, "alpha": 0.7, "linewidth": 0.9}),
            ("the best", finished[:1], {"color": VERMILION, "linewidth": 2.2}),
        )
        for label, records, style in groups:
            for record in records:
                epochs = range(1, len(record.curve) + 1)
                axes.plot(epochs, list(map(error, record.curve)), label=label, markevery=[-1], markersize=4, **style)
                label = "_nolegend_"
        accuracy_axis(axes, "validation accuracy", [value for r in [*finished, *pruned] for value in r.curve])
        _epochs_axis(axes, survey.settings.epochs)
        legend_below(axes, 3)
        told = f"{plural(len(finished), 'trial')} trained to the end" + (
            f", {len(pruned):,} were stopped early by the pruner (marked ×)." if pruned else "; none was pruned."
        )
        return picture(drawn, "learning_curves", "Learning curves", told)


def _epochs_axis(axes: Axes, epochs: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0.5, epochs + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")


# --- what mattered ----------------------------------------------------------------------------------------------------


def what_mattered(survey: Survey) -> Picture:
    """The hyperparameters that the best quarter of the trials drew most unlike the rest."""
    found = survey.importances[:NAMED]
    rows = range(len(found))
    with figure(7.2, 0.9 + 0.32 * len(found)) as drawn:
        axes = drawn.subplots()
        bars = axes.barh(rows, [100 * one.share for one in found], height=0.6, color=GREY)
        for bar, one in zip(bars, found, strict=True):
            bar.set_color(GREEN if one.beyond_chance else GREY)
        axes.hlines(rows, [100 * one.low for one in found], [100 * one.high for one in found], color=INK, linewidth=1.4)
        axes.scatter(
            [100 * one.chance for one in found], rows, marker="|", s=160, color=VERMILION, linewidths=2, zorder=3
        )
        axes.set_yticks(list(rows), [one.name for one in found])
        axes.invert_yaxis()
        axes.set_xlim(0)
        axes.set_xlabel("importance (% of the sum over all hyperparameters)")
        axes.grid(axis="y", visible=False)
        beyond = [one.name for one in survey.importances if one.beyond_chance]
        told = (
            f"PED-ANOVA over {len(survey.trained)} trained trials, ranked by how far they came and how accurate "
            "they were there. Line: 80 % of resampled studies; red mark: what 95 % of shuffled studies stay below. "
            f"Beyond it (green): {', '.join(beyond) or 'none'}; of {len(survey.importances)} hyperparameters about "
            f"{len(survey.importances) / 20:.1f} pass it by chance. Where a sampler narrowed what it drew, that "
            "counts, too."
        )
        return picture(drawn, "what_mattered", "What mattered", told)


# --- receptive fields -------------------------------------------------------------------------------------------------


def receptive_fields(survey: Survey) -> Picture:
    """Validation accuracy by what a cell of the last map sees."""
    image = min(survey.settings.space["input"][1:])
    groups = (
        ("pruned: where it stopped", [r for r in survey.trained if r.state == "pruned"], GREY, 16),
        ("finished", survey.finished, BLUE, 26),
    )
    with figure() as drawn:
        axes = drawn.subplots()
        for label, records, colour, size in groups:
            if records:
                fields = [record.receptive_field or 0 for record in records]
                heights = [error(reached(record)) for record in records]
                axes.scatter(fields, heights, s=size, color=colour, alpha=0.7, linewidths=0, label=label)
        axes.axvline(image, color=INK, linewidth=1, linestyle=":", label=f"side of the image, {image} pixels")
        axes.set_xlim(0)
        axes.set_xlabel("receptive field of a cell of the last map (pixels a side)")
        accuracy_axis(axes, "validation accuracy", map(reached, survey.trained))
        legend_below(axes, 3)
        told = f"Each point is a trial; the dotted line is the side of the image.{_correlation(survey.finished)}"
        return picture(drawn, "receptive_fields", "Receptive field against accuracy", told)


def _correlation(finished: Sequence[TrialRecord]) -> str:
    """Spearman's rank correlation of field and accuracy, where there are enough trials to speak of one."""
    from scipy.stats import spearmanr

    fields, values = [record.receptive_field for record in finished], [record.value for record in finished]
    if len(finished) < LEAST or len(set(fields)) < 2 or len(set(values)) < 2:
        return ""
    found = spearmanr(fields, values)
    return (
        f" Rank correlation (Spearman) over the {len(finished)} finished trials: {found.statistic:+.2f}, "
        f"p {probability(float(found.pvalue))}; only a correlation: depth and width differ as well."
    )


# --- budget use -------------------------------------------------------------------------------------------------------


def budget_use(survey: Survey) -> Picture:
    """How much of the budget the trials use, and where the best one spends it."""
    best = survey.champion.record if survey.champion else (survey.finished or survey.trained)[0]
    budget = survey.settings.budget
    with figure(7.6, 3.4) as drawn:
        left, right = drawn.subplots(1, 2, width_ratios=(2, 3))
        used = [100 * params(record) / budget for record in survey.trained]
        left.hist(used, bins=20, color=BLUE, edgecolor=INK, linewidth=0.5)
        left.set_xlabel("params (% of the budget)")
        left.set_ylabel("trained trials")
        parts = spending(best)
        rows = range(len(parts))
        right.barh([row - 0.19 for row in rows], [part[1] for part in parts], 0.36, color=PURPLE, label="params")
        right.barh([row + 0.19 for row in rows], [part[2] for part in parts], 0.36, color=GREEN, label="MACs")
        right.set_yticks(list(rows), [part[0] for part in parts])
        right.invert_yaxis()
        right.grid(axis="y", visible=False)
        right.set_xlabel(f"share in trial {best.number} (%)")
        right.legend(loc="best")
        told = (
            f"Left: params of the {len(used)} trained trials as a share of the budget of {budget:,}. "
            f"Right: where trial {best.number} ({params(best):,} params) spends its params and MACs."
        )
        return picture(drawn, "budget_use", "Budget use", told)


def spending(record: TrialRecord) -> list[tuple[str, float, float]]:
    """(stage, % of the params, % of the MACs), in the order of the network."""
    assert record.architecture is not None
    parts = stages(record.architecture)
    params, macs = sum(part.params for part in parts), sum(part.macs for part in parts)
    return [(part.name, 100 * part.params / params, 100 * part.macs / max(macs, 1)) for part in parts]
