"""Commands for winners: add one of your own, confirm over seeds, compare, freeze into code, verify."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from budgetnet.completion import data_sets
from budgetnet.completion import models as model_names
from budgetnet.errors import StudyError
from budgetnet.options import (
    DeviceOption,
    ExecutorOption,
    JobCpusOption,
    JobGpusOption,
    JsonOption,
    ModelsOption,
    RayAddressOption,
    RecipeOption,
    StorageOption,
    StudyOption,
    TensorboardOption,
    WorkersOption,
    again,
    announce,
    console,
    made_aside,
    remark,
    say,
    stop,
)

if TYPE_CHECKING:
    from budgetnet.aim import Aim
    from budgetnet.executor import Executor
    from budgetnet.results import Confirmation, EpochResult
    from budgetnet.winners import Contender, Winner
    from budgetnet.workplace import Workplace


MAX_DIGITS = 9  # of a trial's number

LastOption = Annotated[
    int | None, typer.Option(help="How many last epochs must hold the target; by default the study's, else 5.")
]
TargetOption = Annotated[
    float | None,
    typer.Option(help="Test accuracy in percent to be held; by default that of the study's file, else 99.4."),
]


def confirm(
    trial: Annotated[int, typer.Option(help="Number of the trial.")],
    study: StudyOption = None,
    storage: StorageOption = None,
    seeds: Annotated[int, typer.Option(help="Train with the seeds 0 … N-1; those that the study has are kept.")] = 10,
    target: TargetOption = None,
    last: LastOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    executor: ExecutorOption = "local",
    ray_address: RayAddressOption = None,
    job_cpus: JobCpusOption = 1.0,
    job_gpus: JobGpusOption = 0.0,
    bf16: Annotated[
        bool | None,
        typer.Option(
            "--bf16/--float32",
            help="Compute the steps in bfloat16, as search does, or in float32, whose seeds take the place of any in "
            "bfloat16. By default as the seeds that are kept; float32 where there are none.",
        ),
    ] = None,
    tensorboard: TensorboardOption = None,
    as_json: JsonOption = False,
) -> None:
    """Retrain a trial over seeds; say what may be concluded.

    The seeds are fixed in advance, all training images are used, and the test set is read once an epoch, to report.
    Interrupted, it goes on after a whole epoch, as long as machine, software and --workers stay the same; on a Ray
    cluster a seed begins anew.

    Example: budgetnet confirm --trial 42 --seeds 10
    """
    from budgetnet.results import BFLOAT16, FLOAT32
    from budgetnet.study import open_study
    from budgetnet.tensorboard import Runs, Seeds, check_folder
    from budgetnet.verdicts import confirmation_dict, confirmation_lines
    from budgetnet.winners import Winner, seeds_of

    check_folder(tensorboard)
    workplace = _workplace(executor, workers, device, ray_address, job_cpus, job_gpus)
    winner = Winner.of(open_study(study, storage), trial)
    wanted, aim = seeds_of(seeds), _aim(winner, target, last)
    if bf16 is not None:
        winner = winner.in_precision(BFLOAT16 if bf16 else FLOAT32)
    with Runs(tensorboard) as written:
        curves = Seeds.of(written, winner)
        runs = _confirmed(winner, wanted, workplace, quiet=as_json, also=curves.epoch)
        curves.rest(runs)
    if as_json:
        typer.echo(json.dumps(confirmation_dict(runs, aim.target, aim.last)))
        return
    say(["", *confirmation_lines(runs, aim.target, aim.last, console().width)])


def _aim(winner: Winner, target: float | None, last: int | None) -> Aim:
    from budgetnet.aim import read_aim

    return read_aim(winner.study.where.home, None if target is None else target / 100, last)


def _workplace(
    executor: str, workers: int | None, device: str, ray_address: str | None, job_cpus: float, job_gpus: float
) -> Workplace:
    """Raises WorkerError."""
    from budgetnet.workplace import Workplace

    return Workplace(executor, workers, device, ray_address=ray_address, job_cpus=job_cpus, job_gpus=job_gpus)


def _confirmed(
    winner: Winner,
    seeds: range,
    workplace: Workplace,
    *,
    quiet: bool,
    also: Callable[[int, EpochResult], None] = lambda seed, result: None,
) -> Confirmation:
    """The runs of all seeds; what is missing is trained, and kept even if a later one is interrupted. ``also`` is told
    every epoch."""
    from budgetnet.executor import InProcess
    from budgetnet.machine import check_bf16, choose_device
    from budgetnet.results import BFLOAT16
    from budgetnet.winners import confirm_winner
    from budgetnet.words import plural

    missing = winner.missing(seeds)
    if missing and winner.precision == BFLOAT16 and workplace.executor == "local":
        check_bf16(choose_device(workplace.device))
    if not quiet:
        typer.echo(f"trial {winner.trial} of {winner.study.where.name}: {winner.architecture}")
        kept = len(seeds) - len(missing)
        have = f" ({kept} kept from before)" if kept else ""
        named = "seed 0" if len(seeds) == 1 else f"seeds 0 … {seeds[-1]}"
        if before := winner.giving_way():
            say(
                [f"{plural(len(before), 'seed')} in {BFLOAT16} will not count once one in {winner.precision} has ended"]
            )
        if seeds[0] in missing and seeds[0] in winner.runs():
            typer.echo(f"seed {seeds[0]} once more, for its weights are not where they were kept")
        say([f"{named}{have} on all training images; test is read once an epoch, to report"])

    def heard(seed: int, result: EpochResult) -> None:
        _print_seed_epoch(seed, result)
        also(seed, result)

    executor: Executor = workplace.open() if missing else InProcess("cpu")  # which then has nothing to do
    try:
        return confirm_winner(winner, seeds, executor, also if quiet else heard, _remark_lost)
    except KeyboardInterrupt:
        left = winner.missing(seeds)
        begun = any(winner.study.unfinished_seed(winner.trial, seed).files() for seed in left)
        epochs = ", and whole epochs of others," if begun else ""
        seeds_kept = f"{len(seeds) - len(left)} of {len(seeds)} seeds"
        stop(f"interrupted; {seeds_kept}{epochs} are kept; go on with: {again()}", 130)
    finally:
        executor.close()


def _remark_lost(seeds: Sequence[int], reason: str) -> None:
    """Say why the epochs of seeds that were lost with their machine are told once more."""
    remark([f"seed {' '.join(map(str, seeds))} begins anew: {reason}"])


def _print_seed_epoch(seed: int, result: EpochResult) -> None:
    from budgetnet.display import percent

    typer.echo(f"seed {seed}  epoch {result.epoch:2}  test {percent(result.accuracy)} %  {result.seconds:.1f} s")


def add(
    network: Annotated[str, typer.Argument(help="A notation such as '8 12 M c12 c12 14 16', or an architecture.json.")],
    study: Annotated[str, typer.Option(help="Study that receives it; made if it is not there.")],
    recipe: RecipeOption = "",
    note: Annotated[str | None, typer.Option(help="What you have to say of it; reports show it.")] = None,
    storage: StorageOption = None,
    budget: Annotated[int, typer.Option(help="Budget of a study that is made.")] = 8000,
    data: Annotated[str, typer.Option(help="Data of a study that is made.", autocompletion=data_sets)] = "mnist",
    epochs: Annotated[int, typer.Option(help="Epochs of a study that is made.")] = 15,
    as_json: JsonOption = False,
) -> None:
    """Add a network of your own to a study, to be confirmed.

    Nothing is trained yet. confirm, compare, freeze and report then take it as a trial that the search has found.

    Example: budgetnet add '8 12 M c12 c12 14 16' --study mine
    """
    from shlex import join

    from budgetnet.given import add_network, existing, made
    from budgetnet.place import place
    from budgetnet.single import for_data

    where = place(study, storage)
    opened = existing(where)
    data = data if opened is None else opened.settings.data
    architecture, told, notes = for_data(network, recipe, data, epochs=epochs, final=True)
    remark(notes)
    opened = opened or made(where, architecture, budget, data, epochs)
    record = add_network(opened, architecture, told, note)
    if note and record.reason != note:
        remark([f"trial {record.number} is this network already; it keeps what was said of it, not this note"])
    if as_json:
        typer.echo(json.dumps(record.to_dict()))
        return
    assert record.cost is not None
    params = f"{record.cost.params:,} / {opened.settings.budget:,} params"
    say([f"trial {record.number} of {study}: {architecture} ({params})"])
    options = ["--study", study, *([] if storage is None else ["--storage", storage]), "--trial", str(record.number)]
    typer.echo(f"next: {join(['budgetnet', 'confirm', *options])}")


def compare(
    first: Annotated[
        str, typer.Argument(help="The one to measure against: a trial's number or Model_N.", autocompletion=model_names)
    ],
    second: Annotated[str, typer.Argument(help="The one that may be better.", autocompletion=model_names)],
    study: StudyOption = None,
    storage: StorageOption = None,
    models: ModelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether the second of two is better than the first.

    Paired over the seeds that both were trained from, and over the test images. Trials are to be confirmed before.

    Example: budgetnet compare 17 42
    """
    from budgetnet.verdicts import comparison_dict, comparison_lines
    from budgetnet.winners import compare_contenders

    sides = [_contender(text, study, storage, models) for text in (first, second)]
    found = compare_contenders(*sides)
    names, runs = (sides[0].name, sides[1].name), [side.confirmation for side in sides]
    if as_json:
        typer.echo(json.dumps(comparison_dict(found, names, runs)))
        return
    say(comparison_lines(found, names, runs))


