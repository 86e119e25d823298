"""A frozen model as ONNX: written once onnxruntime answers like torch in float32; in int8, with what that costs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from budgetnet.augment import normalise
from budgetnet.data import load as load_data
from budgetnet.dataset import Split, stratified_indices
from budgetnet.errors import ModelError
from budgetnet.evidence import Evidence, read_evidence
from budgetnet.files import replace_together
from budgetnet.freeze import evidence_path
from budgetnet.models import load, running
from budgetnet.train import ties

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

INPUT, OUTPUT = "images", "logits"
CALIBRATION = 1000  # training images that set the ranges of int8
BATCH = 250

Pixels = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Exported:
    """What was written: how many test images it and torch classify correctly, where they differ, and its size."""

    file: Path
    int8: bool
    size: int  # bytes
    correct: int
    torch_correct: int
    differ: int  # test images on which the two disagree
    total: int
    float_size: int  # bytes of the float32 file, for comparison


def export(models: Path, name: str, out: Path, *, int8: bool = False) -> Exported:
    """Write the model ``name`` of a file as ONNX: images (batch, C, H, W) normalised as its evidence says → logits.

    int8: quantised after training, with ranges from some training images. Raises ModelError when the packages are
    missing, or float32 answers otherwise than torch; then nothing is written.
    """
    _require()
    if not out.resolve().parent.is_dir():
        raise ModelError(f"--onnx {out}: there is no folder {out.resolve().parent}")
    if out.is_dir():
        raise ModelError(f"--onnx {out}: must be a file, but is a folder")
    evidence = read_evidence(evidence_path(models, name))
    model = load(name, pretrained=True, models=models).eval()
    training, test = load_data(evidence.provenance.data, image_shape=evidence.architecture.input_shape).final_splits()
    with TemporaryDirectory() as folder, _quiet():
        plain = Path(folder) / "float.onnx"
        with running(models, name):
            expected, made = _torch_answers(model, test, evidence), _exported(model, evidence)
        _save(made, plain)
        answers = _answers(plain, test, evidence)
        _check_same(answers, expected, name)
        written = plain
        if int8:
            written = Path(folder) / "int8.onnx"
            _quantise(plain, written, training.take(stratified_indices(training.labels, CALIBRATION)), evidence)
            answers = _answers(written, test, evidence)
        replace_together({out.resolve(): written.read_bytes()})
        chosen = answers.argmax(1)
        return Exported(
            file=out,
            int8=int8,
            size=written.stat().st_size,
            correct=int((chosen == test.labels).sum()),
            torch_correct=int((expected.argmax(1) == test.labels).sum()),
            differ=int((chosen != expected.argmax(1)).sum()),
            total=len(test),
            float_size=plain.stat().st_size,
        )


def _require() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise ModelError(
                f"export needs {package}; install it with: pip install 'budgetnet[onnx]' (in a clone: '.[onnx]')"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter and the quantiser talk of their own inner life."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.setLevel(level)


# --- writing ----------------------------------------------------------------------------------------------------------


def _exported(model: torch.nn.Module, evidence: Evidence) -> ModelProto:
    example = torch.zeros(2, *evidence.architecture.input_shape)
    program = torch.onnx.export(
        model,
        (example,),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    made: ModelProto = program.model_proto
    origin = evidence.provenance
    told = {
        "name": evidence.name,
        "params": str(evidence.cost.params),
        "input": "pixels from 0 to 1, less mean, over std, per channel",
        "mean": " ".join(map(str, origin.mean)),
        "std": " ".join(map(str, origin.std)),
        "weights_sha256": evidence.weights_sha256,
    }
    for key, value in told.items():
        made.metadata_props.add(key=key, value=value)
    return made


def _save(model: ModelProto, path: Path) -> None:
    """Without the exporter's notes on every node, which are as large as the weights."""
    import onnx

    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("metadata_props")
    graph.ClearField("value_info")
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def _quantise(plain: Path, path: Path, images: Split, evidence: Evidence) -> None:
    """8-bit weights (per channel) and activations, the ranges of these from ``images``.

    Weights keep to 7 of their 8 bits: the sum of two products of 8 by 8 bits is more than 16 bits hold, and processors
    without VNNI cut it off (onnxruntime, "When and why do I need to try U8U8?").
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    batches = iter([{INPUT: batch} for batch in _batches(images, evidence)])

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Pixels] | None:
            return next(batches, None)

    quantize_static(
        plain,
        path,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        reduce_range=True,
    )
    model = onnx.load(path)
    _shorten(model.graph)
    _save(model, path)


def _shorten(graph: GraphProto) -> None:
    """Short names inside the graph: those of the quantiser are longer than the weights that they name."""
    names = {name: name for name in (INPUT, OUTPUT, "")}

    def short(name: str) -> str:
        return names.setdefault(name, str(len(names)))

    for node in graph.node:
        node.ClearField("name")
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = short(tensor.name)


# --- checking ---------------------------------------------------------------------------------------------------------


def _batches(images: Split, evidence: Evidence) -> Iterator[Pixels]:
    origin = evidence.provenance
    for batch in torch.split(images.images, BATCH):
        yield normalise(batch, origin.mean, origin.std).contiguous().numpy()


@torch.inference_mode()
def _torch_answers(model: torch.nn.Module, test: Split, evidence: Evidence) -> Tensor:
    """Logits of torch itself, without our kernels."""
    return torch.cat([model(torch.from_numpy(batch)) for batch in _batches(test, evidence)])


def _answers(path: Path, test: Split, evidence: Evidence) -> Tensor:
    """Logits of onnxruntime for every test image."""
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = [session.run([OUTPUT], {INPUT: batch})[0] for batch in _batches(test, evidence)]
    return torch.from_numpy(np.concatenate(outputs))


def _check_same(answers: Tensor, expected: Tensor, name: str) -> None:
    """Raise ModelError unless both choose the same class for every image, or the other one of a tie."""
    chosen, wanted, tied = answers.argmax(1).tolist(), expected.argmax(1).tolist(), ties(expected)
    wrong = sum(
        one != other and frozenset({one, other}) != tied.get(index)
        for index, (one, other) in enumerate(zip(chosen, wanted, strict=True))
    )
    if wrong:
        raise ModelError(
            f"{name}: onnxruntime chooses another class than torch for {wrong:,} of {len(expected):,} images"
        )
