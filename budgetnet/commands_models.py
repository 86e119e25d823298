"""Commands for one network: its receptive field, a training run, a file for another program, a picture's class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from budgetnet.completion import data_sets
from budgetnet.completion import models as model_names
from budgetnet.errors import BudgetnetError
from budgetnet.options import (
    DeviceOption,
    JsonOption,
    ModelsOption,
    RecipeOption,
    TensorboardOption,
    announce,
    aside,
    remark,
)

if TYPE_CHECKING:
    from budgetnet.results import EpochResult


def rf(
    model: Annotated[
        str,
        typer.Argument(
            help="Model_3, path/to/file.py:Net, package.module:Net, or a notation.", autocompletion=model_names
        ),
    ],
    input_shape: Annotated[str | None, typer.Option("--input", help="Channels x height x width: 1x28x28.")] = None,
    layer: Annotated[str | None, typer.Option(help="Of this layer alone, and what its cells see.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Follow gates and statistics of the map, too.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the field of the centre: .png, .svg or .pdf.")] = None,
    effective: Annotated[
        bool, typer.Option("--effective", help="Measure, too, how strongly the centre depends on each pixel.")
    ] = False,
    data: Annotated[str | None, typer.Option(help="Images for that: a data set; by default noise, or mnist.")] = None,
    models: ModelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a network's receptive field and cost, by layers.

    Runs the code of a file that it is given.

    Example: budgetnet rf Model_3
    """
    from budgetnet.inspection import Inspection, check_plot
    from budgetnet.models import locate
    from budgetnet.notation import is_notation, parse_shape

    if plot is not None:
        check_plot(plot)
    if not is_notation(model):
        announce(locate(model, models))
    shape = None if input_shape is None else parse_shape(input_shape)
    with aside():
        found = Inspection.of(model, shape, models, strict=strict)
        shown = found.table if layer is None else found.table.layer(layer)
        measured = found.measure(layer, data) if effective else None
        if plot is not None:
            found.draw(plot, layer, measured, data)
    if as_json:
        told = shown.to_dict() | ({"effective": measured.to_dict()} if measured else {})
        typer.echo(json.dumps(told))
        return
    typer.echo(str(shown))
    if measured:
        typer.echo(str(measured))