def _contender(text: str, study: str | None, storage: str | None, models: Path | None) -> Contender:
    if text.isdecimal():
        from budgetnet.study import open_study
        from budgetnet.winners import trial_contender

        if len(text) > MAX_DIGITS:
            raise StudyError(f"trial {text[:MAX_DIGITS]}…: no such trial")
        return trial_contender(open_study(study, storage), int(text))
    from budgetnet.models import file_with
    from budgetnet.winners import model_contender

    return model_contender(file_with(text, models), text)


def freeze(
    trial: Annotated[int, typer.Option(help="Number of the trial.")],
    study: StudyOption = None,
    storage: StorageOption = None,
    as_name: Annotated[str | None, typer.Option("--as", help="Name of the class; by default the next Model_N.")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Use the seeds 0 … N-1; by default all that are confirmed, or three.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File that receives the class; weights lie beside it.")] = Path("model.py"),
    target: TargetOption = None,
    last: LastOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a class that exists.")] = False,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    executor: ExecutorOption = "local",
    ray_address: RayAddressOption = None,
    job_cpus: JobCpusOption = 1.0,
    job_gpus: JobGpusOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Write a trial as code, with its weights and evidence.

    Seeds that are not confirmed yet are trained before.

    Example: budgetnet freeze --trial 42
    """
    from shlex import quote

    from budgetnet.study import open_study
    from budgetnet.winners import Order, Winner, freeze_winner, seeds_to_freeze

    workplace = _workplace(executor, workers, device, ray_address, job_cpus, job_gpus)
    winner = Winner.of(open_study(study, storage), trial)
    wanted, aim, order = seeds_to_freeze(winner, seeds), _aim(winner, target, last), Order(out, as_name, force)
    order.check(winner.architecture)
    runs = _confirmed(winner, wanted, workplace, quiet=as_json)
    frozen = freeze_winner(winner, runs, aim, order)
    if as_json:
        typer.echo(json.dumps({"name": frozen.name, "file": str(frozen.model), **runs.to_dict()}))
        return
    typer.echo(f"\n{frozen.source.rstrip()}\n")
    typer.echo(
        f"wrote {frozen.name} to {out}; weights {frozen.weights.name} and evidence {frozen.evidence.name} beside it"
    )
    place = "" if out == Path("model.py") else f" --models {quote(str(out))}"
    typer.echo(f"next: budgetnet verify {frozen.name}{place}")


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Model_3 …; by default every class with evidence.", autocompletion=model_names),
    ] = None,
    models: ModelsOption = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Also train again from the first seed: minutes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Recheck all that frozen models claim, from the disk.

    Runs the file's code. Exit code 1 and what does not hold, if anything.

    Example: budgetnet verify Model_1
    """
    from dataclasses import asdict

    from budgetnet.modelfile import check_name
    from budgetnet.models import model_file, names_with_evidence
    from budgetnet.verify import verify as check

    path = model_file(models)
    wanted = [check_name(name) for name in names] if names else names_with_evidence(path)
    announce(path)
    claims: dict[str, list[dict[str, object]]] = {name: [] for name in wanted}
    for name in wanted:
        for claim in made_aside(check(path, name, retrain=retrain)):
            claims[name].append(asdict(claim))
            if not as_json:
                say([f"{name}: {'holds' if claim.holds else f'DOES NOT HOLD ({claim.found})'}: {claim.what}"])
    if as_json:
        typer.echo(json.dumps(claims))
    broken = sum(not claim["holds"] for found in claims.values() for claim in found)
    if broken:
        if not as_json:
            typer.echo(f"{broken} of {sum(map(len, claims.values()))} claims do not hold")
        raise typer.Exit(1)
