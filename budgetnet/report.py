"""A study as a page: README.md with its pictures for a repository, report.html for everybody else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from shlex import join

from budgetnet.aim import Aim, read_aim
from budgetnet.by_recipe import networks_by_recipe
from budgetnet.catalogue import same_data
from budgetnet.display import percent, spark
from budgetnet.errors import StudyError
from budgetnet.front_marks import records_of, records_table
from budgetnet.frontier import frontier, over_seeds, winners_table
from budgetnet.given import SPACE
from budgetnet.page import Page, shown, table
from budgetnet.results import FLOAT32, Confirmation
from budgetnet.study import VALUE_EPOCHS, Study, TrialRecord
from budgetnet.study_pictures import study_pictures
from budgetnet.survey import Champion, Survey, survey
from budgetnet.tabulate import receptive_field
from budgetnet.winner_pictures import champion_pictures
from budgetnet.words import plural, short, the_last

BEST = 20  # trials in the table


def study_page(study: Study) -> Page:
    """All about one study: its winner, its trials, and pictures of both."""
    found = survey(study)
    of_study, of_winner = study_pictures(found), [] if found.champion is None else champion_pictures(found.champion)
    parts = list(_preface(found))
    if found.champion is not None:
        parts += _account(found.champion)
    parts += [*_trials(found), *_confirmed(found), *networks_by_recipe(found)]
    for picture in of_study:
        parts += [f"## {picture.title}", shown(picture)]
        if picture.name == "accuracy_against_params" and records_of(found.settings.data):
            parts.append(records_table())
    if found.champion is not None:
        parts += _seeds(found.champion)
    for picture in of_winner:
        parts += [f"## {picture.title}", shown(picture)]
    parts += _again(found)
    return Page(f"Study {found.name}", "\n\n".join(parts), (*of_study, *of_winner))


def joint_page(studies: Sequence[Study], folder: Path) -> Page:
    """Several studies on one page: their winners beside each other and the public records.

    ``folder``: where the page is to be; its study.yaml says what comes first. Raises StudyError where no study has a
    winner.
    """
    surveys, about = [survey(study) for study in studies], read_aim(folder).about
    kinds = {found.settings.data for found in surveys}
    if not all(same_data(kind, surveys[0].settings.data) for kind in kinds):
        raise StudyError(f"only studies of the same data compare, but these are of {', '.join(sorted(kinds))}")
    if not any(found.champion for found in surveys):
        raise StudyError(f"none of {', '.join(found.name for found in surveys)} has a confirmed winner")
    picture = frontier(surveys)
    parts = [*([about] if about else []), shown(picture), "## Winners", winners_table(surveys)]
    if records_of(surveys[0].settings.data):
        parts += ["## Public records", records_table()]
    for found in surveys:
        if found.champion is not None:
            parts += _account(found.champion, found.name)
    return Page(f"{len(surveys)} studies: {', '.join(found.name for found in surveys)}", "\n\n".join(parts), (picture,))


# --- its parts --------------------------------------------------------------------------------------------------------


def _preface(found: Survey) -> Iterator[str]:
    settings = found.settings
    limits = [f"fewer than {settings.budget:,} params"]
    if settings.max_macs is not None:
        limits.append(f"at most {settings.max_macs:,} MACs")
    images = "the training split" if settings.images is None else f"{settings.images:,} images of the training split"
    if settings.max_activations is not None:
        limits.append(f"at most {settings.max_activations:,} activations at once")
    if found.aim.about:
        yield found.aim.about
    if settings.space["name"] == SPACE:
        yield f"Networks that were added, on `{settings.data}`: {', '.join(limits)}; {settings.epochs} epochs."
        return
    yield (
        f"Space `{settings.space['name']}` on `{settings.data}`: {', '.join(limits)}; {settings.epochs} epochs a trial "
        f"on {images}; seed {settings.seed}. A trial's value is its mean validation accuracy over the last "
        f"{min(VALUE_EPOCHS, settings.epochs)} epochs; no test image was read to choose it."
    )


def _account(champion: Champion, study: str | None = None) -> Iterator[str]:
    name = f"trial {champion.record.number}" + (f", frozen as {champion.frozen_as}" if champion.frozen_as else "")
    said = champion.account
    yield f"## The winner{'' if study is None else f' of {study}'}: {name}"
    yield f"`{champion.record.architecture}`"
    if champion.record.state == "added" and champion.record.reason:
        yield escape(" ".join(champion.record.reason.split()), quote=False)
    yield f"**Target:** {said.target}"
    yield f"**Result:** {said.result}"
    yield table(("", " "), [(what, words) for what, words in said.figures if not what.startswith("seed ")])
    yield "**Analysis:**"
    yield "\n".join(f"- {sentence}" for sentence in said.analysis)
    assert champion.record.architecture is not None
    yield "**Receptive field and cost:**"
    yield f"```\n{receptive_field(champion.record.architecture)}\n```"


def _trials(found: Survey) -> Iterator[str]:
    yield "## Trials"
    states = Counter(record.state for record in found.records)
    yield " · ".join(f"{count:,} {state}" for state, count in states.most_common()) or "none yet"
    best = found.finished[:BEST]
    if not best:
        return
    columns = ("trial>", "validation %>", f"params / {found.settings.budget:,}>", "MACs>", "field>", "curve", "network")
    yield table(columns, map(_row, best))
    if best[0].recipe is not None:
        recipe = ", ".join(f"{name} {short(value)}" for name, value in best[0].recipe.to_dict().items())
        yield f"Recipe of trial {best[0].number}: {recipe}."


def _confirmed(found: Survey) -> Iterator[str]:
    """All that is confirmed, in the order of the trials; a single winner has its own part."""
    if found.champion is not None and len(found.confirmed) == 1:
        return
    if not found.confirmed:
        return
    yield "## Confirmed on test"
    columns = (
        "trial>",
        "params>",
        "seeds>",
        "last epoch %>",
        "lowest of {} %>",
        "held",
        "best epoch>",
        "network",
        "",
    )
    yield table(
        tuple(each.format(the_last(min(found.aim.last, found.settings.epochs))) for each in columns),
        [_confirmed_row(found.records[number], runs, found.aim) for number, runs in found.confirmed.items()],
    )


def _confirmed_row(record: TrialRecord, runs: Confirmation, aim: Aim) -> Sequence[object]:
    return (
        record.number,
        f"{record.cost.params:,}" if record.cost else "–",
        *over_seeds(runs, aim),
        percent(runs.best_test),
        f"`{record.architecture}`",
        escape(record.reason or "", quote=False),
    )


def _row(record: TrialRecord) -> Sequence[object]:
    params, macs = (f"{record.cost.params:,}", f"{record.cost.macs:,}") if record.cost else ("–", "–")
    curve, network = spark(record.curve), f"`{record.architecture}`"
    return record.number, percent(record.value), params, macs, record.receptive_field, curve, network


def _seeds(champion: Champion) -> Iterator[str]:
    last, aim = min(champion.aim.last, champion.runs.epochs), champion.aim
    precision = "" if champion.runs.precision == FLOAT32 else f", trained in {champion.runs.precision}"
    yield f"## Trial {champion.record.number} over {plural(champion.runs.n, 'seed')}{precision}"
    rows = [
        (
            run.seed,
            percent(run.final.accuracy),
            percent(run.lowest(last)),
            percent(run.best.accuracy),
            percent(run.outcome.train_accuracy),
            "yes" if run.holds(aim.target, last) else "no",
        )
        for run in champion.runs.runs
    ]
    columns = (
        "seed>",
        "last epoch, test %>",
        f"lowest of {the_last(last)} %>",
        "best epoch %>",
        "clean train %>",
        "held",
    )
    yield table(columns, rows)


def _again(found: Survey) -> Iterator[str]:
    if not found.records:
        return
    yield "## To look further"
    yield (
        "The study keeps its trials and their seeds: a `search` or `confirm` that names it goes on from there, and "
        "trains nothing twice. Another `--study` begins anew."
    )
    options = found.study.where.options
    number = found.champion.record.number if found.champion else 0
    lines = [["trials", *options, "--all"], ["show", *options, "--trial", str(number)]]
    if found.champion is not None:
        lines.append(["confirm", *options, "--trial", str(number), "--seeds", str(found.champion.runs.n)])
    lines.append(["report", found.name, *options[2:]])
    yield "\n".join(["```sh", *(join(["budgetnet", *line]) for line in lines), "```"])
