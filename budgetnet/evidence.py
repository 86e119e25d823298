"""What a frozen model rests on, as one JSON record beside its weights: every epoch of every seed, and where it is from.

The text block, ``verify`` and a comparison with the next model all read this record and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from budgetnet import checked
from budgetnet.architecture import Architecture
from budgetnet.checked import items, record, text
from budgetnet.cost import Cost, cost
from budgetnet.errors import ArchitectureError, ModelError, RecipeError
from budgetnet.recipe import Recipe
from budgetnet.results import LAST, Confirmation
from budgetnet.sentences import Sentence, sentences_of

FORMAT = 2
READERS = {**checked.READERS, "tuple[Sentence, ...]": lambda place, data: sentences_of(items(place, data), place)}
_PAIR = re.compile(r"\[\n\s+(-?[\d.e+-]+),\n\s+(-?[\d.e+-]+)\n\s+\]")  # two numbers need no line each
_YOUNGER: dict[str, Any] = {"class_names": [], "test_images": ""}  # fields that old records do not have
FIELDS = {
    *("format", "name", "notation", "weights_sha256"),
    *("provenance", "architecture", "recipe", "confirmation"),
}


@dataclass(frozen=True)
class Provenance:
    """Where a network is from, and what it was to reach.

    budget: params stay strictly below it. validation_accuracy: the trial's value in the search; None for a network that
    was given. mean, std: what each channel of an image, scaled to 0..1, is less and over before the network sees it.
    target: the fraction of test images that every one of the ``last`` epochs should reach. aim: why this aim at this
    step; analysis: what a person has to add to ours; both in sentences of the study's file. class_names: in the order
    of the labels, where they have any. test_images: SHA-256 of somebody's own test images, by which they are told from
    others of the same place; empty for a known data set.
    """

    study: str
    trial: int
    budget: int
    search_seed: int
    data: str
    validation_accuracy: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    target: float = 0.994
    last: int = LAST
    aim: tuple[Sentence, ...] = ()
    analysis: tuple[Sentence, ...] = ()
    class_names: tuple[str, ...] = ()
    test_images: str = ""

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(spread > 0 for spread in self.std):
            raise ModelError(f"mean and std must be as many, and std above 0, but are {self.mean} and {self.std}")
        for name in ("target", "validation_accuracy"):
            fraction = getattr(self, name)
            if fraction is not None and not 0 <= fraction <= 1:
                raise ModelError(f"{name} must be a fraction between 0 and 1, but is {str(fraction)[:30]}")
        if not 1 <= self.budget < 2**63:
            raise ModelError(f"the budget must be at least 1, but is {self.budget}")
        if self.last < 1:
            raise ModelError(f"the target must name at least 1 last epoch, but got last={self.last}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; fields that are younger than frozen models stand there only where they say something."""
        return {name: value for name, value in asdict(self).items() if value or name not in _YOUNGER}

    @classmethod
    def from_dict(cls, data: Any) -> Provenance:
        """Inverse of ``to_dict``. Raises ModelError that names the field."""
        if isinstance(data, Mapping):
            data = {**_YOUNGER, **data}
        return record(cls, "evidence.provenance", data, READERS)


@dataclass(frozen=True)
class Evidence:
    """All that was recorded of one frozen model."""

    name: str
    architecture: Architecture
    recipe: Recipe
    confirmation: Confirmation
    provenance: Provenance
    weights_sha256: str

    def __post_init__(self) -> None:
        channels, given = self.architecture.input_shape[0], len(self.provenance.mean)
        if given != channels:
            raise ModelError(f"mean and std must be of {channels} channels, but are of {given}")
        names, classes = len(self.provenance.class_names), self.architecture.head.classes
        if names not in (0, classes):
            raise ModelError(f"class_names must be {classes}, one a class, but are {names}")

    @cached_property
    def cost(self) -> Cost:
        return cost(self.architecture)

    @property
    def last(self) -> int:
        """Epochs that must reach the target: as many as asked for, or all of a shorter run."""
        return min(self.provenance.last, self.confirmation.epochs)

    @property
    def digest(self) -> str:
        """SHA-256 of the record; it stands in the text block, so neither changes without the other."""
        return sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Readable, and the same text for the same record."""
        data = {
            "format": FORMAT,
            "name": self.name,
            "notation": str(self.architecture),
            "weights_sha256": self.weights_sha256,
            "provenance": self.provenance.to_dict(),
            "architecture": self.architecture.to_dict(),
            "recipe": self.recipe.to_dict(),
            "confirmation": self.confirmation.to_dict(),
        }
        return _PAIR.sub(r"[\1, \2]", json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"

    @staticmethod
    def from_json(content: str) -> Evidence:
        """Inverse of ``to_json``. Raises ModelError that names the field."""
        data = _parsed(content)
        if data.get("format") != FORMAT:
            raise ModelError(f"evidence.format must be {FORMAT}, but is {data.get('format')!r}")
        if set(data) != FIELDS:
            raise ModelError(f"evidence must have the fields {', '.join(sorted(FIELDS))}")
        try:
            evidence = Evidence(
                text("evidence.name", data["name"]),
                Architecture.from_dict(_mapping(data, "architecture")),
                Recipe.from_dict(_mapping(data, "recipe")),
                Confirmation.from_dict(_mapping(data, "confirmation")),
                Provenance.from_dict(data["provenance"]),
                text("evidence.weights_sha256", data["weights_sha256"]),
            )
        except (ArchitectureError, RecipeError) as error:
            raise ModelError(f"evidence: {error}") from error
        if data["notation"] != str(evidence.architecture):
            raise ModelError(f"evidence.notation must be {evidence.architecture}, but is {data['notation']!r}")
        return evidence


def read_evidence(path: Path) -> Evidence:
    """The record in a file, which is called like its model. Raises ModelError that names the file."""
    try:
        evidence = Evidence.from_json(path.read_text(encoding="utf-8"))
        if evidence.name != path.stem:
            raise ModelError(f"evidence.name must be {path.stem}, but is {evidence.name!r}")
        return evidence
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except (ModelError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: {error}") from error


def frozen_digest(path: Path) -> str | None:
    """The SHA-256 of the weights in a record; None where there is none, or the file is no record of ours at all.

    Raises ModelError when it is ours and cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return read_evidence(path).weights_sha256
    ours = isinstance(data, dict) and "weights_sha256" in data
    return read_evidence(path).weights_sha256 if ours else None


def _parsed(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # also for an integer of thousands of digits
        raise ModelError(f"evidence is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ModelError("evidence must be a mapping")
    return data


def _mapping(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name)
    if not isinstance(value, dict):
        raise ModelError(f"evidence.{name} must be a mapping, but is {value!r}")
    return value
