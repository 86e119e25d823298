"""The command line. Every command is a few lines; here alone an error becomes a message and an exit code.

Exit codes: 0 done · 1 a claim does not hold (verify) · 2 bad input, or nothing to be done about it · 130 interrupted.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from budgetnet.errors import BudgetnetError

if TYPE_CHECKING:
    from rich.console import Console

    from budgetnet.coordinator import Search
    from budgetnet.recipe import EpochResult
    from budgetnet.study import Study, TrialRecord

# Click's UsageError; typer brings click along under a name of its own.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])

app = typer.Typer(
    name="budgetnet",
    help="Finds the most accurate small convolutional network that fits a parameter budget, and hands it back as code.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StudyOption = Annotated[str | None, typer.Option("--study", help="Name of the study; by default the one written last.")]
StorageOption = Annotated[str | None, typer.Option("--storage", help="Optuna storage URL instead of SQLite.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", help="Training processes; by default one a core, or one a GPU. 0: none.")
]


def main() -> None:
    """Entry point of the program."""
    signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: stop the workers, keep the study
    try:
        sys.exit(app(standalone_mode=False))
    except BudgetnetError as error:
        _end(f"error: {error}", 2)
    except UsageError as error:
        _end(f"error: {error.format_message()}", 2)
    except (KeyboardInterrupt, typer.Abort):
        _end("interrupted", 130)
    except BrokenPipeError:  # the reader of our output has gone, as in `budgetnet trials | head`
        sys.stderr.close()
        sys.exit(0)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _end(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        from budgetnet import __version__

        typer.echo(f"budgetnet {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


@app.command()
def search(
    budget: Annotated[int, typer.Option(help="Params stay strictly below this.")] = 8000,
    trials: Annotated[int, typer.Option(help="Trained trials of the study in all, earlier runs included.")] = 14,
    space: Annotated[
        str, typer.Option(help="Search space: a name that ships with budgetnet, or a YAML file.")
    ] = "mnist",
    data: Annotated[
        str | None, typer.Option(help="mnist, a torchvision name, a folder of class folders or IDX files, or an .npz.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Train on so many images, a stratified part, for a quick look; all by default.")
    ] = None,
    study: Annotated[str | None, typer.Option(help="Name of the study; by default <space>-<budget>.")] = None,
    storage: StorageOption = None,
    epochs: Annotated[int, typer.Option(help="Epochs a trial.")] = 15,
    max_macs: Annotated[int | None, typer.Option(help="At most so many multiply-accumulates an image.")] = None,
    sampler: Annotated[str, typer.Option(help="tpe, gp or random.")] = "tpe",
    pruner: Annotated[str, typer.Option(help="median, percentile, hyperband, halving or none.")] = "median",
    seed: Annotated[int, typer.Option(help="Seed of the sampler and of training.")] = 0,
    timeout: Annotated[str | None, typer.Option(help="Stop after this time: 90s, 30m, 2h; go on later.")] = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the result.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Search for the best network under a budget; the same command goes on where it stopped.

    Example: budgetnet search --budget 8000
    """
    console = _console()
    if not (quiet or as_json):
        console.print(f"budgetnet search: params < {budget:,}, {trials} trials of {epochs} epochs; starting …")
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
        timeout=None if timeout is None else _seconds(timeout),
        workers=workers,
        device=device,
    )
    study_made = None
    try:
        with opened(request) as running:
            study_made = running.study
            with watcher(console, running, quiet=quiet or as_json) as board, closing(running.run()) as events:
                for event in events:
                    board.update(event)
            _print_result(console, running, as_json)
    except KeyboardInterrupt:
        kept = f"{_kept(study_made)}; " if study_made is not None else ""
        _end(f"interrupted; {kept}go on with: {_again()}", 130)


def _print_result(console: Console, search: Search, as_json: bool) -> None:
    from budgetnet.display import tally_line, trials_table

    study = search.study
    best = study.leaderboard()[:10]
    if as_json:
        typer.echo(json.dumps([record.to_dict() for record in best]))
        return
    if best:
        console.print(trials_table(best, study.settings.budget, f"best trials of {study.where.name}"))
    lines = [f"this run: {tally_line(search.tally)}", f"study: {study.where.shown}"]
    if search.timed_out:
        lines.append(f"time is up with {search.trained} trained trials; go on with: {_again()}")
    if search.exhausted:
        lines.append("there seems to be nothing new to try: hundreds of proposals in a row were known or invalid")
    if best:
        lines.append(f"next: {_next_command(study, best[0].number)}")
    console.print("\n" + "\n".join(lines), markup=False, soft_wrap=True)


