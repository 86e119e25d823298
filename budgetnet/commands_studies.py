"""Commands that look at what a search has found: all its trials, or one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from budgetnet.errors import BudgetnetError
from budgetnet.options import JsonOption, StorageOption, StudyOption, console

WIDEST = 120  # columns of what ``show`` draws


def trials(
    study: StudyOption = None,
    storage: StorageOption = None,
    every: Annotated[bool, typer.Option("--all", help="Also what was pruned, rejected or failed.")] = False,
    state: Annotated[
        list[str] | None,
        typer.Option(
            help="finished (the default), pruned, rejected, duplicate, failed, running, waiting or added; repeatable."
        ),
    ] = None,
    max_params: Annotated[int | None, typer.Option(help="Those with at most so many params.")] = None,
    min_value: Annotated[float | None, typer.Option(help="Those with at least so many percent on validation.")] = None,
    sort: Annotated[str, typer.Option(help="value, params, macs, field, number or seconds.")] = "value",
    reverse: Annotated[bool, typer.Option("--reverse", help="In the opposite order.")] = False,
    limit: Annotated[int | None, typer.Option(help="At most so many trials.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with curves and recipes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List what a study has found, the best first.

    Trials on the Pareto front are marked: among all that the study has finished, none is as good with fewer params, or
    better with as few. value and field begin with the largest, the other orders with the smallest.

    Example: budgetnet trials --sort params --min-value 99.2
    """
    from budgetnet.listing import LEGEND, Selection, trials_csv, trials_json, trials_table
    from budgetnet.study import open_study, pareto

    if as_csv and as_json:
        raise BudgetnetError("--csv and --json exclude each other, but got both")
    if every and state:
        raise BudgetnetError(f"--all and --state exclude each other, but got --all and --state {state[0]}")
    states = () if every else tuple(state or ("finished",))
    selection = Selection(sort, reverse, states, max_params, min_value, limit)
    opened = open_study(study, storage)
    every_record = opened.records()
    records, front = selection.of(every_record), pareto(every_record)
    if as_json:
        typer.echo(json.dumps(trials_json(records, front)))
    elif as_csv:
        typer.echo(trials_csv(records, front), nl=False)
    elif not records:
        typer.echo(f"study {opened.where.name}: none of its {len(every_record)} trials is asked for")
    else:
        screen, budget = console(), opened.settings.budget
        title = f"study {opened.where.name}: {len(records)} of {len(every_record)} trials"
        screen.print(trials_table(records, budget, title, front=front, width=screen.width))
        if not {record.number for record in records}.isdisjoint(front):
            screen.print(LEGEND, style="dim")


def show(
    trial: Annotated[int, typer.Option(help="Number of the trial.")],
    study: StudyOption = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one trial: stages, cost, curve, recipe, field, seeds.

    The last line is the command that trains just this, without a search.

    Example: budgetnet show --trial 42
    """
    from rich.text import Text

    from budgetnet.dossier import TRAIN, Dossier
    from budgetnet.study import open_study

    dossier = Dossier(open_study(study, storage), trial)
    if as_json:
        typer.echo(json.dumps(dossier.to_dict()))
        return
    screen = console()
    for heading, block in dossier.blocks(min(screen.width, WIDEST)):
        if heading:
            screen.print(Text(f"\n{heading}", "bold"))
        for item in block:
            # what is to be copied must not be broken into lines
            screen.print(Text(item) if isinstance(item, str) else item, soft_wrap=heading == TRAIN)


def report(
    studies: Annotated[
        list[str] | None, typer.Argument(help="Names of studies; by default the one written last.")
    ] = None,
    storage: StorageOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder; by default the study's own.")] = None,
) -> None:
    """Write a study's report: README.md, report.html and pictures.

    Trials, what mattered, and the confirmed winner with its Target, Result and Analysis. What stands in about: of the
    folder's study.yaml comes first. Several studies with --out are compared on one page: their winners, on test.

    Example: budgetnet report mnist-8000
    """
    from budgetnet.report import joint_page, study_page
    from budgetnet.study import open_study

    names: list[str | None] = [*studies] if studies else [None]
    opened = [open_study(name, storage) for name in names]
    if out is not None and len(opened) > 1:
        pages = {out: joint_page(opened, out)}
    else:
        pages = {out or study.where.home: study_page(study) for study in opened}
    for folder, page in pages.items():
        markdown, html = page.write(folder)
        typer.echo(f"wrote {markdown} and {html}")
