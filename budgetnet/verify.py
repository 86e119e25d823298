"""Rechecks what a frozen model claims from what is on disk: its text and code, params, weights, and test accuracy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from budgetnet.data import load as load_data
from budgetnet.errors import ModelError
from budgetnet.evidence import Evidence, read_evidence
from budgetnet.freeze import evidence_path, frozen_source, weights_path
from budgetnet.modelfile import ModelFile
from budgetnet.models import load
from budgetnet.train import evaluate


@dataclass(frozen=True)
class Claim:
    """One thing that a frozen model says of itself, and whether it is so; ``found`` is what there is instead."""

    what: str
    holds: bool
    found: str


def verify(path: Path, name: str) -> Iterator[Claim]:
    """Check one model of a file, the cheap claims first. Runs the file's code.

    The accuracy is that of the first seed's last epoch, evaluated on one thread as it was recorded; another processor
    may turn a near-tie. Raises ModelError when the model, its evidence or its weights cannot be read at all.
    """
    evidence = read_evidence(evidence_path(path, name))
    file = ModelFile.read(path)
    if name not in file.classes:
        raise ModelError(f"{path}: there is no class {name}")
    same_text = file.source_of(name).strip() == frozen_source(evidence, file).strip()
    yield Claim("code and text are what the evidence gives", same_text, "another code or text")
    digest = _sha256(weights_path(path, name))
    yield Claim("the weights are those that were frozen", digest == evidence.weights_sha256, f"SHA-256 {digest}")
    yield from _run(path, name, evidence)


def _run(path: Path, name: str, evidence: Evidence) -> Iterator[Claim]:
    """What only running the model can tell."""
    model = load(name, pretrained=True, models=path)
    params = sum(parameter.numel() for parameter in model.parameters())
    yield Claim(f"it has {evidence.cost.params:,} params", params == evidence.cost.params, f"{params:,} params")
    final = evidence.confirmation.runs[0].final
    correct = recount(model, evidence)
    what = f"it classifies {final.correct:,} of {final.total:,} test images correctly"
    yield Claim(what, correct == final.correct, f"{correct:,} correct")


def recount(model: nn.Module, evidence: Evidence) -> int:
    """Test images that the model classifies correctly, on one thread, as the evidence was recorded."""
    data = load_data(evidence.provenance.data, image_shape=evidence.architecture.input_shape)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        correct, _ = evaluate(model, data.final_splits()[1], data.mean, data.std)
    finally:
        torch.set_num_threads(threads)
    return correct


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
