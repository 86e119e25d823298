"""Commands that search, and look at what a search has found."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from budgetnet.errors import BudgetnetError
from budgetnet.options import (
    DeviceOption,
    JsonOption,
    StorageOption,
    StudyOption,
    WorkersOption,
    again,
    console,
    remark,
    say,
    stop,
)

if TYPE_CHECKING:
    from rich.console import Console

    from budgetnet.coordinator import Search
    from budgetnet.study import Study, TrialRecord


def search(
    budget: Annotated[int, typer.Option(help="Params stay strictly below this.")] = 8000,
    trials: Annotated[int, typer.Option(help="Trained trials of the study in all, earlier runs included.")] = 30,
    space: Annotated[
        str, typer.Option(help="Search space: a name that ships with budgetnet, or a YAML file.")
    ] = "mnist",
    data: Annotated[
        str | None,
        typer.Option(
            help="mnist, cifar10 and what else torchvision has, a folder of class folders or IDX files, an .npz."
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Train on so many images, a stratified part, for a quick look; all by default.")
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Name of the study; by default <space>-<budget> or <data>-<budget>.")
    ] = None,
    storage: StorageOption = None,
    epochs: Annotated[int, typer.Option(help="Epochs a trial.")] = 15,
    max_macs: Annotated[int | None, typer.Option(help="At most so many multiply-accumulates an image.")] = None,
    sampler: Annotated[str, typer.Option(help="tpe, gp or random.")] = "tpe",
    pruner: Annotated[str, typer.Option(help="halving, median, percentile, hyperband or none.")] = "halving",
    seed: Annotated[int, typer.Option(help="Seed of the sampler and of training.")] = 0,
    timeout: Annotated[str | None, typer.Option(help="Stop after this time: 90s, 30m, 2h; go on later.")] = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    hang_limit: Annotated[
        str, typer.Option(help="A worker that gives no sign of life for so long is killed; its trial fails.")
    ] = "10m",
    executor: Annotated[
        str, typer.Option(help="Where trials train: local processes, or tasks on a ray cluster.")
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(help="Ray cluster, as host:port or auto; else RAY_ADDRESS; else one is started on this machine."),
    ] = None,
    job_cpus: Annotated[float, typer.Option(help="CPUs that a ray task asks for.")] = 1.0,
    job_gpus: Annotated[float, typer.Option(help="GPUs that a ray task asks for; 0.25 shares one among four.")] = 0.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the result.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Search for the best network under a budget; resumable.

    The same command goes on where it stopped.

    Example: budgetnet search --budget 8000
    """
    screen = console()
    if not (quiet or as_json):
        screen.print(f"budgetnet search: params < {budget:,}, {trials} trials of {epochs} epochs; starting …")
    from budgetnet.coordinator import opened
    from budgetnet.display import watcher
    from budgetnet.plan import Request

    request = Request(
        budget=budget,
        space=space,
        data=data,
        images=images,
        study=study,
        storage=storage,
        trials=trials,
        epochs=epochs,
        seed=seed,
        max_macs=max_macs,
        sampler=sampler,
        pruner=pruner,
        timeout=None if timeout is None else _seconds("--timeout", timeout),
        workers=workers,
        device=device,
        hang_limit=_seconds("--hang-limit", hang_limit),
        executor=executor,
        ray_address=ray_address,
        job_cpus=job_cpus,
        job_gpus=job_gpus,
    )
    study_made = None
    try:
        with opened(request) as running:
            study_made = running.study
            remark(running.notes)
            with watcher(screen, running, quiet=quiet or as_json) as board, closing(running.run()) as events:
                for event in events:
                    board.update(event)
            _print_result(screen, running, as_json)
    except KeyboardInterrupt:
        kept = f"{_kept(study_made)}; " if study_made is not None else ""
        stop(f"interrupted; {kept}go on with: {again()}", 130)


