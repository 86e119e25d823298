"""A confirmed network becomes a class in ``model.py``, with its weights and evidence beside it.

Freezing the same numbers again gives the same bytes; an error leaves every file as it was.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from budgetnet.analysis import block
from budgetnet.architecture import Architecture
from budgetnet.build import build
from budgetnet.catalogue import same_data
from budgetnet.errors import ModelError
from budgetnet.evidence import Evidence, Provenance, read_evidence
from budgetnet.facts import Case
from budgetnet.files import beside, exclusive, replace_together
from budgetnet.modelfile import ModelFile, free_name
from budgetnet.recipe import Recipe
from budgetnet.results import Confirmation
from budgetnet.source import RESIDUAL, class_source, needs_residual
from budgetnet.weights import load_weights, read_weights


@dataclass(frozen=True)
class Frozen:
    """What was written, and where."""

    name: str
    model: Path
    weights: Path
    evidence: Path
    source: str


def freeze(
    architecture: Architecture,
    recipe: Recipe,
    confirmation: Confirmation,
    provenance: Provenance,
    weights: Path,
    *,
    out: Path = Path("model.py"),
    name: str | None = None,
    force: bool = False,
) -> Frozen:
    """Write the class into ``out``, and ``<name>.safetensors`` and ``<name>.json`` beside it.

    weights: the state dict that ``confirm`` kept. name: by default the next free ``Model_N``; one that exists is
    replaced only with ``force``, and then nothing else of the file changes. Raises ModelError and writes nothing when
    a name is taken, the weights are not those of the architecture, or a file cannot be written.
    """
    out = out.resolve()
    try:
        state = weights.read_bytes()
    except OSError as error:
        raise ModelError(f"{weights}: cannot be read: {error.strerror}") from error
    with exclusive(out):
        name = free_name(out, name, force=force)
        evidence = Evidence(name, architecture, recipe, confirmation, provenance, hashlib.sha256(state).hexdigest())
        file = ModelFile.read(out)
        source = frozen_source(evidence, file)
        _check(source, evidence, weights)
        frozen = Frozen(name, out, weights_path(out, name), evidence_path(out, name), source)
        content = file.with_class(name, source, residual=needs_residual(architecture))
        replace_together({frozen.weights: state, frozen.evidence: evidence.to_json().encode(), out: content})
    return frozen


def frozen_source(evidence: Evidence, file: ModelFile) -> str:
    """The class as it is to stand in ``file``: its code and the block that its evidence gives."""
    return class_source(evidence.architecture, evidence.name, block(case_of(evidence, file)))


def case_of(evidence: Evidence, file: ModelFile) -> Case:
    """The evidence, with that of the last model before it in the file that is of the same data."""
    classes = file.classes
    before = classes[: classes.index(evidence.name)] if evidence.name in classes else classes
    models = [name for name in before if re.fullmatch(r"Model_\d+", name) or evidence_path(file.path, name).exists()]
    for name in reversed(models):
        try:
            previous = read_evidence(evidence_path(file.path, name))
        except ModelError:  # somebody else's file is no reason to lose this freeze; the analysis says so
            return Case(evidence, name, None)
        if same_data(previous.provenance.data, evidence.provenance.data):
            return Case(evidence, name, previous)
    return Case(evidence)


def weights_path(out: Path, name: str) -> Path:
    """Where the weights of a model in ``out`` lie."""
    return beside(out, f"{name}.safetensors")


def evidence_path(out: Path, name: str) -> Path:
    """Where the evidence of a model in ``out`` lies."""
    return beside(out, f"{name}.json")


# --- the proof that the code is the network ---------------------------------------------------------------------------


def _check(source: str, evidence: Evidence, weights: Path) -> None:
    """Raise ModelError unless the class takes these weights and answers bit for bit like the built network."""
    tensors = read_weights(weights, evidence.weights_sha256)
    built, written = build(evidence.architecture), _instance(source, evidence.name)
    for network in (built, written):
        load_weights(network.eval(), tensors, evidence.name, weights)
    images = torch.rand(2, *evidence.architecture.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        if not torch.equal(built(images), written(images)):
            raise ModelError(f"{evidence.name}: the written class answers unlike the trained network")


def _instance(source: str, name: str) -> nn.Module:
    """An object of the class that ``source``, which we have just written ourselves, defines."""
    namespace: dict[str, type[nn.Module]] = {}
    scope = {"Tensor": Tensor, "nn": nn, "__name__": "model"}
    exec(compile(RESIDUAL + source, f"<{name}>", "exec"), scope, namespace)
    scope.update(namespace)
    return namespace[name]()
