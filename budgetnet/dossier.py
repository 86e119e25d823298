"""All that a study knows of one trial: in blocks for a terminal, and as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from shlex import join, quote
from typing import Any

from rich.table import Table
from rich.text import Text

from budgetnet.chart import LEAST, chart
from budgetnet.columns import COLUMNS, times
from budgetnet.display import ordinal, percent
from budgetnet.notation import parse
from budgetnet.place import options_of
from budgetnet.progress import Rank, rank
from budgetnet.recipe import Recipe
from budgetnet.results import LAST, SeedRun
from budgetnet.stages import Stage, stages
from budgetnet.statistics import mean, std
from budgetnet.study import VALUE_EPOCHS, Settings, Study, TrialRecord, pareto
from budgetnet.table import ReceptiveFieldTable
from budgetnet.tabulate import receptive_field
from budgetnet.words import plural, share, short, the_last

TRAIN = "train just this"
JSON_FILE = "architecture.json"
SAID = {
    "rejected": "it was never trained",
    "duplicate": "it was answered from the record, not trained again",
    "waiting": "it is queued, and has not begun",
    "running": "it trains, or its search was killed; the next search of this study queues it again",
}


@dataclass(frozen=True)
class Dossier:
    """A trial within its study."""

    study: Study
    number: int

    @cached_property
    def record(self) -> TrialRecord:
        """Raises StudyError when there is no such trial."""
        return self.study.record(self.number)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """What its network is made of; nothing where there is none."""
        return () if self.record.architecture is None else stages(self.record.architecture)

    @cached_property
    def rank(self) -> Rank | None:
        """Where it stands among the others of the study."""
        others = [record.curve for record in self.study.records() if record.number != self.number and record.trained]
        return rank(self.record, others)

    @cached_property
    def on_front(self) -> bool:
        """Whether no other finished trial beats it in params and value."""
        return self.number in pareto(self.study.records())

    @property
    def command(self) -> list[str]:
        """The lines of a shell that train just this, once more; none where no network was made."""
        return train_command(self.record, self.study.settings, ["budgetnet", "show", *options_of(self.study.where)])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the record, and what is known beside it."""
        return {
            **self.record.to_dict(),
            "pareto": self.on_front,
            "rank": None if self.rank is None else [self.rank.place, self.rank.of],
            "stages": [stage.to_dict() for stage in self.stages],
            "confirmed": [run.to_dict() for run in self.study.runs(self.number)],
            "train": self.command,
        }

    def blocks(self, width: int) -> Iterator[tuple[str, Sequence[str | Table]]]:
        """Headings and what stands under them, for a terminal of ``width``, as far as there is something to say."""
        record = self.record
        yield "", list(self._summary())
        if self.stages:
            yield "stages", [stages_table(self.stages, width)]
        if record.curve and record.recipe:
            heading = "validation accuracy in percent, on the scale of the logarithm of the error"
            numbers = f"by epoch: {' '.join(map(percent, record.curve))}"
            yield heading, [*chart(record.curve, record.recipe.epochs, max(width, LEAST)), numbers]
        if record.recipe is not None:
            yield "recipe", recipe_lines(record.recipe)
        if record.architecture is None and record.drawn:
            yield "drawn from the space", [", ".join(f"{name} {short(v)}" for name, v in record.drawn.items())]
        if runs := self.study.runs(self.number):
            yield "confirmed on test images, trained on all training images", seed_lines(runs)
        if record.architecture is not None:
            yield "receptive field", field_lines(receptive_field(record.architecture), width)
        if self.command:
            yield TRAIN, self.command

    def _summary(self) -> Iterator[str]:
        record, study = self.record, self.study
        reason = record.reason or ""
        told = reason if reason.startswith(record.state) else f"{record.state}{f', {reason}' if reason else ''}"
        yield f"trial {record.number} of {study.where.name}: {told}"
        yield from filter(None, (SAID.get(record.state), *self._standing()))
        if record.architecture is not None:
            yield f"network: {record.architecture}"
        if record.cost is not None:
            cost, budget = record.cost, study.settings.budget
            params = f"{cost.params:,} / {budget:,} params ({share(cost.params / budget)})"
            yield f"cost: {params} · {cost.macs:,} MACs · {cost.peak_activations:,} activations"
        if record.curve:
            seconds = f" in {record.seconds:,.0f} s" if record.seconds else ""  # not kept of a failed trial
            yield f"trained: {plural(len(record.curve), 'epoch')}{seconds}, seed {record.seed}"

    def _standing(self) -> Iterator[str]:
        record, place = self.record, self.rank
        if place is not None and record.state == "finished":
            of_last = f"mean of {the_last(min(VALUE_EPOCHS, len(record.curve)))}"
            value = f"value: {percent(record.value)} % ({of_last})"
            front = ", on the Pareto front of params and value" if self.on_front else ""
            yield f"{value}, {ordinal(place.place)} of {place.of} finished{front}"
        elif place is not None:
            yield (
                f"value: {percent(record.value)} % when it was pruned, "
                f"{ordinal(place.place)} of the {place.of} that came to epoch {len(record.curve)}"
            )


