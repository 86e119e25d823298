"""What a training run is told: a Recipe. Plain data; no torch here."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from budgetnet.errors import RecipeError

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("onecycle", "cosine", "step", "constant")

TEACHING = ("teacher", "distill", "temperature")

# field -> smallest, largest value (inclusive)
RANGES: dict[str, tuple[float, float]] = {
    "learning_rate": (1e-7, 100.0),
    "batch_size": (1, 65536),
    "epochs": (1, 10_000),
    "weight_decay": (0.0, 1.0),
    "momentum": (0.0, 0.9999),
    "warmup": (0.0, 0.9),
    "step_size": (1, 10_000),
    "gamma": (0.0, 1.0),
    "rotation": (0.0, 180.0),
    "scale": (0.0, 0.9),
    "shift": (0.0, 1.0),
    "shear": (0.0, 1.0),
    "fill": (0.0, 1.0),
    "label_smoothing": (0.0, 0.9),
    "distill": (0.0, 1.0),
    "temperature": (0.1, 100.0),
    "ema": (0.0, 0.99999),
}
CHOICES = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}


@dataclass(frozen=True)
class Affine:
    """The range of the random affine map that each image gets; all zero (and no flip) is the identity.

    ``rotation`` is in degrees (±), ``scale`` a fraction (0.1: a factor of 0.9 to 1.1), ``shift`` a fraction of the side
    (±, each axis its own), ``shear`` the tangent of the angle (±; 0.1 moves a row by a tenth of its height above the
    centre), ``flip`` mirrors one image in two. Pixels from outside are ``fill`` (0..1).
    """

    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    shear: float = 0.0
    fill: float = 0.0
    flip: bool = False

    def is_identity(self) -> bool:
        return not (self.rotation or self.scale or self.shift or self.shear or self.flip)


@dataclass(frozen=True)
class Recipe:
    """Training hyperparameters. Flat and JSON-able; by default SGD with Nesterov momentum, OneCycle, mild affine.

    Schedules, over all steps of the run: ``onecycle`` rises from a 25th of the learning rate during the first
    ``warmup`` share of the steps and anneals by a cosine to a 250,000th (torch's OneCycleLR; momentum is left alone);
    ``cosine`` rises linearly, then anneals to zero; ``step`` multiplies by ``gamma`` every ``step_size`` epochs;
    ``constant`` stays. Weight decay acts on convolution and linear weights, never on biases or normalisation.
    ``rotation`` to ``flip`` are the fields of Affine. ``ema`` is the decay of the averaged weights that are
    evaluated and kept; 0 means none. ``teacher``: a file of weights, as ``budgetnet train --weights`` writes it, whose
    answers, softened by ``temperature``, make up the share ``distill`` of the loss.
    """

    learning_rate: float = 0.05
    batch_size: int = 64
    epochs: int = 15
    optimizer: str = "sgd"
    momentum: float = 0.9  # of SGD; beta1 of Adam
    nesterov: bool = True
    weight_decay: float = 1e-4
    schedule: str = "onecycle"
    warmup: float = 0.2
    step_size: int = 6
    gamma: float = 0.1
    rotation: float = 10.0
    scale: float = 0.1
    shift: float = 0.1
    shear: float = 0.1
    fill: float = 0.0
    flip: bool = False
    label_smoothing: float = 0.0
    ema: float = 0.0
    teacher: str = ""
    distill: float = 0.0
    temperature: float = 2.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            _check_field(name, value)
        if self.distill and not self.teacher:
            raise RecipeError(f"recipe.teacher: must name a file of weights where distill is {self.distill:g}")

    def taught_by(self, teacher: str) -> Recipe:
        """The same recipe with another name for its teacher."""
        return replace(self, teacher=teacher)

    @property
    def affine(self) -> Affine:
        return Affine(self.rotation, self.scale, self.shift, self.shear, self.fill, self.flip)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; fields that are younger than frozen models stand there only where they are used."""
        values = asdict(self)
        used = self.teacher or any(values[name] != getattr(Recipe, name) for name in TEACHING)
        return values if used else {name: value for name, value in values.items() if name not in TEACHING}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """The recipe that ``to_dict`` wrote; fields left out keep their defaults. Raises RecipeError."""
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise RecipeError(f"recipe.{name}: must be one of {', '.join(known)}")
        return cls(**values)


def _check_field(name: str, value: object) -> None:
    """Raise RecipeError unless ``value`` has the type of the field's default and is in range."""
    default = Recipe.__dataclass_fields__[name].default
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise RecipeError(f"recipe.{name}: must be true or false, but is {value!r}")
    elif name == "teacher":
        if not isinstance(value, str):
            raise RecipeError(f"recipe.teacher: must be a file, but is {value!r}")
    elif isinstance(default, str):
        if value not in CHOICES[name]:
            raise RecipeError(f"recipe.{name}: must be one of {', '.join(CHOICES[name])}, but is {value!r}")
    else:
        _check_number(name, value, whole=isinstance(default, int))


def _check_number(name: str, value: object, *, whole: bool) -> None:
    low, high = RANGES[name]
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise RecipeError(f"recipe.{name}: must be a {'whole ' if whole else ''}number, but is {value!r}")
    if not low <= value <= high:  # NaN fails too
        raise RecipeError(f"recipe.{name}: must be between {low:g} and {high:g}, but is {str(value)[:20]}")


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0 over the whole run; the schedules are told in Recipe."""
    peak, total = recipe.learning_rate, recipe.epochs * steps_per_epoch
    if recipe.schedule == "constant":
        return peak
    if recipe.schedule == "step":
        return peak * recipe.gamma ** (step // (recipe.step_size * steps_per_epoch))
    start, end = (peak / 25, peak / 250_000) if recipe.schedule == "onecycle" else (0.0, 0.0)
    top = recipe.warmup * total - 1  # the step of the peak; torch's OneCycleLR lets it fall between two steps
    if step <= top:
        rise = step / top if top > 0 else 1.0
        return start + (peak - start) * (rise if recipe.schedule == "cosine" else (1 - math.cos(math.pi * rise)) / 2)
    top = max(top, 0.0)
    fall = (step - top) / (total - 1 - top) if step > top else 0.0
    return end + (peak - end) * (1 + math.cos(math.pi * fall)) / 2
