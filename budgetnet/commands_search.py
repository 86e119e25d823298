"""Commands that search, and write down what a search has found."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from budgetnet.completion import data_sets, pruners, samplers, spaces, studies
from budgetnet.errors import BudgetnetError
from budgetnet.options import (
    DeviceOption,
    ExecutorOption,
    JobCpusOption,
    JobGpusOption,
    JsonOption,
    RayAddressOption,
    StorageOption,
    TensorboardOption,
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
    from budgetnet.study import Study


def search(
    budget: Annotated[int, typer.Option(help="Params stay strictly below this.")] = 8000,
    trials: Annotated[int, typer.Option(help="Trained trials of the study in all, earlier runs included.")] = 30,
    space: Annotated[
        str,
        typer.Option(help="Search space: a name that ships with budgetnet, or a YAML file.", autocompletion=spaces),
    ] = "mnist",
    data: Annotated[
        str | None,
        typer.Option(
            help="mnist, cifar10 and what else torchvision has, a folder of class folders or IDX files, an .npz.",
            autocompletion=data_sets,
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Train on so many images, a stratified part, for a quick look; all by default.")
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(help="Name of the study; by default <space>-<budget> or <data>-<budget>.", autocompletion=studies),
    ] = None,
    storage: StorageOption = None,
    epochs: Annotated[int, typer.Option(help="Epochs a trial.")] = 15,
    max_macs: Annotated[int | None, typer.Option(help="At most so many multiply-accumulates an image.")] = None,
    sampler: Annotated[str, typer.Option(help="tpe, gp or random.", autocompletion=samplers)] = "tpe",
    pruner: Annotated[
        str, typer.Option(help="halving, median, percentile, hyperband or none.", autocompletion=pruners)
    ] = "halving",
    seed: Annotated[int, typer.Option(help="Seed of the sampler and of training.")] = 0,
    timeout: Annotated[str | None, typer.Option(help="Stop after this time: 90s, 30m, 2h; go on later.")] = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    hang_limit: Annotated[
        str, typer.Option(help="A worker that gives no sign of life for so long is killed; its trial fails.")
    ] = "10m",
    executor: ExecutorOption = "local",
    ray_address: RayAddressOption = None,
    job_cpus: JobCpusOption = 1.0,
    job_gpus: JobGpusOption = 0.0,
    tensorboard: TensorboardOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the result.")] = False,
    json_lines: Annotated[
        bool, typer.Option("--json-lines", help="A JSON object a line for every event, as it comes; see above.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Search for the best network under a budget; resumable.

    The same command goes on where it stopped. On a terminal a board shows how far it is; elsewhere lines do.

    With --json-lines every line has an "event": "started" (trial, notation, architecture, recipe, cost, seed …),
    "epoch" (trial, epoch, epochs, accuracy on validation, loss, seconds …), "ended" (trial, state – finished, pruned,
    rejected, duplicate or failed –, value, reason, trained, trials), and last "result" (best, tally, study …).
    Accuracies are fractions. A search that is interrupted has no result.

    Example: budgetnet search --budget 8000
    """
    _check_outputs({"--json": as_json, "--json-lines": json_lines, "--quiet": quiet})
    screen = console()
    if not (quiet or as_json or json_lines):
        screen.print(f"budgetnet search: params < {budget:,}, {trials} trials of {epochs} epochs; starting …")
    from budgetnet.coordinator import opened
    from budgetnet.plan import Request
    from budgetnet.tensorboard import check_folder, search_events
    from budgetnet.watch import put_json, result_of, watcher

    check_folder(tensorboard)
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
            watching = watcher(screen, running, quiet=quiet or as_json, json_lines=json_lines)
            with watching as board, closing(search_events(running, tensorboard)) as events:
                for event in events:
                    board.update(event)
            if json_lines:
                put_json(result_of(running))
            else:
                _print_result(screen, running, as_json)
    except KeyboardInterrupt:
        kept = f"{_kept(study_made)}; " if study_made is not None else ""
        stop(f"interrupted; {kept}go on with: {again()}", 130)


def _check_outputs(asked: dict[str, bool]) -> None:
    """Raise BudgetnetError unless at most one of these forms of output is asked for."""
    given = [option for option, wanted in asked.items() if wanted]
    if len(given) > 1:
        raise BudgetnetError(f"{', '.join(asked)} exclude each other, but got {' and '.join(given)}")


def _print_result(console: Console, search: Search, as_json: bool) -> None:
    from budgetnet.display import tally_line
    from budgetnet.listing import trials_table

    study = search.study
    best = study.leaderboard()[:10]
    if as_json:
        typer.echo(json.dumps([record.to_dict() for record in best]))
        return
    if best:
        title = f"best trials of {study.where.name}"
        console.print(trials_table(best, study.settings.budget, title, width=console.width))
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