# --- its parts --------------------------------------------------------------------------------------------------------


def stages_table(found: Sequence[Stage], width: int) -> Table:
    """The stages: what they are made of, their maps, and their part of the whole."""
    params, macs = sum(stage.params for stage in found), sum(stage.macs for stage in found)
    peak = max(stage.activations for stage in found)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("stage", "output", "params", "share", "MACs", "share", "activations"):
        table.add_column(heading, justify="left" if heading == "stage" else "right", no_wrap=True)
    table.add_column("network", overflow="fold")
    for stage in found:
        part = share(stage.params / params), share(stage.macs / macs) if macs else ""
        counts = (f"{stage.params:,}", part[0], f"{stage.macs:,}", part[1], f"{stage.activations:,}")
        table.add_row(stage.name, times(stage.output), *counts, Text(stage.notation))
    table.add_row("whole", "", f"{params:,}", "", f"{macs:,}", "", f"{peak:,}", style="bold")
    if width < 100:
        del table.columns[5]  # the share of the MACs
    return table


def recipe_lines(recipe: Recipe) -> list[str]:
    """What the recipe sets, and what it leaves as it is by default."""
    own = _own(recipe)
    rest = {name: value for name, value in recipe.to_dict().items() if name not in own}
    told = [", ".join(f"{name} {short(value)}" for name, value in fields.items()) for fields in (own, rest)]
    return [line for line in (told[0], f"by default: {told[1]}" if rest else "") if line]


def _own(recipe: Recipe) -> dict[str, Any]:
    """The fields that are not as they are by default."""
    usual = asdict(Recipe())
    return {name: value for name, value in recipe.to_dict().items() if value != usual[name]}


def seed_lines(runs: Sequence[SeedRun]) -> list[str]:
    """A table of the seeds, and their mean."""
    last = min([LAST, *(len(run.epochs) for run in runs)])
    rows = [["seed", "last %", f"lowest of last {last}", "best %", "epochs"]]
    for run in runs:
        figures = (run.final.accuracy, run.lowest(last), run.best.accuracy)
        rows.append([str(run.seed), *map(percent, figures), str(len(run.epochs))])
    finals = [run.final.accuracy for run in runs]
    spread = std(finals)
    of = f"{percent(mean(finals))}{f' ± {100 * spread:.2f}' if spread is not None else ''} %"
    return [*_aligned(rows), f"last epoch {of} over {plural(len(runs), 'seed')}"]


def field_lines(table: ReceptiveFieldTable, width: int) -> list[str]:
    """The table that ``rf`` prints, without the columns that say least where there is no room for them."""
    shown = [column for column in COLUMNS if column.tells(table.rows)]
    for spare in ("", "start", "groups", "padding", "MACs", "jump"):
        shown = [column for column in shown if column.heading != spare]
        heading = [column.short or column.heading for column in shown]
        cells = [[column.text(row) for column in shown] for row in table.rows]
        lines = _aligned([heading, *cells], [place for place, column in enumerate(shown) if column.left])
        if max(map(len, lines)) <= width:
            break
    legend = ", ".join(f"{column.short} {column.heading}" for column in shown if column.short)
    return [*lines, *table.totals(), *([legend] if legend else [])]


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = ()) -> list[str]:
    """Rows as lines with cells under each other, to the right but for the columns ``left``."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_padded(row, widths, left)).rstrip() for row in rows]


def _padded(row: Sequence[str], widths: Sequence[int], left: Sequence[int]) -> Iterator[str]:
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if place in left else cell.rjust(width)


# --- the command ------------------------------------------------------------------------------------------------------


def train_command(record: TrialRecord, settings: Settings, show: Sequence[str]) -> list[str]:
    """The lines of a shell that train a trial's network by its recipe, with its data and seed; none without a network.

    An architecture that its notation does not give back goes through a file, which ``show`` (the words of the command
    that shows trials of this study) writes.
    """
    if record.architecture is None or record.recipe is None:
        return []
    notation = str(record.architecture)
    exact = parse(notation) == record.architecture
    own = ",".join(f"{name}={_written(value)}" for name, value in _own(record.recipe).items())
    images = [] if settings.images is None else ["--images", str(settings.images)]
    options = [*(["--recipe", own] if own else []), "--data", settings.data, *images, "--seed", str(record.seed)]
    if record.state == "added":  # for which nothing was held out, nor from its teacher
        options.append("--final")
    words = ["budgetnet", "train", notation if exact else JSON_FILE, *options]
    if exact:
        return [join(words)]
    save = join([*show, "--trial", str(record.number), "--json"])
    pick = "import json, sys; json.dump(json.load(sys.stdin)['architecture'], sys.stdout)"
    return [f"{save} | python -c {quote(pick)} > {JSON_FILE}", join(words)]


def _written(value: object) -> str:
    """A value of a recipe as ``train --recipe`` reads it back, exactly."""
    return str(value).lower() if isinstance(value, bool) else str(value)
