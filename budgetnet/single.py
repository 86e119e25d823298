"""One network trained without a search: reading what a person typed, and running it in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from budgetnet.architecture import Architecture
from budgetnet.catalogue import known_name
from budgetnet.data import load
from budgetnet.errors import ArchitectureError, RecipeError, WorkerError
from budgetnet.executor import InProcess
from budgetnet.files import parse_yaml
from budgetnet.jobs import Event, Failed, Job
from budgetnet.notation import parse, written
from budgetnet.recipe import Recipe
from budgetnet.tailor import check_enough, dressed, with_fitting_batch
from budgetnet.teacher import check_teacher, pinned


def read_architecture(text: str) -> Architecture:
    """A notation, or a ``.json`` file as ``Architecture.to_dict`` writes it. Raises ArchitectureError."""
    if not text.endswith(".json"):
        return parse(text)
    try:
        data = json.loads(Path(text).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ArchitectureError(f"{text}: cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise ArchitectureError(f"{text}: is not JSON: {error}") from None
    try:
        return Architecture.from_dict(data)
    except ArchitectureError as error:
        raise ArchitectureError(f"{text}: {error}") from None


def for_data(
    text: str, recipe: str, spec: str, *, epochs: int | None, final: bool
) -> tuple[Architecture, Recipe, tuple[str, ...]]:
    """Network and recipe for a data set: input, classes and batch size follow it where they are not written.

    Also what a person should know of the data. Raises ArchitectureError, RecipeError, DataError, ModelError.
    """
    architecture, told = read_architecture(text), read_recipe(recipe, epochs)
    is_file = text.endswith(".json")
    own = {"input": True, "classes": True} if is_file else written(text)
    data = load(spec, image_shape=architecture.input_shape if own["input"] else None)
    check_enough(data)
    notes = data.notes
    if known_name(spec) != "mnist" and not _begins_with_file(recipe) and "batch_size" not in recipe:
        told, more = with_fitting_batch(told, data, final=final)
        notes += more
    architecture = dressed(architecture, own, data)
    if told.teacher:
        check_teacher(told.teacher, architecture.input_shape, architecture.head.classes, None if final else spec)
    return architecture, told, notes


def read_recipe(text: str, epochs: int | None = None) -> Recipe:
    """``learning_rate=0.05,ema=0.999``, or a JSON or YAML file of fields, others behind it. Raises RecipeError."""
    values: dict[str, Any] = {}
    for index, item in enumerate(filter(None, text.split(","))):
        name, equals, value = item.partition("=")
        if index == 0 and _begins_with_file(text):
            values = _recipe_file(Path(item))
        elif not equals:
            raise RecipeError(f"--recipe must read name=value,name=value or name a file first, but got {item!r}")
        else:
            try:
                values[name.strip()] = parse_yaml(value)
            except ValueError:
                raise RecipeError(f"--recipe {name.strip()}: must be a number or a word, but got {value!r}") from None
    recipe = pinned(Recipe.from_dict(values))
    return recipe if epochs is None else replace(recipe, epochs=epochs)


def _begins_with_file(text: str) -> bool:
    return text.split(",")[0].endswith((".json", ".yaml", ".yml"))


def _recipe_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else parse_yaml(text)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise RecipeError(f"{path}: is not JSON: {error}") from None
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of fields, but this is {type(values).__name__}")
    return values


def train_one(job: Job, device: str) -> Iterator[Event]:
    """Train in this process and yield its events. Raises WorkerError when it fails."""
    executor = InProcess(device)
    executor.submit(job)
    while events := list(executor.events()):
        for event in events:
            if isinstance(event, Failed):
                raise WorkerError(event.reason)
            yield event
