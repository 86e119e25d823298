"""Pictures classified by a frozen model: a first try by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from budgetnet.augment import normalise
from budgetnet.catalogue import known_name
from budgetnet.evidence import read_evidence
from budgetnet.freeze import evidence_path
from budgetnet.models import load, running
from budgetnet.picture import read_picture

DIGITS = "mnist"  # the data set whose pictures are cropped and centred


@dataclass(frozen=True)
class Guess:
    """Classes with the share that the softmax gives them, the likeliest first; what was done to the picture before.

    ``class_names``: of all classes, by their number, where the training data had names.
    """

    image: str
    ranked: tuple[tuple[int, float], ...]
    notes: tuple[str, ...]
    class_names: tuple[str, ...] = ()

    def called(self, label: int) -> str:
        """A class by its name, or its number."""
        return self.class_names[label] if self.class_names else str(label)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; ``best`` is the likeliest class by its name, where there are names."""
        told = asdict(self)
        names = told.pop("class_names")
        return told | ({"best": self.called(self.ranked[0][0]), "class_names": names} if names else {})


def classify(models: Path, name: str, images: Sequence[Path]) -> list[Guess]:
    """What the model ``name`` of a file takes each picture for; where it was trained on somebody's own pictures, in
    class folders, these are read as those were. Raises ModelError, and DataError for what is no picture."""
    evidence = read_evidence(evidence_path(models, name))
    origin, shape = evidence.provenance, evidence.architecture.input_shape
    digit, own = origin.data.lower() == DIGITS, known_name(origin.data) is None and bool(origin.class_names)
    pictures = [read_picture(path, shape, origin.mean, digit=digit, invert=not own) for path in images]
    model = load(name, pretrained=True, models=models).eval()
    guesses = []
    for path, picture in zip(images, pictures, strict=True):
        with running(models, name), torch.inference_mode():
            shares = model(normalise(picture.pixels[None], origin.mean, origin.std))[0].softmax(0)
        order = shares.argsort(descending=True).tolist()
        ranked = tuple((label, float(shares[label])) for label in order)
        guesses.append(Guess(str(path), ranked, picture.notes, origin.class_names))
    return guesses