def _print_result(console: Console, search: Search, as_json: bool) -> None:
    from budgetnet.display import tally_line, trials_table

    study = search.study
    best = study.leaderboard()[:10]
    if as_json:
        typer.echo(json.dumps([record.to_dict() for record in best]))
        return
    if best:
        console.print(trials_table(best, study.settings.budget, f"best trials of {study.where.name}"))
    say(["", f"this run: {tally_line(search.tally)}"])
    lines = [f"study: {study.where.shown}"]
    if search.timed_out:
        lines.append(f"time is up with {search.trained} trained trials; go on with: {again()}")
    if search.exhausted:
        lines.append("there seems to be nothing new to try: hundreds of proposals in a row were known or invalid")
    if best:
        lines.append(f"next: {_next_command(study, best[0].number)}")
    console.print("\n".join(lines), markup=False, soft_wrap=True)


def _next_command(study: Study, trial: int) -> str:
    """The command that freezes a trial."""
    from shlex import join

    from budgetnet.place import options_of

    return join(["budgetnet", "freeze", *options_of(study.where), "--trial", str(trial)])


def _kept(study: Study) -> str:
    trained = sum(record.trained for record in study.records())
    return f"study {study.where.name} is kept with {trained} trained trial{'' if trained == 1 else 's'}"


def _seconds(option: str, text: str) -> float:
    """``90``, ``90s``, ``30m``, ``2h`` in seconds."""
    factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    number = text[:-1] if factor else text
    try:
        return float(number) * (factor or 1)
    except ValueError:
        raise BudgetnetError(f"{option} must be a time such as 90s, 30m or 2h, but got {text!r}") from None


def trials(
    study: StudyOption = None,
    storage: StorageOption = None,
    every: Annotated[bool, typer.Option("--all", help="Also what was pruned, rejected or failed.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with curves and recipes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List what a study has found, the best first.

    Example: budgetnet trials --study mnist-8000
    """
    from budgetnet.display import trials_csv, trials_table
    from budgetnet.study import open_study

    opened = open_study(study, storage)
    records = opened.leaderboard()
    if every:
        records += [record for record in opened.records() if record.state != "finished"]
    if as_json:
        typer.echo(json.dumps([record.to_dict() for record in records]))
        return
    if as_csv:
        typer.echo(trials_csv(records), nl=False)
        return
    console().print(trials_table(records, opened.settings.budget, f"study {opened.where.name}"))


def show(
    trial: Annotated[int, typer.Option(help="Number of the trial.")],
    study: StudyOption = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one trial: network, cost, recipe, curve, field.

    Example: budgetnet show --trial 42
    """
    from budgetnet.study import open_study

    opened = open_study(study, storage)
    record = opened.record(trial)
    if as_json:
        confirmed = [run.to_dict() for run in opened.runs(trial)]
        typer.echo(json.dumps({**record.to_dict(), "confirmed": confirmed}))
        return
    _print_trial(console(), record, opened)


def _print_trial(console: Console, record: TrialRecord, study: Study) -> None:
    from budgetnet.display import percent, spark
    from budgetnet.table import receptive_field
    from budgetnet.words import short

    budget, runs = study.settings.budget, study.runs(record.number)

    def tell(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    tell(f"trial {record.number}: {record.state}{f' ({record.reason})' if record.reason else ''}")
    if record.architecture is None or record.recipe is None:
        return
    tell(f"network: {record.architecture}")
    if record.cost is not None:
        cost = record.cost
        tell(f"cost: {cost.params:,} / {budget:,} params · {cost.macs:,} MACs · {cost.peak_activations:,} activations")
    if record.curve:
        tell(f"validation: {spark(record.curve)}  {' '.join(percent(accuracy) for accuracy in record.curve)} %")
    if record.state == "finished":
        tell(f"value: {percent(record.value)} % (mean of the last three epochs), {record.seconds:.0f} s of training")
    if runs:
        finals = " ".join(percent(run.final.accuracy) for run in runs)
        tell(f"confirmed: test {finals} % in the last epoch of seeds {', '.join(str(run.seed) for run in runs)}")
    tell("recipe: " + ", ".join(f"{name} {short(value)}" for name, value in record.recipe.to_dict().items()))
    tell("")
    tell(str(receptive_field(record.architecture)))


def report(
    study: StudyOption = None,
    storage: StorageOption = None,
    out: Annotated[Path | None, typer.Option(help="File; by default README.md in the study's folder.")] = None,
) -> None:
    """Write a study as a Markdown page.

    Example: budgetnet report --study mnist-8000
    """
    from budgetnet.report import write_report
    from budgetnet.study import open_study

    typer.echo(f"wrote {write_report(open_study(study, storage), out)}")