def export(
    model: Annotated[
        str, typer.Argument(help="Model_3: a frozen model, with weights and evidence.", autocompletion=model_names)
    ],
    onnx: Annotated[Path, typer.Option("--onnx", help="File to write.")],
    int8: Annotated[bool, typer.Option("--int8", help="Quantise to 8 bits, calibrated on training images.")] = False,
    models: ModelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a frozen model as ONNX, checked on the test set.

    The batch is dynamic; onnxruntime has to answer like torch on every test image, near-ties aside, or nothing is
    written. Needs the extra budgetnet[onnx].

    Example: budgetnet export Model_3 --onnx model_3.onnx
    """
    from dataclasses import asdict

    from budgetnet.export import export as write
    from budgetnet.modelfile import check_name
    from budgetnet.models import file_with

    path = file_with(check_name(model), models)
    announce(path)
    with aside():
        made = write(path, model, onnx, int8=int8)
    if as_json:
        typer.echo(json.dumps({**asdict(made), "file": str(made.file)}))
        return
    kind = f"int8, {made.size:,} bytes ({made.float_size:,} in float32)" if int8 else f"float32, {made.size:,} bytes"
    typer.echo(f"wrote {made.file}: {kind}")
    typer.echo(
        f"onnxruntime classifies {made.correct:,} of {made.total:,} test images correctly, "
        f"torch {made.torch_correct:,}; they differ on {made.differ:,}"
    )


def predict(
    model: Annotated[
        str, typer.Argument(help="Model_3: a frozen model, with weights and evidence.", autocompletion=model_names)
    ],
    images: Annotated[list[Path], typer.Argument(help="Pictures: png, jpeg and what else Pillow reads.")],
    models: ModelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Classify pictures with a frozen model.

    Says what it did to a picture that is not like the training images, such as inverting it.

    Example: budgetnet predict Model_3 image.png
    """
    from budgetnet.classify import classify
    from budgetnet.modelfile import check_name
    from budgetnet.models import file_with

    path = file_with(check_name(model), models)
    announce(path)
    with aside():
        guesses = classify(path, model, images)
    if as_json:
        typer.echo(json.dumps([guess.to_dict() for guess in guesses]))
        return
    for guess in guesses:
        then = ", ".join(f"{guess.called(label)} {100 * share:.1f} %" for label, share in guess.ranked[1:3])
        notes = f" [{'; '.join(guess.notes)}]" if guess.notes else ""
        label, share = guess.ranked[0]
        typer.echo(f"{guess.image}: {guess.called(label)} ({100 * share:.1f} %; then {then}){notes}")


def train(
    network: Annotated[str, typer.Argument(help="A notation such as '8 12 M c12 c12 14 16', or an architecture.json.")],
    recipe: RecipeOption = "",
    data: Annotated[str, typer.Option(help="As for search.", autocompletion=data_sets)] = "mnist",
    images: Annotated[
        int | None, typer.Option(help="Train on so many images, a stratified part; all by default.")
    ] = None,
    final: Annotated[bool, typer.Option("--final", help="Train on all training images, report on test.")] = False,
    epochs: Annotated[int | None, typer.Option(help="Epochs; by default the recipe's 15.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order, augmentation and dropout.")] = 0,
    weights: Annotated[Path | None, typer.Option(help="File for the final weights (safetensors).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file of weights that exists.")] = False,
    device: DeviceOption = "auto",
    tensorboard: TensorboardOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train one network, without a search; an epoch a line.

    Example: budgetnet train '8 12 M c12 c12 14 16' --recipe ema=0.999
    """
    from budgetnet.jobs import EpochDone, Job
    from budgetnet.machine import choose_device
    from budgetnet.plan import check_seed
    from budgetnet.single import for_data, train_one
    from budgetnet.tensorboard import Runs, Seeds, check_folder, run_name

    check_seed(seed)
    check_folder(tensorboard)
    if images is not None and images < 1:
        raise BudgetnetError(f"--images must be at least 1, but got {images}")
    if weights is not None and not weights.resolve().parent.is_dir():
        raise BudgetnetError(f"--weights {weights}: there is no folder {weights.resolve().parent}")
    if weights is not None and weights.is_dir():
        raise BudgetnetError(f"--weights {weights}: must name a file, but is a folder")
    if weights is not None and weights.exists() and not force:
        raise BudgetnetError(f"--weights {weights}: exists already; --force replaces it")
    architecture, told, notes = for_data(network, recipe, data, epochs=epochs, final=final)
    remark(notes)
    job = Job(
        0,
        architecture,
        told,
        data,
        "final" if final else "search",
        seed,
        None if weights is None else str(weights),
        images,
    )
    results, split = [], "test" if final else "validation"
    with Runs(tensorboard) as runs:
        curves = Seeds(runs, run_name(), architecture, job.recipe, split)
        for event in train_one(job, choose_device(device)):
            if isinstance(event, EpochDone):
                results.append(event.result)
                curves.epoch(seed, event.result)
                if not as_json:
                    typer.echo(_epoch_line(event.result, job.recipe.epochs, split))
    if as_json:
        typer.echo(json.dumps({"notation": str(architecture), "epochs": [result.to_dict() for result in results]}))


def _epoch_line(result: EpochResult, epochs: int, split: str) -> str:
    from budgetnet.display import percent

    return (
        f"epoch {result.epoch:2}/{epochs}  train loss {result.train_loss:.4f}  "
        f"train {percent(result.train_accuracy)} %  {split} {percent(result.accuracy)} %  {result.seconds:.1f} s"
    )