def _next_command(study: Study, trial: int) -> str:
    """The command that freezes a trial; it names the study unless that is the one taken by default."""
    from shlex import join

    from budgetnet.study import newest

    default = study.where.is_default and newest() == study.where.name
    place = [] if default else ["--study", study.where.name]
    place += [] if study.where.is_default else ["--storage", study.where.url]
    return join(["budgetnet", "freeze", *place, "--trial", str(trial)])


def _kept(study: Study) -> str:
    trained = sum(record.trained for record in study.records())
    return f"study {study.where.name} is kept with {trained} trained trial{'' if trained == 1 else 's'}"


def _again() -> str:
    """The command as it was typed."""
    from shlex import join

    return join(["budgetnet", *sys.argv[1:]])


def _seconds(text: str) -> float:
    """``90``, ``90s``, ``30m``, ``2h`` in seconds."""
    factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    number = text[:-1] if factor else text
    try:
        return float(number) * (factor or 1)
    except ValueError:
        raise BudgetnetError(f"--timeout must be a time such as 90s, 30m or 2h, but got {text!r}") from None


@app.command()
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
    _console().print(trials_table(records, opened.settings.budget, f"study {opened.where.name}"))


@app.command()
def show(
    trial: Annotated[int, typer.Option(help="Number of the trial.")],
    study: StudyOption = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one trial: network, cost, receptive field, recipe, learning curve.

    Example: budgetnet show --trial 42
    """
    from budgetnet.study import open_study

    opened = open_study(study, storage)
    record = opened.record(trial)
    if as_json:
        typer.echo(json.dumps(record.to_dict()))
        return
    _print_trial(_console(), record, opened.settings.budget)


def _print_trial(console: Console, record: TrialRecord, budget: int) -> None:
    from budgetnet.display import percent, short, spark
    from budgetnet.table import receptive_field

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    say(f"trial {record.number}: {record.state}{f' ({record.reason})' if record.reason else ''}")
    if record.architecture is None or record.recipe is None:
        return
    say(f"network: {record.architecture}")
    if record.cost is not None:
        cost = record.cost
        say(f"cost: {cost.params:,} / {budget:,} params · {cost.macs:,} MACs · {cost.peak_activations:,} activations")
    if record.curve:
        say(f"validation: {spark(record.curve)}  {' '.join(percent(accuracy) for accuracy in record.curve)} %")
    if record.state == "finished":
        say(f"value: {percent(record.value)} % (mean of the last three epochs), {record.seconds:.0f} s of training")
    say("recipe: " + ", ".join(f"{name} {short(value)}" for name, value in record.recipe.to_dict().items()))
    say("")
    say(str(receptive_field(record.architecture)))


@app.command()
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


@app.command()
def freeze(
    trial: Annotated[int, typer.Option(help="Number of the trial.")],
    study: StudyOption = None,
    storage: StorageOption = None,
    as_name: Annotated[str | None, typer.Option("--as", help="Name of the class; by default the next Model_N.")] = None,
    seeds: Annotated[int, typer.Option(help="Train with the seeds 0 … N-1.")] = 3,
    out: Annotated[Path, typer.Option(help="File that receives the class; weights lie beside it.")] = Path("model.py"),
    target: Annotated[float, typer.Option(help="Test accuracy in percent that the last epochs should hold.")] = 99.4,
    force: Annotated[bool, typer.Option("--force", help="Replace a class that exists.")] = False,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Retrain a trial on all training images over seeds, and write it into model.py with weights and evidence.

    Example: budgetnet freeze --trial 42
    """
    from budgetnet.executor import choose_device, local
    from budgetnet.study import open_study
    from budgetnet.winners import Order, freeze_trial

    opened = open_study(study, storage)
    order = Order(trial, seeds, as_name, out, target / 100, force)
    record = order.check(opened)
    if not as_json:
        typer.echo(f"freezing trial {trial} of {opened.where.name}: {record.architecture}")
        typer.echo(
            f"{seeds} seed{'' if seeds == 1 else 's'}, all training images; test is read once an epoch, to report"
        )
    executor = local(workers, choose_device(device))
    try:
        frozen, confirmation = freeze_trial(opened, order, executor, None if as_json else _print_seed_epoch)
    finally:
        executor.close()
    if as_json:
        typer.echo(json.dumps({"name": frozen.name, "file": str(frozen.model), **confirmation.to_dict()}))
        return
    typer.echo(f"\n{frozen.source.rstrip()}\n")
    typer.echo(
        f"wrote {frozen.name} to {out}; weights {frozen.weights.name} and evidence {frozen.evidence.name} beside it"
    )
    typer.echo(f"next: budgetnet rf {frozen.name}")


def _print_seed_epoch(seed: int, result: EpochResult) -> None:
    from budgetnet.display import percent

    typer.echo(f"seed {seed}  epoch {result.epoch:2}  test {percent(result.accuracy)} %  {result.seconds:.1f} s")


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Model_3 …; by default every class with evidence.")] = None,
    models: Annotated[Path | None, typer.Option(help="File of the classes; else ./model.py, then ours.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Recheck what frozen models claim: code, text, weights, params, test accuracy. Runs the file's code.

    Exit code 1 and what does not hold, if anything. Example: budgetnet verify Model_1
    """
    from dataclasses import asdict

    from budgetnet.models import model_file, names_with_evidence
    from budgetnet.verify import verify as check

    path = model_file(models)
    claims = {name: list(check(path, name)) for name in names or names_with_evidence(path)}
    if as_json:
        typer.echo(json.dumps({name: [asdict(claim) for claim in found] for name, found in claims.items()}))
    else:
        for name, found in claims.items():
            for claim in found:
                typer.echo(f"{name}: {'holds' if claim.holds else f'DOES NOT HOLD ({claim.found})'}: {claim.what}")
    if not all(claim.holds for found in claims.values() for claim in found):
        raise typer.Exit(1)


@app.command()
def rf(
    model: Annotated[str, typer.Argument(help="Model_3, path/to/file.py:Net, package.module:Net, or a notation.")],
    input_shape: Annotated[str | None, typer.Option("--input", help="Channels x height x width: 1x28x28.")] = None,
    models: Annotated[Path | None, typer.Option(help="File with Model_N classes; else ./model.py, then ours.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print a network's receptive field, layer by layer, with params and MACs. Runs the code of a file it is given.

    Example: budgetnet rf Model_3
    """
    from budgetnet.models import load
    from budgetnet.notation import is_notation, parse, parse_shape
    from budgetnet.table import receptive_field

    network = parse(model) if is_notation(model) else load(model, models=models)
    table = receptive_field(network, None if input_shape is None else parse_shape(input_shape), model)
    typer.echo(json.dumps(table.to_dict()) if as_json else str(table))


@app.command()
def train(
    network: Annotated[str, typer.Argument(help="A notation such as '8 12 M c12 c12 14 16', or an architecture.json.")],
    recipe: Annotated[
        str, typer.Option(help="learning_rate=0.05,ema=0.999 or a JSON or YAML file; the rest keeps its defaults.")
    ] = "",
    data: Annotated[str, typer.Option(help="As for search.")] = "mnist",
    final: Annotated[bool, typer.Option("--final", help="Train on all training images, report on test.")] = False,
    epochs: Annotated[int | None, typer.Option(help="Epochs; by default the recipe's 15.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order, augmentation and dropout.")] = 0,
    weights: Annotated[Path | None, typer.Option(help="File for the final weights (safetensors).")] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train one network, without a search; an epoch a line.

    Example: budgetnet train '8 12 M c12 c12 14 16' --recipe ema=0.999
    """
    from budgetnet.executor import choose_device
    from budgetnet.jobs import EpochDone, Job
    from budgetnet.plan import check_seed
    from budgetnet.single import read_architecture, read_recipe, train_one

    check_seed(seed)
    if weights is not None and not weights.resolve().parent.is_dir():
        raise BudgetnetError(f"--weights {weights}: there is no folder {weights.resolve().parent}")
    architecture = read_architecture(network)
    job = Job(
        0,
        architecture,
        read_recipe(recipe, epochs),
        data,
        "final" if final else "search",
        seed,
        None if weights is None else str(weights),
    )
    results = []
    for event in train_one(job, choose_device(device)):
        if isinstance(event, EpochDone):
            results.append(event.result)
            if not as_json:
                typer.echo(_epoch_line(event.result, job.recipe.epochs, "test" if final else "validation"))
    if as_json:
        typer.echo(json.dumps({"notation": str(architecture), "epochs": [result.to_dict() for result in results]}))


def _epoch_line(result: EpochResult, epochs: int, split: str) -> str:
    from budgetnet.display import percent

    return (
        f"epoch {result.epoch:2}/{epochs}  train loss {result.train_loss:.4f}  "
        f"train {percent(result.train_accuracy)} %  {split} {percent(result.accuracy)} %  {result.seconds:.1f} s"
    )


if __name__ == "__main__":
    main()
